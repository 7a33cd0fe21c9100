"""Programs of each hook, written in the language, seen to do what they say: in a cgroup, at a socket, by a test run."""

# ruff: noqa: E501 - a case a line

import errno
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from types import ModuleType

import pytest
from cgroup_actor import Actor
from small_network import Namespace
from written_modules import MakeModule

from pybpfasm.compiler import compile_collection, compile_program
from pybpfasm.kernel.collection import Collection
from pybpfasm.kernel.links import attach_cgroup, attach_netns
from pybpfasm.kernel.probes.program_types import PROGRAM_TYPES
from pybpfasm.kernel.programs import Program
from pybpfasm.kernel.target import running_target
from pybpfasm.uapi import ProgramType

REFUSED = {"errno": errno.EPERM}
UDP = "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)"
TCP = "s = socket.socket()"

# Of each: a program, its hook's decorator and context | what the actor does, what it sees with the program, and without.
IN_A_CGROUP = {
    "bind4": (
        "SockAddr",
        "if ctx.user_port == htons(4444):\n    return 0\nif ctx.user_port == htons(4445):\n    ctx.user_port = htons(4446)\nreturn 1",
        [
            (f"{UDP}; s.bind(('127.0.0.1', 4444)); it = s.getsockname()[1]", REFUSED, 4444),
            (f"{UDP}; s.bind(('127.0.0.1', 4445)); it = s.getsockname()[1]", 4446, 4445),
        ],
    ),
    "bind6": (
        "SockAddr",
        "if ctx.user_ip6[3] == htonl(1):\n    ctx.user_port = htons(4447)\nreturn 1",
        [("s = socket.socket(socket.AF_INET6); s.bind(('::1', 4445)); it = s.getsockname()[1]", 4447, 4445)],
    ),
    "sendmsg4": (
        "SockAddr",
        "if ctx.user_port == htons(53):\n    ctx.user_port = htons(4453)\nreturn 1",
        [
            (
                f"{UDP}; t = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); t.bind(('127.0.0.1', 4453)); t.settimeout(0.2)\ns.sendto(b'q', ('127.0.0.1', 53))\ntry:\n    it = t.recv(1).decode()\nexcept TimeoutError:\n    it = 'nothing'",
                "q",
                "nothing",
            )
        ],
    ),
    "recvmsg4": (
        "SockAddr",
        "ctx.user_port = htons(53)\nreturn 1",
        [(f"{UDP}; s.bind(('127.0.0.1', 4461)); s.sendto(b'x', s.getsockname()); it = s.recvfrom(1)[1][1]", 53, 4461)],
    ),
    "getpeername4": (
        "SockAddr",
        "ctx.user_port = htons(80)\nreturn 1",
        [(f"{UDP}; s.connect(('127.0.0.1', 4462)); it = s.getpeername()[1]", 80, 4462)],
    ),
    "getsockname4": (
        "SockAddr",
        "ctx.user_ip4 = ip4('10.1.2.3')\nreturn 1",
        [(f"{UDP}; s.bind(('127.0.0.1', 4463)); it = s.getsockname()[0]", "10.1.2.3", "127.0.0.1")],
    ),
    "sock_create": (
        "Sock",
        "if ctx.type == 3:\n    return 0\nctx.mark = 77\nreturn 1",
        [
            ("it = socket.socket(socket.AF_INET, socket.SOCK_RAW, 1).type", REFUSED, 3),
            (f"{UDP}; it = s.getsockopt(socket.SOL_SOCKET, socket.SO_MARK)", 77, 0),
        ],
    ),
    "post_bind4": (
        "Sock",
        "return 0 if ctx.src_port == 4464 else 1",
        [(f"{UDP}; s.bind(('127.0.0.1', 4464)); it = s.getsockname()[1]", REFUSED, 4464)],
    ),
    "setsockopt": (
        "Sockopt",
        "if ctx.level == 1 and ctx.optname == 2:\n    return 0\nreturn 1",
        [(f"{UDP}; s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); it = 1", REFUSED, 1)],
    ),
    "getsockopt": (
        "Sockopt",
        "if ctx.level == 1 and ctx.optname == 2:\n    ctx.retval = 0\n    v = ctx.optval(Number)\n    if v is not None:\n        v.n = 42\nreturn 1",
        [(f"{UDP}; it = s.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)", 42, 0)],
    ),
    "cgroup_skb_egress": (
        "SkBuff",
        "if ctx.protocol == htons(0x0800) and ctx.remote_port == htonl(4465):\n    return 0\nreturn 1",
        [
            (
                f"{UDP}; t = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); t.bind(('127.0.0.1', 4466)); t.settimeout(0.2)\ns.sendto(b'q', ('127.0.0.1', 4466))\nit = t.recv(1).decode()",
                "q",
                "q",
            ),
            (f"{UDP}; s.connect(('127.0.0.1', 4465)); s.send(b'x'); it = 1", REFUSED, 1),
        ],
    ),
    "cgroup_skb_ingress": (
        "SkBuff",
        "ip = ctx.packet(Ip)\nif ip is None:\n    return 0\nreturn 0 if ip.protocol == 17 else 1",
        [
            (
                f"{UDP}; s.bind(('127.0.0.1', 4467)); s.settimeout(0.2); s.sendto(b'q', s.getsockname())\ntry:\n    it = s.recv(1).decode()\nexcept TimeoutError:\n    it = 'nothing'",
                "nothing",
                "q",
            )
        ],
    ),
    "cgroup_device": (
        "CgroupDevice",
        "return 0 if ctx.major == 1 and ctx.minor == 3 else 1",
        [("open('/dev/null').close(); it = 1", REFUSED, 1), ("open('/dev/zero').close(); it = 1", 1, 1)],
    ),
    "sysctl": (
        "Sysctl",
        "return 0 if ctx.write == 0 else 1",
        [("it = open('/proc/sys/net/ipv4/ip_forward').read()[:1] in '01'", REFUSED, True)],
    ),
}  # fmt: skip

