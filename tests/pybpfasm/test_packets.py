"""Packets, read and written in the kernel by test runs; and what is refused."""

# ruff: noqa: E501 - a case a line

import struct
import textwrap

import pytest
from written_modules import MakeModule
from written_programs import assert_refused

from pybpfasm.compiler import compile_program
from pybpfasm.kernel import features
from pybpfasm.kernel.maps import Map
from pybpfasm.kernel.programs import Program
from pybpfasm.kernel.target import running_target
from pybpfasm.spec import ProgramSpec

DECLARATIONS = """
from pybpfasm.uapi import CsumReplaceFlag

class Ethernet(Struct, packed=True):
    destination: Annotated[list[u8], Length(6)]
    source: Annotated[list[u8], Length(6)]
    type: be16

class Ip(Struct):
    ihl: Annotated[u8, Bits(4)]
    version: Annotated[u8, Bits(4)]
    tos: u8
    total: be16
    id: be16
    fragment: be16
    ttl: u8
    protocol: u8
    checksum: be16
    source: be32
    destination: be32

class Udp(Struct):
    source: be16
    destination: be16
    length: be16
    checksum: be16

class Byte(Struct):
    value: u8

class Address(Struct):
    ip: be32

class Hello(Struct, packed=True):
    a: be16
    text: Annotated[bytes, Length(3)]
    words: Annotated[list[u8], Length(2)]

class Count(Struct):
    n: u64

counts = Array[u32, Count](max_entries=256)
progs = ProgArray(max_entries=4)
XDP_DROP, XDP_PASS, XDP_TX = 1, 2, 3
FLAGS = CsumReplaceFlag

@bpf.inline
def udp(ctx: XdpMd) -> Udp | None:
    ip = ctx.packet(Ip, 14)
    if ip is None or ip.version != 4 or ip.protocol != 17:
        return None
    return ctx.packet(Udp, 14 + ip.ihl * 4)

@bpf.subprogram
def ports_swapped(u: Udp) -> int:
    source = u.source
    u.source = u.destination
    u.destination = source
    return 1
"""

XDP = "@bpf.xdp\ndef prog(ctx: XdpMd) -> int:\n"
TC = "@bpf.tc\ndef prog(ctx: SkBuff) -> int:\n"


def packet(*, options: int = 0, payload: bytes = b"payload!") -> bytes:
    """Ethernet, IPv4 with so many words of options, UDP from port 1000 to 53."""
    ethernet = bytes(range(6)) + bytes(range(6, 12)) + b"\x08\x00"
    size = 20 + 4 * options + 8 + len(payload)
    ip = struct.pack(">BBHHHBBH4s4s", 0x45 + options, 0, size, 1, 0, 64, 17, 0, b"\x0a\0\0\x01", b"\x0a\0\0\x02")
    return ethernet + ip + bytes(4 * options) + struct.pack(">HHHH", 1000, 53, 8 + len(payload), 0) + payload


def module_of(write_module: MakeModule, head: str, body: str) -> object:
    """A module with a program of these statements."""
    return write_module(DECLARATIONS + head + textwrap.indent(body.strip("\n"), "    ") + "\n")


def run(write_module: MakeModule, head: str, body: str, data: bytes) -> tuple[int, bytes]:
    """What the program returns, and the packet afterwards."""
    spec: ProgramSpec = compile_program(module_of(write_module, head, body).prog)  # type: ignore[attr-defined]  # written
    maps = {name: Map.create(each) for name, each in spec.maps.items()}
    try:
        with Program.load(spec, maps) as program:
            found = program.run(data)
            return found.retval, found.data
    finally:
        for each in maps.values():
            each.close()


