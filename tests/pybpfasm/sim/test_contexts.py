"""Contexts: offsets and widths as uapi linux/bpf.h has them, access as the verifier allows it, values as they mean."""

import shutil
import subprocess

import pytest
from shapes import program

from pybpfasm import isa, sim
from pybpfasm.isa import Instruction
from pybpfasm.sim.contexts.fields import Table
from pybpfasm.uapi import AttachType, ProgramType

ORDERS = ("little", "big")
END = isa.exit_program()

STRUCTS = (
    sim.SkBuff, sim.Xdp, sim.Sock, sim.TcpSock, sim.SockAddr, sim.SockOps, sim.SkMsg, sim.Sockopt, sim.SkLookup,
    sim.SkReuseport, sim.Sysctl, sim.Device,
)  # fmt: skip
# Fields that are newer than headers that are widely installed.
NEWER = {("bpf_sock_ops", "skb_hwtstamp")}


def read(ctx: sim.Context, size: int, offset: int, *, order: str = "little") -> int:
    """What a program reads from its context."""
    return sim.run([isa.load(size, 0, 1, offset), END], ctx, byteorder=order).ret


def write(ctx: sim.Context, size: int, offset: int, value: int, *, order: str = "little") -> None:
    """A program writes into its context."""
    sim.run([isa.load_imm64(2, value), isa.store(size, 1, offset, 2), isa.mov_imm(0, 0), END], ctx, byteorder=order)


@pytest.mark.parametrize("context", STRUCTS, ids=lambda context: context.uapi)
def test_offsets_are_the_headers(context: type[sim.Context]) -> None:
    """clang, with the installed linux/bpf.h, agrees on where each field lies."""
    clang = shutil.which("clang") or shutil.which("clang-19") or shutil.which("clang-14")
    if clang is None:
        pytest.skip("clang is not installed: it reads linux/bpf.h")
    fields: Table = context.fields
    lines = ["#include <stddef.h>", "#include <linux/bpf.h>"]
    for field in fields:
        if (context.uapi, field.name) not in NEWER:
            place = f"offsetof(struct {context.uapi}, {field.name}) == {field.offset}"
            lines.append(f'_Static_assert({place}, "{field.name}");')
    if not any(context.uapi == struct for struct, _ in NEWER):
        lines.append(f'_Static_assert(sizeof(struct {context.uapi}) == {context.struct_size}, "size");')
    source = "\n".join(lines)
    done = subprocess.run(
        [clang, "-fsyntax-only", "-x", "c", "-"], input=source, capture_output=True, text=True, check=False
    )
    if "'linux/bpf.h' file not found" in done.stderr:
        pytest.skip("linux/bpf.h is not installed")
    assert done.stderr == ""


@pytest.mark.parametrize("order", ORDERS)
def test_network_order(order: str) -> None:
    """Ports and addresses are given as what they mean, and a program sees their bytes in network order."""
    ctx = sim.SockAddr(user_ip4="10.1.2.3", user_port=15001, user_ip6="2001:db8::1")

    def as_bytes(size: int, offset: int) -> bytes:
        return read(ctx, size, offset, order=order).to_bytes(size, order)

    assert as_bytes(4, 4) == bytes([10, 1, 2, 3])
    assert as_bytes(8, 8) == bytes.fromhex("20010db800000000")
    assert read(ctx, 4, 24, order=order) == (0x993A if order == "little" else 15001)
    ops = sim.SockOps(remote_port=15001, local_port=80, remote_ip4="1.2.3.4")
    assert read(ops, 4, 64, order=order).to_bytes(4, order) == (15001).to_bytes(4, "big")
    assert read(ops, 4, 68, order=order) == 80


@pytest.mark.parametrize("order", ORDERS)
def test_fields_are_read_back(order: str) -> None:
    """What a program writes into its context is what the test reads from it, in either byte order."""
    ctx = sim.SockAddr()
    write(ctx, 4, 4, int.from_bytes(bytes([10, 9, 8, 7]), order), order=order)
    write(ctx, 4, 24, 0x993A if order == "little" else 15001, order=order)
    write(ctx, 4, 20, int.from_bytes(bytes([0, 0, 0, 1]), order), order=order)
    assert (ctx.user_ip4, ctx.user_port, ctx.user_ip6) == ("10.9.8.7", 15001, "::1")
    skb = sim.SkBuff()
    write(skb, 4, 52, 77, order=order)
    write(skb, 4, 8, 5, order=order)
    assert (skb.cb, skb.mark) == ([0, 77, 0, 0, 0], 5)