DECLARATIONS = """
class Number(Struct):
    n: u32

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
"""


@pytest.fixture(scope="module")
def actor() -> Iterator[Actor]:
    """The process in the cgroup."""
    made = Actor()
    yield made
    made.close()


def module_of(write_module: MakeModule, decorator: str, context: str, body: str) -> ModuleType:
    """A module with one program, `prog`."""
    indented = body.replace("\n", "\n    ")
    return write_module(f"{DECLARATIONS}\n@bpf.{decorator}\ndef prog(ctx: {context}) -> int:\n    {indented}\n")


@pytest.mark.parametrize("decorator", IN_A_CGROUP)
def test_in_a_cgroup(write_module: MakeModule, actor: Actor, decorator: str) -> None:
    """What a process of the cgroup does goes as the program says while it is attached, and as ever before and after."""
    context, body, deeds = IN_A_CGROUP[decorator]
    module = module_of(write_module, decorator, context, body)
    for deed, _, without in deeds:
        assert actor.do(deed) == without
    with Program.load(compile_program(module.prog)) as program, attach_cgroup(program, actor.cgroup):
        for deed, seen, _ in deeds:
            assert actor.do(deed) == seen
    for deed, _, without in deeds:
        assert actor.do(deed) == without


def test_sk_lookup_sends_a_range_of_ports_to_one_socket(write_module: MakeModule, namespace: Namespace) -> None:
    """The program hands over the socket of a map, and the client is connected whatever port of the range it takes."""
    module = write_module("""
class Seen(Struct):
    n: u64

sockets = SockMap(max_entries=1)

@bpf.sk_lookup
def steer(ctx: SkLookup) -> int:
    if ctx.protocol == 6 and 7000 <= ctx.local_port < 7010:
        chosen = sockets.lookup(0)
        if chosen is None:
            return 1
        h.sk_assign(ctx, chosen, 0)
        sk_release(chosen)
    return 1
""")
    with ExitStack() as stack:
        loaded = stack.enter_context(
            Collection.load(compile_collection([module.steer], {}, {}, target=running_target()))
        )
        server = stack.enter_context(namespace.socket(socket.SOCK_STREAM))
        server.bind(("127.0.0.1", 0))
        server.listen()
        loaded.maps["sockets"].update(struct.pack("I", 0), struct.pack("Q", server.fileno()))
        stack.enter_context(attach_netns(loaded.programs["steer"], namespace.path))
        for port in (7000, 7009):
            client = stack.enter_context(namespace.socket(socket.SOCK_STREAM))
            client.connect(("127.0.0.1", port))
            accepted, _ = server.accept()
            with accepted:
                assert accepted.getsockname()[1] == port
        outside = stack.enter_context(namespace.socket(socket.SOCK_STREAM))
        with pytest.raises(ConnectionRefusedError):
            outside.connect(("127.0.0.1", 7010))


def test_socket_filter_keeps_what_it_says(write_module: MakeModule) -> None:
    """Of a datagram on a socket pair the first bytes are kept, or nothing."""
    module = module_of(write_module, "socket_filter", "SkBuff", "return 3 if ctx.len > 4 else 0")
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with left, right, Program.load(compile_program(module.prog)) as program:
        right.setsockopt(socket.SOL_SOCKET, 50, struct.pack("i", program.fd))  # SO_ATTACH_BPF
        right.setblocking(False)
        left.send(b"tiny")
        with pytest.raises(BlockingIOError):
            right.recv(10)
        left.send(b"longer")
        assert right.recv(10) == b"lon"