# Statements | the packet | what is returned.
XDP_RUNS = [
    ("e = ctx.packet(Ethernet)\nif e is None:\n    return XDP_DROP\nreturn XDP_PASS if e.type == htons(0x0800) else XDP_TX", packet(), 2),
    ("e = ctx.packet(Ethernet)\nif e is None:\n    return XDP_DROP\nreturn 4 if e.source[5] == 11 else 0", packet(), 4),
    ("ip = ctx.packet(Ip, 14)\nif ip is None:\n    return XDP_DROP\nreturn ip.ihl - 2", packet(), 3),
    ("u = udp(ctx)\nif u is None:\n    return XDP_DROP\nif u.destination == htons(53):\n    return XDP_PASS\nreturn XDP_TX", packet(), 2),
    ("u = udp(ctx)\nif u is None:\n    return XDP_DROP\nif u.destination == htons(53):\n    return XDP_PASS\nreturn XDP_TX", packet(options=3), 2),
    ("u = udp(ctx)\nif u is None:\n    return XDP_DROP\nreturn XDP_PASS", packet()[:40] + b"\0", 1),
    ("b = ctx.packet(Byte, 57)\nif b is None:\n    return XDP_DROP\nreturn XDP_PASS", packet() + b"x" * 10, 2),
    ("b = ctx.packet(Byte, 60)\nif b is None:\n    return XDP_DROP\nreturn XDP_PASS", packet()[:60], 1),
    ("ip = ctx.packet(Ip, 14)\nif ip is None:\n    return XDP_DROP\nb = ctx.packet(Byte, 14 + min(ntohs(ip.total), 1500) if ip.ttl > 5 else 14)\nif b is None:\n    return XDP_PASS\nreturn XDP_TX", packet(), 2),
    ("n = 0\nfor i in range(20):\n    b = ctx.packet(Byte, 42 + i)\n    if b is None:\n        break\n    if b.value == 0x61:\n        n += 1\nreturn min(n, 4)", packet(payload=b"banana__"), 3),
    ("u = udp(ctx)\nif u is None:\n    return XDP_DROP\nc = counts.lookup(cast(u8, ntohs(u.destination)))\nif c is not None:\n    c.n += 1\nu.destination = htons(54)\nreturn XDP_PASS", packet(), 2),
]  # fmt: skip


@pytest.mark.parametrize(("body", "data", "result"), XDP_RUNS, ids=[each[0] for each in XDP_RUNS])
def test_xdp(write_module: MakeModule, body: str, data: bytes, result: int) -> None:
    """What is read from a packet, and where it ends."""
    assert run(write_module, XDP, body, data)[0] == result


def test_packets_are_written_in_place(write_module: MakeModule) -> None:
    """An assignment changes the packet, also from a subprogram."""
    body = "u = udp(ctx)\nif u is None:\n    return XDP_DROP\nports_swapped(u)\ne = ctx.packet(Ethernet)\nif e is None:\n    return 0\ne.source = e.destination\nreturn XDP_TX"
    result, data = run(write_module, XDP, body, packet())
    assert result == 3
    assert data[34:38] == struct.pack(">HH", 53, 1000)
    assert data[6:12] == bytes(range(6))


# The same for tc.
TC_RUNS = [
    ("u = ctx.load(Udp, 34)\nif u is None:\n    return 2\nreturn 3 if u.destination == htons(53) else 4", packet(), 3),
    ("u = ctx.load(Udp, 3400)\nif u is None:\n    return 2\nreturn 3", packet(), 2),
    ("e = ctx.packet(Ethernet)\nif e is None:\n    return 2\nreturn 1 if ctx.protocol == htons(0x0800) else 0", packet(), 1),
    ("return 1 if ntohs(ctx.protocol) == 0x800 else 0", packet(), 1),
    ("ctx.mark = 5\nctx.cb[2] = ctx.mark\nreturn ctx.cb[2]", packet(), 5),
    ("ctx.store(34, b'\\0\\7')\nu = ctx.packet(Udp, 34)\nif u is None:\n    return 2\nreturn 3 if u.source == htons(7) else 4", packet(), 3),
    ("x = Hello(a=htons(1), text=b'abc', words=[1, 2])\nctx.store(42, x.text)\nctx.store(45, x.words)\ny = ctx.load(Hello, 40)\nif y is None:\n    return 2\nreturn 3 if y.text == b'abc' and y.words[1] == 2 else 4", packet(), 3),
    ("ctx.store(34, htons(77))\nu = ctx.load(Udp, 34)\nif u is None:\n    return 2\nx = u.source\nctx.store(36, x)\nu = ctx.load(Udp, 34)\nif u is None:\n    return 2\nreturn 3 if u.destination == htons(77) else 4", packet(), 3),
    ("b = bpf.Buffer(4)\nb[3] = 7\nctx.store(34, b)\nu = ctx.load(Udp, 34)\nif u is None:\n    return 2\nreturn ntohs(u.destination)", packet(), 7),
    ("ip = ctx.load(Ip, 14)\nif ip is None:\n    return 2\nreturn 3 if csum_diff(None, ip) > 0 else 4", packet(), 3),
    ("ip = ctx.load(Ip, 14)\nif ip is None:\n    return 2\nreturn 3 if cast(u32, csum_diff(ip, ip)) % 0xFFFF == 0 else 4", packet(), 3),
]  # fmt: skip