def test_signed_fields() -> None:
    """A sockopt's numbers are signed: -1 is -1, and what was written is read back so."""
    ctx = sim.Sockopt(retval=-92)
    assert read(ctx, 4, 36) == (1 << 32) - 92
    write(ctx, 4, 36, (1 << 64) - 5)
    assert ctx.retval == -5


def test_packet_pointers() -> None:
    """data to data_end are the packet's bytes although the fields are 32 bits wide; bounds are the packet's."""
    ctx = sim.Xdp(packet=bytes(range(10)), meta=b"meta")
    load = [isa.load(4, 2, 1, 0), isa.load(4, 3, 1, 4), isa.load(4, 4, 1, 8)]
    length = [*load, isa.mov(0, 3), isa.alu(isa.Alu.SUB, 0, 2), END]
    assert sim.run(length, ctx).ret == 10
    assert sim.run([*load, isa.load(1, 0, 2, 9), END], ctx).ret == 9
    assert sim.run([*load, isa.load(1, 0, 4, 0), END], ctx).ret == ord("m")
    with pytest.raises(sim.AccessError, match=r"read of 1 byte at packet\+14: packet has bytes 0 to 13"):
        sim.run([*load, isa.load(1, 0, 3, 0), END], ctx)
    sim.run([*load, isa.store_imm(1, 2, 0, 0x55), isa.mov_imm(0, 0), END], ctx)
    assert ctx.packet == bytes([0x55, *range(1, 10)])


def test_pointers_to_sockets() -> None:
    """sk is a socket that can be read, not written; without one it is NULL."""
    ctx = sim.SockOps(sk=sim.Sock(src_port=80, dst_port=5000, state=10))
    sock = isa.load(8, 2, 1, 184)
    assert sim.run([sock, isa.load(4, 0, 2, 72), END], ctx).ret == 10
    assert sim.run([sock, isa.load(2, 0, 2, 48), END], ctx).ret == 0x8813
    with pytest.raises(sim.AccessError, match="mark is read-only"):
        sim.run([sock, isa.store_imm(4, 2, 16, 1), END], ctx)
    assert sim.run([isa.load(8, 0, 1, 184), END], sim.SockOps(sk=None)).ret == 0


@pytest.mark.parametrize(
    ("ctx", "access", "why"),
    [
        (sim.SockAddr(), isa.load(2, 0, 1, 28), r"bpf_sock_addr\+28: family \(at 28\) takes reads of 4 bytes"),
        (sim.SockAddr(), isa.load(4, 0, 1, 100), r"bpf_sock_addr\+100: no field of struct bpf_sock_addr is there"),
        (sim.SockAddr(), isa.load(4, 0, 1, 26), r"user_port \(at 24\) takes reads of 1 or 2 or 4 bytes"),
        (sim.SockAddr(), isa.store_imm(4, 1, 32, 0), "type is read-only"),
        (sim.SockAddr(), isa.store_imm(2, 1, 24, 0), "takes writes of 4 bytes"),
        (sim.SockOps(), isa.store_imm(4, 1, 8, 0), "args is read-only"),
        (sim.SkBuff(), isa.load(2, 0, 1, 76), r"data \(at 76\) takes reads of 4 bytes"),
        (sim.SkBuff(), isa.atomic(isa.Atomic.ADD, 4, 1, 8, 1), "__sk_buff takes no atomic operation"),
    ],
)  # fmt: skip
def test_bad_accesses(ctx: sim.Context, access: Instruction, why: str) -> None:
    """An offset without a field, a width or a write that is not allowed: the field is named, as the verifier would."""
    with pytest.raises(sim.SimError, match=why):
        sim.run([access, isa.mov_imm(0, 0), END], ctx)