def test_sk_reuseport_chooses_the_socket(write_module: MakeModule, namespace: Namespace) -> None:
    """Among two sockets on one port, the datagram's first byte says which."""
    module = write_module("""
class First(Struct, packed=True):
    udp: Annotated[bytes, Length(8)]
    which: u8

sockets = ReuseportSockArray(max_entries=2)

@bpf.sk_reuseport
def choose(ctx: SkReuseport) -> int:
    first = ctx.packet(First)
    if first is None:
        return 0
    sockets.select(ctx, first.which & 1)
    return 1
""")
    with ExitStack() as stack:
        loaded = stack.enter_context(Collection.load(compile_collection([module.choose], {}, {})))
        receivers = [stack.enter_context(namespace.socket(socket.SOCK_DGRAM)) for _ in range(2)]
        for each in receivers:
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        receivers[0].setsockopt(
            socket.SOL_SOCKET, 52, struct.pack("i", loaded.programs["choose"].fd)
        )  # SO_ATTACH_REUSEPORT_EBPF
        for number, each in enumerate(receivers):
            each.bind(("127.0.0.1", 7100))
            loaded.maps["sockets"].update(struct.pack("I", number), struct.pack("Q", each.fileno()))
        sender = stack.enter_context(namespace.socket(socket.SOCK_DGRAM))
        for which in (1, 0, 0, 1):
            sender.sendto(bytes([which]), ("127.0.0.1", 7100))
            assert receivers[which].recv(10) == bytes([which])


@pytest.mark.needs(PROGRAM_TYPES[ProgramType.SYSCALL])
def test_syscall_changes_its_arguments(write_module: MakeModule) -> None:
    """User space runs it with a struct, and gets back what it has made of it."""
    module = write_module("""
class Sum(SyscallArguments):
    a: u64
    b: u64
    total: u64

@bpf.syscall
def add(args: Sum) -> int:
    args.total = args.a + args.b
    return 7
""")
    with Program.load(compile_program(module.add)) as program:
        run = program.run(context=struct.pack("QQQ", 3, 4, 0))
    assert (run.retval, struct.unpack("QQQ", run.context)) == (7, (3, 4, 7))


def test_flow_dissector_fills_in_the_keys(write_module: MakeModule) -> None:
    """What the program has found out comes back from a test run."""
    module = module_of(
        write_module,
        "flow_dissector",
        "SkBuff",
        "keys = ctx.flow_keys\nkeys.nhoff = 14\nkeys.sport = htons(7)\nkeys.ip_proto = 17\nreturn 0",
    )
    with Program.load(compile_program(module.prog)) as program:
        run = program.run(bytes(12) + b"\x08\x00" + bytes(40))
    keys = struct.unpack_from("HHHBBBBHHH", run.data)
    assert (keys[0], keys[6], keys[8]) == (14, 17, socket.htons(7))


LOADED = [
    ("lwt_in", "SkBuff", "return 2 if ctx.len > 100 else 0"),
    ("lwt_out", "SkBuff", "return 2 if ctx.len > 100 else 0"),
    ("lwt_xmit", "SkBuff", "ctx.mark = 3\nreturn 0"),
    ("lwt_seg6local", "SkBuff", "return 0 if ctx.protocol == htons(0x86DD) else 2"),
    ("xdp_devmap", "XdpMd", "return 1 if ctx.egress_ifindex == 7 else 2"),
    ("xdp_cpumap", "XdpMd", "return 1 if ctx.ingress_ifindex == 7 else 2"),
    ("stream_parser", "SkBuff", "return ctx.len"),
    ("stream_verdict", "SkBuff", "return 1 if ctx.local_port == 80 else 0"),
    ("skb_verdict", "SkBuff", "return 1 if ctx.remote_ip4 == htonl(1) else 0"),
    ("sk_reuseport_migrate", "SkReuseport", "return 1 if ctx.ip_protocol == 6 else 0"),
    ("sock_release", "Sock", "return 1 if ctx.state == 7 else 1"),
]


@pytest.mark.parametrize(("decorator", "context", "body"), LOADED, ids=[each[0] for each in LOADED])
def test_the_kernel_takes_it(write_module: MakeModule, decorator: str, context: str, body: str) -> None:
    """A program of the hook is loaded, as the type that the hook wants."""
    spec = compile_program(module_of(write_module, decorator, context, body).prog)
    with Program.load(spec) as program:
        assert program.info().type == spec.type


@pytest.mark.needs(PROGRAM_TYPES[ProgramType.NETFILTER])
def test_netfilter_sees_the_hook_and_the_packet(write_module: MakeModule) -> None:
    """The fields of bpf_nf_ctx come as parameters, which the verifier knows to be trusted."""
    module = write_module("""
class nf_hook_state(KernelStruct):
    hook: u8

class sk_buff(KernelStruct):
    len: u32

@bpf.netfilter
def guard(state: nf_hook_state, skb: sk_buff) -> int:
    return 0 if state.hook == 1 and skb.len > 1000 else 1
""")
    with Program.load(compile_program(module.guard, target=running_target())) as program:
        assert program.info().type == ProgramType.NETFILTER


@pytest.mark.needs(PROGRAM_TYPES[ProgramType.PERF_EVENT])
def test_perf_event_reads_registers_and_period(write_module: MakeModule) -> None:
    """The registers, the sample's period and its address."""
    module = module_of(
        write_module,
        "perf_event",
        "PerfEventData",
        "return 1 if ctx.ip > ctx.sp and ctx.sample_period > ctx.addr else 0",
    )
    with Program.load(compile_program(module.prog)) as program:
        assert program.info().type == ProgramType.PERF_EVENT