@pytest.mark.parametrize(("body", "data", "result"), TC_RUNS, ids=[each[0] for each in TC_RUNS])
def test_tc(write_module: MakeModule, body: str, data: bytes, result: int) -> None:
    """Fields of the buffer, and copies of its bytes."""
    assert run(write_module, TC, body, data)[0] == result


def test_stores(write_module: MakeModule) -> None:
    """A helper writes a struct over the packet; what pointed into it is asked for again."""
    body = "u = ctx.packet(Udp, 34)\nif u is None:\n    return 2\nctx.store(34, Udp(source=u.destination, destination=htons(9), length=u.length, checksum=htons(0)))\nu = ctx.packet(Udp, 34)\nif u is None:\n    return 2\nreturn 3 if u.destination == htons(9) else 4"
    result, data = run(write_module, TC, body, packet())
    assert result == 3
    assert data[34:38] == struct.pack(">HH", 53, 9)


# Program | statements | the line and the piece of it that the error points at | the beginning of the reason.
RULES = [
    (XDP, "e = ctx.packet(Ethernet)\nreturn e.source[0]", "return e.source[0] | e.source", "this may be None: test it first"),
    (XDP, "e = ctx.packet(5)\nreturn 1", "e = ctx.packet(5) | 5", "a Struct is wanted"),
    (XDP, "b = ctx.packet(Byte, -1)\nreturn 1", "b = ctx.packet(Byte, -1) | -1", "-1 is outside of every packet: 0 to 65534 are possible"),
    (XDP, "b = ctx.packet(Byte, 70000)\nreturn 1", "b = ctx.packet(Byte, 70000) | 70000", "70000 is outside of every packet"),
    (XDP, "b = ctx.packet(Byte, ctx.rx_queue_index)\nreturn 1", "b = ctx.packet(Byte, ctx.rx_queue_index) | ctx.rx", "this offset can be 4294967295, 65534 at most is possible: bound it by `min(…, 65534)`"),
    (XDP, "x: i64 = 5\nb = ctx.packet(Byte, x)\nreturn 1", "b = ctx.packet(Byte, x) | x", "this offset is signed"),
    (XDP, "ctx.ingress_ifindex = 5\nreturn 1", "ctx.ingress_ifindex = 5 | ctx", "XdpMd.ingress_ifindex cannot be assigned"),
    (XDP, "return 5", "return 5 | 5", "5 is no result of this program: 0 to 4 are"),
    (TC, "for i in range(5):\n    ctx.cb[i] = i\nreturn 1", "ctx.cb[i] = i | i]", "a context's array has constant indices: repeat the code for each, `for … in unroll(range(5))`"),
    (XDP, "return ctx.hash", "return ctx.hash | hash", "XdpMd has no field `hash`"),
    (XDP, "b = ctx.load(Byte, 1)\nreturn 1", "b = ctx.load(Byte, 1) | ctx", "XDP programs copy from and to packets since Linux 5.18, this is compiled for 5.10"),
    (TC, "ctx.l3_csum_replace(24, 5, htons(1))\nreturn 1", "ctx.l3_csum_replace(24, 5, htons(1)) | 5", "be16 or be32 is wanted, this is int"),
    (TC, "ctx.l3_csum_replace(24, htons(1), htonl(1))\nreturn 1", "ctx.l3_csum_replace(24, htons(1), htonl(1)) | htonl(1)", "be16 is not replaced by be32"),
    (TC, "x = csum_diff(None, htons(1))\nreturn 1", "x = csum_diff(None, htons(1)) | htons(1)", "what is summed up has a multiple of 4 bytes, 512 at most: this has 2"),
    (TC, "u = ctx.packet(Udp, 34)\nif u is None:\n    return 2\nctx.store(34, Byte(value=1))\nreturn 1 if u.length == htons(1) else 0", "return 1 if u.length == htons(1) else 0 | u", "the packet's data may have been moved by the helper in line"),
    (TC, "u = ctx.packet(Udp, 34)\nif u is None:\n    return 2\nif ctx.mark == 1:\n    ctx.store(34, Byte(value=1))\nu.length = htons(1)\nreturn 0", "u.length = htons(1) | u", "the packet's data may have been moved by the helper in line"),
    (TC, "u = ctx.packet(Udp, 34)\nif u is None:\n    return 2\nprogs.tail_call(ctx, 1)\nu.length = htons(1)\nreturn 0", "u.length = htons(1) | u", "the packet's data may have been moved by the helper in line"),
    (TC, "x = ctx.store(34, 5)\nreturn 1", "x = ctx.store(34, 5) | 5", "a struct, an array, text or a number in network order is wanted here, this is int"),
]  # fmt: skip


