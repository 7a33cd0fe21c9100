"""Sockets that a program looks up: found, read, given back; and what is refused. Text that is printed into memory."""

# ruff: noqa: E501 - a case a line

import socket
import struct
from typing import Any

import pytest
from cgroup_caller import Caller
from data_bench import DataBench
from written_modules import MakeModule
from written_programs import assert_refused

from pybpfasm.btf import kernel_btf
from pybpfasm.compiler import CompileError, compile_program
from pybpfasm.kernel import features
from pybpfasm.kernel.programs import Program
from pybpfasm.kernel.target import running_target
from pybpfasm.lang.contexts import ContextField, TcpSock

HEAD = """
PORT = 0

class Short(Struct):
    x: u32

@bpf.xdp
def prog(ctx: XdpMd) -> int:
    peers = Tuple4(saddr=ip4("127.0.0.1"), daddr=ip4("127.0.0.1"), sport=htons(9), dport=htons(PORT))
"""


def module_of(write_module: MakeModule, body: str) -> Any:
    """A module with a program of these statements, behind `peers`."""
    end = [] if body.splitlines()[-1].startswith("return") else ["return 1"]
    return write_module(HEAD + "".join(f"    {row}\n" for row in [*body.splitlines(), *end]))


TCP = "s = sk_lookup_tcp(ctx, peers)\nif s is None:\n    return 0\n"

# Statements | what the program returns.
RUNS = [
    (TCP + "port = s.src_port\nsk_release(s)\nreturn 2 if port == PORT else 3", 2),
    (TCP + "state = s.state\nsk_release(s)\nreturn 2 if state == 10 else 3", 2),
    ("s = sk_lookup_tcp(ctx, Tuple4(saddr=peers.saddr, daddr=peers.daddr, sport=peers.sport, dport=htons(1)))\nif s is not None:\n    sk_release(s)\n    return 3\nreturn 4", 4),
    ("s = skc_lookup_tcp(ctx, peers)\nif s is None:\n    return 0\nf = s.family\nsk_release(s)\nreturn f", 2),
    ("s = sk_lookup_udp(ctx, peers)\nif s is not None:\n    sk_release(s)\n    return 3\nreturn 4", 4),
    (TCP + "n = 4\nsk_release(s)\nreturn n", 4),
]  # fmt: skip


@pytest.mark.parametrize(("body", "wanted"), RUNS, ids=[each[0] for each in RUNS])
def test_sockets(write_module: MakeModule, body: str, wanted: int) -> None:
    """A listening socket is found by the addresses of a packet that would come to it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        module = module_of(write_module, body)
        spec = compile_program(module.prog, PORT=server.getsockname()[1])
        with Program.load(spec, {}) as program:
            assert program.run(bytes(64)).retval == wanted


TC = """
@bpf.tc
def prog(ctx: SkBuff) -> int:
    s = sk_lookup_tcp(ctx, Tuple4(saddr=ip4("127.0.0.1"), daddr=ip4("127.0.0.1"), sport=htons(9), dport=htons(9)))
    if s is None:
        return 0
    t = tcp_sock(s)
    if t is not None and t.bytes_received > 5 and t.snd_cwnd > 1:
        sk_release(s)
        return 1
    full = sk_fullsock(s)
    if full is not None and full.mark == 3:
        sk_release(s)
        return 2
    listener = get_listener_sock(s)
    port = 0 if listener is None else listener.src_port
    sk_release(s)
    return port & 1
"""


def test_other_kinds(write_module: MakeModule) -> None:
    """A socket is seen as one of TCP, with all its fields, or as the one that listens; the verifier agrees."""
    with Program.load(compile_program(write_module(TC).prog), {}) as program:
        assert program.run(bytes(64)).retval == 0


@pytest.mark.needs(features.KERNEL_BTF)
def test_fields_lie_where_the_kernel_has_them() -> None:
    """Each field of a TcpSock, by the kernel's own types."""
    btf = kernel_btf()
    fields = {name: each for name, each in vars(TcpSock).items() if isinstance(each, ContextField)}
    theirs = {name: btf.field(f"bpf_tcp_sock.{name}") for name in fields}
    assert {name: (each.byte_offset, btf.size_of(each.type_id)) for name, each in theirs.items()} == {
        name: (each.offset, each.width) for name, each in fields.items()
    }


# Statements | the line and the piece of it that the error points at | the beginning of the reason.
RULES = [
    (TCP, "return 1 | return", "`s`, which was found in line"),
    (TCP + "sk_release(s)\nreturn s.src_port & 1", "return s.src_port & 1 | s", "this was found in line"),
    (TCP + "sk_release(s)\nsk_release(s)", "sk_release(s) | sk_release", "this may have been given back before: hand it to sk_release()"),
    ("s = sk_lookup_tcp(ctx, peers)\nsk_release(s)", "sk_release(s) | s)", "this may be None: test it first"),
    ("s = sk_lookup_tcp(ctx, Short(x=1))", "s = sk_lookup_tcp(ctx, Short(x=1)) | Short", "a Tuple4 or a Tuple6 is wanted"),
    ("s = sk_lookup_tcp(peers, peers)", "s = sk_lookup_tcp(peers, peers) | peers, peers", "this is Tuple4 where Context is wanted"),
    ("sk_release(ctx)", "sk_release(ctx) | ctx", "a socket is wanted here, this is XdpMd"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "marked", "reason"), RULES, ids=[each[0] for each in RULES])
def test_refusals(write_module: MakeModule, body: str, marked: str, reason: str) -> None:
    """Each rule is refused where it is broken."""
    module = module_of(write_module, body)
    assert_refused(module, marked, reason)


DATA = """
class Data(Struct):
    a: i64
    n: u64
    text: Annotated[bytes, Length(16)]
"""


@pytest.mark.needs(features.LOOP)
def test_printing_into_text(caller: Caller, write_module: MakeModule) -> None:
    """Numbers and text are written as the format says, as far as there is room."""
    bench = DataBench(caller, write_module)
    found = bench.run(
        DATA, 'v.a = snprintf(v.text, "%d:%x!", v.n, 255)', {"n": 12, "a": 0, "text": b""}, running_target()
    )
    assert (found.a, found.text) == (7, b"12:ff!")
    found = bench.run(
        DATA, 'v.a = snprintf(v.text, "no room for all of it")', {"n": 0, "a": 0, "text": b""}, running_target()
    )
    assert (found.a, found.text) == (22, b"no room for all")


def test_printing_needs_a_kernel(write_module: MakeModule) -> None:
    """Linux 5.10 cannot."""
    module = write_module(
        DATA
        + 'd = Array[u32, Data](max_entries=1)\n\n@bpf.xdp\ndef prog(ctx: XdpMd) -> int:\n    b = bpf.Buffer(8)\n    return snprintf(b, "x") & 1\n'
    )
    with pytest.raises(CompileError, match=r"snprintf\(\) needs Linux 5.13, this is compiled for 5.10"):
        compile_program(module.prog)


def test_tuples_are_as_the_kernel_has_them() -> None:
    """12 and 36 bytes (struct bpf_sock_tuple)."""
    from pybpfasm import Tuple4, Tuple6, htons, ip4

    four = Tuple4(saddr=ip4("1.2.3.4"), daddr=ip4("5.6.7.8"), sport=htons(1), dport=htons(2))
    assert bytes(four) == bytes((1, 2, 3, 4, 5, 6, 7, 8)) + struct.pack(">HH", 1, 2)
    zero = [ip4("0.0.0.0")] * 4
    assert len(bytes(Tuple6(saddr=zero, daddr=zero, sport=htons(1), dport=htons(2)))) == 36