@pytest.mark.parametrize(
    ("kind", "attach", "access", "why"),
    [
        (ProgramType.CGROUP_SOCK_ADDR, AttachType.CGROUP_INET4_CONNECT, isa.load(4, 0, 1, 8), "user_ip6 is not for"),
        (ProgramType.CGROUP_SOCK_ADDR, AttachType.CGROUP_INET6_CONNECT, isa.load(4, 0, 1, 4), "user_ip4 is not for"),
        (ProgramType.CGROUP_SOCK_ADDR, AttachType.CGROUP_INET4_CONNECT, isa.load(4, 0, 1, 40), "msg_src_ip4 is not"),
        (ProgramType.SOCKET_FILTER, AttachType.XDP, isa.load(4, 0, 1, 76), "data is not for"),
        (ProgramType.SOCKET_FILTER, AttachType.XDP, isa.store_imm(4, 1, 8, 0), "mark is read-only"),
        (ProgramType.SCHED_CLS, AttachType.TCX_INGRESS, isa.load(4, 0, 1, 132), "remote_port is not for"),
        (ProgramType.XDP, AttachType.XDP, isa.load(4, 0, 1, 20), "egress_ifindex is not for"),
        (ProgramType.CGROUP_SOCKOPT, AttachType.CGROUP_SETSOCKOPT, isa.load(4, 0, 1, 36), "retval is not for"),
        (ProgramType.CGROUP_SOCKOPT, AttachType.CGROUP_GETSOCKOPT, isa.store_imm(4, 1, 24, 0), "level is read-only"),
    ],
)  # fmt: skip
def test_what_a_program_type_may_not_do(kind: ProgramType, attach: AttachType, access: Instruction, why: str) -> None:
    """The same struct has other rules for another type of program, or another hook."""
    with pytest.raises(sim.AccessError, match=why):
        sim.run(program(kind, access, isa.mov_imm(0, 0), END, attach=attach))


def test_registers_of_a_traced_function() -> None:
    """pt_regs of x86-64 and of arm64 have the arguments where the ABI puts them; bytes become an address."""
    x86 = sim.RegistersX86.call(11, b"text\0", ip=0xFFFF)
    assert (read(x86, 8, 112), read(x86, 8, 128)) == (11, 0xFFFF)
    assert sim.run([isa.load(8, 2, 1, 104), isa.load(1, 0, 2, 1), END], x86).ret == ord("e")
    arm = sim.RegistersArm64.call(11, 22, pc=0xEEEE)
    assert (read(arm, 8, 8), read(arm, 8, 256)) == (22, 0xEEEE)
    event = sim.PerfEvent(registers=x86, sample_period=5, addr=9)
    assert (read(event, 8, 168), read(event, 8, 176)) == (5, 9)


def test_tracepoints() -> None:
    """A record's own bytes are read, its first 8 are the kernel's; raw tracepoints have words."""
    record = sim.Tracepoint(bytes(8) + b"\x2a\0\0\0")
    assert read(record, 4, 8) == 42
    with pytest.raises(sim.AccessError, match="the first 8 bytes of a tracepoint's record are the kernel's"):
        read(record, 4, 4)
    with pytest.raises(sim.AccessError, match="arguments is read-only"):
        write(sim.Arguments([1, 2]), 8, 8, 5)


def test_default_contexts() -> None:
    """A program type that is run without a context gets an empty one of its type; another's is refused."""
    body = (isa.mov_imm(0, 3), END)
    for kind, context in (
        (ProgramType.XDP, sim.Xdp),
        (ProgramType.SOCK_OPS, sim.SockOps),
        (ProgramType.SYSCALL, sim.Bytes),
    ):
        assert isinstance(sim.run(program(kind, *body)).ctx, context)
    with pytest.raises(sim.SimError, match="p is of type XDP, it takes a Xdp, not a SkMsg"):
        sim.run(program(ProgramType.XDP, *body), sim.SkMsg())


def test_a_syscall_programs_context_is_its_own() -> None:
    """Plain bytes that the program changes are read back."""
    ctx = sim.Bytes(b"\0\0\0\0")
    write(ctx, 4, 0, 0x01020304)
    assert ctx.data == b"\4\3\2\1"
