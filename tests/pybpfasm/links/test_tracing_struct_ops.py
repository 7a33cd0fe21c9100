"""struct_ops: a TCP congestion control of three programs, used by real connections."""

import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest
from small_network import Namespace
from small_programs import count

from pybpfasm import isa
from pybpfasm.errors import BpfError, KernelError, UnsupportedFeatureError
from pybpfasm.isa import Instruction, Label
from pybpfasm.kernel import features
from pybpfasm.kernel.links import Attachment, Link, StructOpsLink, attach_struct_ops
from pybpfasm.kernel.maps import Map
from pybpfasm.kernel.programs import Program
from pybpfasm.spec import ProgramSpec
from pybpfasm.uapi import AttachType, LinkType, ProgramType

pytestmark = pytest.mark.needs(features.STRUCT_OPS)

STRUCT, NAME = "tcp_congestion_ops", "pybpfasm_test"
# Segments, for ssthresh and undo_cwnd: a window that never shrinks much.
WINDOW = 16


def member(name: str, code: tuple[Instruction | Label, ...], maps: Mapping[str, Map]) -> Program:
    """A program for a member of the struct."""
    return Program.load(
        ProgramSpec(
            name,
            ProgramType.STRUCT_OPS,
            AttachType(0),
            "",
            tuple(isa.resolve_labels(code)),
            {},
            attach_to=f"{STRUCT}.{name}",
        ),
        maps,
    )


@pytest.fixture
def congestion(counts: Map) -> Iterator[dict[str, Program]]:
    """The functions that a congestion control must have; the one for each acknowledgement counts in slot 0 or 1."""
    window = (isa.mov_imm(0, WINDOW), isa.exit_program())
    with ExitStack() as held:
        yield {
            "ssthresh": held.enter_context(member("ssthresh", window, {})),
            "undo_cwnd": held.enter_context(member("undo_cwnd", window, {})),
            "cong_avoid": held.enter_context(avoiding(counts, 0)),
        }


def avoiding(counts: Map, index: int) -> Program:
    """Counts acknowledgements."""
    code = (
        isa.store_imm(4, 10, -4, index),
        isa.mov(2, 10),
        isa.alu_imm(isa.Alu.ADD, 2, -4),
        isa.load_map(1, "counts"),
        isa.call(1),
        isa.jump_if_imm(isa.Jump.JEQ, 0, 0, "out"),
        isa.mov_imm(1, 1),
        isa.atomic(isa.Atomic.ADD, 8, 0, 0, 1),
        Label("out"),
        isa.mov_imm(0, 0),
        isa.exit_program(),
    )
    return member("cong_avoid", code, {"counts": counts})


def transfer(namespace: Namespace) -> None:
    """Send some bytes over a connection that uses the congestion control."""
    with namespace.socket(socket.SOCK_STREAM) as listener, namespace.socket(socket.SOCK_STREAM) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, NAME.encode())
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        client.connect(listener.getsockname())
        accepted, _ = listener.accept()
        with accepted:
            for _ in range(20):
                client.sendall(bytes(5000))
                assert len(accepted.recv(5000, socket.MSG_WAITALL)) == 5000


def register(programs: Mapping[str, Program], name: str = NAME) -> Attachment:
    """Register the congestion control."""
    return attach_struct_ops(STRUCT, programs, {"name": name})


def test_a_congestion_control(namespace: Namespace, counts: Map, congestion: dict[str, Program]) -> None:
    """While it is registered, connections can use it, and its programs run; afterwards there is none of that name."""
    with register(congestion):
        transfer(namespace)
        assert count(counts) > 0
    with pytest.raises(FileNotFoundError):
        transfer(namespace)


def test_a_name_that_is_taken(congestion: dict[str, Program]) -> None:
    """A second one of the same name is refused; the first goes on."""
    with (
        register(congestion),
        pytest.raises(KernelError, match=r"^cannot register tcp_congestion_ops: one of that name"),
    ):
        register(congestion)
    register(congestion).close()


def test_what_is_wrong_with_a_struct(congestion: dict[str, Program]) -> None:
    """A missing function, an unknown member or struct, a value that does not fit: each is told, and nothing remains."""
    incomplete = {"ssthresh": congestion["ssthresh"]}
    with pytest.raises(KernelError, match=r"^cannot register tcp_congestion_ops: a function that must be there"):
        register(incomplete)
    with pytest.raises(BpfError, match=r"^struct tcp_congestion_ops of this kernel has no member 'nothing'$"):
        register({"nothing": congestion["ssthresh"]})
    with pytest.raises(BpfError, match=r"^this kernel has no struct_ops called tcp_nothing$"):
        attach_struct_ops("tcp_nothing", {})
    with pytest.raises(BpfError, match=r"^tcp_congestion_ops\.name has 16 bytes, 'a{17}' has 17$"):
        register(congestion, "a" * 17)
    with pytest.raises(BpfError, match=r"^tcp_congestion_ops\.name is no function: it takes no program$"):
        register({"name": congestion["ssthresh"]})


def test_a_program_of_no_member() -> None:
    """What a program is for is told by its struct and member; others are refused when it is loaded."""
    code = (isa.mov_imm(0, 0), isa.exit_program())
    for attach_to, message in (
        ("tcp_congestion_ops.nothing", "struct tcp_congestion_ops of this kernel has no member 'nothing'"),
        ("no_such_ops.init", "this kernel has no struct no_such_ops"),
        ("ssthresh", "attach_to is 'ssthresh', but has to name a struct and its member"),
    ):
        spec = ProgramSpec("lost", ProgramType.STRUCT_OPS, AttachType(0), "", code, {}, attach_to=attach_to)
        with pytest.raises(BpfError, match=message):
            Program.load(spec)


@pytest.mark.needs(features.STRUCT_OPS_LINK)
def test_the_link_of_a_struct(namespace: Namespace, counts: Map, congestion: dict[str, Program], bpffs: Path) -> None:
    """Pinned it stays registered; another struct takes its place with new programs; detached, it is gone."""
    with register(congestion) as link:
        link.pin(bpffs / "link")
    with StructOpsLink.open(bpffs / "link") as adopted, avoiding(counts, 1) as other:
        assert adopted.info().type == LinkType.STRUCT_OPS
        assert adopted.info().target > 0
        with pytest.raises(BpfError, match=r"use replace$"):
            adopted.update(other)
        before = count(counts)
        adopted.replace(STRUCT, congestion | {"cong_avoid": other}, {"name": NAME})
        transfer(namespace)
        assert count(counts) == before
        assert count(counts, 1) > 0
        adopted.unpin()
    with pytest.raises(FileNotFoundError):
        transfer(namespace)


def test_without_links(
    namespace: Namespace, counts: Map, congestion: dict[str, Program], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on kernels before 6.4: registered by the map itself, until the end."""
    from pybpfasm.kernel.links import struct_ops

    monkeypatch.setattr(struct_ops, "lacks", lambda feature: feature is features.STRUCT_OPS_LINK)
    with register(congestion) as made:
        assert not isinstance(made, Link)
        transfer(namespace)
        assert count(counts) > 0
        with pytest.raises(UnsupportedFeatureError, match=r"links to struct_ops: it needs Linux 6\.4"):
            made.info()
    with pytest.raises(FileNotFoundError):
        transfer(namespace)