@pytest.mark.parametrize(("head", "body", "marked", "reason"), RULES, ids=[each[1] for each in RULES])
def test_refusals(write_module: MakeModule, head: str, body: str, marked: str, reason: str) -> None:
    """Each rule is refused where it is broken, with what to write instead."""
    module = module_of(write_module, head, body)
    assert_refused(module, marked, reason)


def sum_of(data: bytes) -> int:
    """The ones' complement sum of 16-bit words, as RFC 1071 has it."""
    total: int = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def with_checksums(data: bytes) -> bytes:
    """A packet of `packet()` whose IP and UDP checksums are right."""
    ip = bytearray(data[14:34])
    ip[10:12] = struct.pack(">H", sum_of(bytes(ip)) ^ 0xFFFF)
    udp = bytearray(data[34:])
    pseudo = bytes(ip[12:20]) + struct.pack(">HH", 17, len(udp))
    udp[6:8] = struct.pack(">H", sum_of(pseudo + bytes(udp)) ^ 0xFFFF)
    return data[:14] + bytes(ip) + bytes(udp)


def right_checksums(data: bytes) -> bool:
    """Whether both are."""
    pseudo = data[26:34] + struct.pack(">HH", 17, len(data) - 34)
    return sum_of(data[14:34]) == 0xFFFF and sum_of(pseudo + data[34:]) == 0xFFFF


REWRITES = {
    "number by number": """
ip = ctx.load(Ip, 14)
if ip is None:
    return 2
new = ip4("10.9.8.7")
ctx.l3_csum_replace(24, ip.source, new)
ctx.l4_csum_replace(40, ip.source, new, FLAGS.PSEUDO_HDR | FLAGS.MARK_MANGLED_0)
ctx.l4_csum_replace(40, htons(1000), htons(2000))
ctx.store(26, new)
ctx.store(34, htons(2000))
return 0
""",
    "by a difference": """
ip = ctx.load(Ip, 14)
if ip is None:
    return 2
new = Address(ip=ip4("10.9.8.7"))
d = csum_diff(Address(ip=ip.source), new)
ctx.l3_csum_add(24, d)
ctx.l4_csum_add(40, d, FLAGS.PSEUDO_HDR)
ctx.store(26, new)
return 0
""",
}


@pytest.mark.parametrize("body", REWRITES.values(), ids=list(REWRITES))
def test_checksums(write_module: MakeModule, body: str) -> None:
    """A packet that was rewritten has right checksums, also where they were mended by what csum_diff gave."""
    before = with_checksums(packet())
    assert right_checksums(before)
    result, data = run(write_module, TC, body, before)
    assert result == 0
    assert data[26:30] == bytes((10, 9, 8, 7))
    assert right_checksums(data)


@pytest.mark.needs(features.LOOP)
def test_xdp_copies(write_module: MakeModule) -> None:
    """An XDP program copies from and to the packet, on a kernel that can."""
    body = "u = ctx.load(Udp, 34)\nif u is None:\n    return XDP_DROP\nctx.store(36, u.source)\nreturn XDP_TX"
    module = module_of(write_module, XDP, body)
    spec = compile_program(module.prog, target=running_target())  # type: ignore[attr-defined]  # written
    with Program.load(spec, {}) as program:
        found = program.run(packet())
    assert found.retval == 3
    assert found.data[34:38] == struct.pack(">HH", 1000, 1000)


TAIL = """
@bpf.xdp
def prog(ctx: XdpMd) -> int:
    progs.tail_call(ctx, 1)
    progs.tail_call(ctx, ctx.rx_queue_index + 2)
    return XDP_PASS

@bpf.xdp
def other(ctx: XdpMd) -> int:
    return XDP_TX
"""


@pytest.mark.parametrize(("index", "result"), [(1, 3), (2, 3), (3, 2), (None, 2)])
def test_tail_calls(write_module: MakeModule, index: int | None, result: int) -> None:
    """Control goes on in the program at the index, and where it was if there is none."""
    module = write_module(DECLARATIONS + TAIL)
    spec, other = compile_program(module.prog), compile_program(module.other)
    with (
        Map.create(spec.maps["progs"]) as progs,
        Program.load(spec, {"progs": progs}) as program,
        Program.load(other, {}) as called,
    ):
        if index is not None:
            progs.update(struct.pack("<I", index), struct.pack("<I", called.fd))
        assert program.run(packet()).retval == result
