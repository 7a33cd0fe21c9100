"""Links to network namespaces: sk_lookup chooses the socket of a packet, the flow dissector is run on each."""

import errno
import os
import socket
import time
from pathlib import Path

import pytest
from small_network import NOTHING_SECONDS, SOMETHING_SECONDS, Namespace, delivered
from small_programs import count, counting, load, returning

from pybpfasm import isa
from pybpfasm.errors import KernelError
from pybpfasm.isa import Label
from pybpfasm.kernel import features
from pybpfasm.kernel.links import Link
from pybpfasm.kernel.links.netns import attach_netns, query_netns
from pybpfasm.kernel.maps import Map
from pybpfasm.kernel.programs import Program
from pybpfasm.spec import MapSpec, Untyped
from pybpfasm.uapi import AttachType, Helper, LinkType, MapType, ProgramType, SkAction

pytestmark = pytest.mark.needs(features.NETNS_LINK)

LOCAL = "127.0.0.1"

# uapi linux/if_packet.h; the mode, in the upper half, is PACKET_FANOUT_HASH, 0.
SOL_PACKET, PACKET_FANOUT = 263, 18


def steering(sockets: Map) -> Program:
    """All packets to the socket in slot 0 of the map, whatever their port."""
    code = (
        isa.mov(6, 1),
        isa.store_imm(4, 10, -4, 0),
        isa.mov(2, 10),
        isa.alu_imm(isa.Alu.ADD, 2, -4),
        isa.load_map(1, "sockets"),
        isa.call(Helper.MAP_LOOKUP_ELEM),
        isa.jump_if_imm(isa.Jump.JEQ, 0, 0, "pass"),
        isa.mov(7, 0),
        isa.mov(1, 6),
        isa.mov(2, 7),
        isa.mov_imm(3, 0),
        isa.call(Helper.SK_ASSIGN),
        isa.mov(1, 7),
        isa.call(Helper.SK_RELEASE),
        Label("pass"),
        isa.mov_imm(0, SkAction.PASS),
        isa.exit_program(),
    )
    return load(ProgramType.SK_LOOKUP, AttachType.SK_LOOKUP, code, "steer", {"sockets": sockets})


def deciding(verdict: SkAction, name: str = "test") -> Program:
    """The same verdict on every packet."""
    return returning(ProgramType.SK_LOOKUP, AttachType.SK_LOOKUP, verdict, name)


def dissecting(counts: Map) -> Program:
    """A flow dissector that finds nothing and counts."""
    return counting(ProgramType.FLOW_DISSECTOR, AttachType.FLOW_DISSECTOR, 0, counts)


def reaches(namespace: Namespace, port: int, receiver: socket.socket, seconds: float) -> bool:
    """Whether a datagram to a port gets to a socket."""
    number = os.urandom(8)
    with namespace.socket(socket.SOCK_DGRAM) as sender:
        sender.sendto(number, (LOCAL, port))
        receiver.settimeout(seconds)
        try:
            return receiver.recv(64) == number
        except TimeoutError:
            return False


def test_packets_are_steered(namespace: Namespace) -> None:
    """A datagram to a port that nobody has gets to the socket of the program's choice, while the link is there."""
    with (
        namespace.receiver(LOCAL) as receiver,
        Map.create(MapSpec("sockets", MapType.SOCKMAP, Untyped(4), Untyped(8), 1)) as sockets,
        steering(sockets) as program,
    ):
        sockets.update(bytes(4), receiver.fileno().to_bytes(8, "little"))
        with attach_netns(program, namespace.fd) as link:
            assert reaches(namespace, 9, receiver, SOMETHING_SECONDS)
            info = link.info()
            assert (info.type, info.attach_type) == (LinkType.NETNS, AttachType.SK_LOOKUP)
            assert (info.target, info.program_id) == (os.fstat(namespace.fd).st_ino, program.info().id)
        assert not reaches(namespace, 9, receiver, NOTHING_SECONDS)


def test_several_and_a_refusal(namespace: Namespace) -> None:
    """Programs stand beside each other, in the order of attachment; one that drops is enough; update lets it pass."""
    with (
        namespace.receiver(LOCAL) as receiver,
        namespace.receiver(LOCAL) as sender,
        deciding(SkAction.PASS) as let,
        deciding(SkAction.DROP) as drop,
        deciding(SkAction.PASS) as other,
    ):
        with attach_netns(let, namespace.path) as first, attach_netns(drop, namespace.path) as second:
            ids = (let.info().id, drop.info().id)
            assert query_netns(AttachType.SK_LOOKUP, namespace.fd).ids == ids
            assert not delivered(sender, receiver, NOTHING_SECONDS)
            second.update(other, old=drop)
            assert delivered(sender, receiver, SOMETHING_SECONDS)
            first.update(drop)
            assert not delivered(sender, receiver, NOTHING_SECONDS)
            first.detach()
            assert delivered(sender, receiver, SOMETHING_SECONDS)
            assert query_netns(AttachType.SK_LOOKUP, namespace.fd).ids == (other.info().id,)
        assert query_netns(AttachType.SK_LOOKUP, namespace.fd).ids == ()


def test_own_namespace(namespace: Namespace) -> None:
    """Without a namespace it is the calling thread's."""
    with deciding(SkAction.PASS) as program, namespace.run(lambda: attach_netns(program)) as link:
        assert link.info().target == os.fstat(namespace.fd).st_ino


def test_a_pin_keeps_it(namespace: Namespace, bpffs: Path) -> None:
    """Pinned, it outlives its descriptor; adopted from the pin, it is the same link."""
    with namespace.receiver(LOCAL) as receiver, namespace.receiver(LOCAL) as sender:
        with deciding(SkAction.DROP) as drop, attach_netns(drop, namespace.fd) as link:
            link.pin(bpffs / "link")
            number = link.info().id
        assert not delivered(sender, receiver, NOTHING_SECONDS)
        with Link.open(bpffs / "link") as again:
            assert again.info().id == number
            again.unpin()
        deadline = time.monotonic() + SOMETHING_SECONDS  # a worker of the kernel's ends it
        while query_netns(AttachType.SK_LOOKUP, namespace.fd).ids and time.monotonic() < deadline:
            time.sleep(0.01)
        assert delivered(sender, receiver, SOMETHING_SECONDS)


def test_the_flow_dissector_runs(namespace: Namespace, counts: Map) -> None:
    """Who wants a packet's flow hash (a fan-out of packet sockets) has the program run; there is one at a time."""
    with dissecting(counts) as program, attach_netns(program, namespace.fd) as link:
        assert link.info().attach_type == AttachType.FLOW_DISSECTOR
        assert query_netns(AttachType.FLOW_DISSECTOR, namespace.fd).ids == (program.info().id,)
        with pytest.raises(KernelError, match=r"one flow dissector, 64 sk_lookup programs \(E2BIG\)$"):
            attach_netns(program, namespace.fd)
        hash_a_packet(namespace)
        assert count(counts) > 0
        with dissecting(counts) as other:
            link.update(other)
            assert link.info().program_id == other.info().id
    before = count(counts)
    hash_a_packet(namespace)
    assert count(counts) == before


def hash_a_packet(namespace: Namespace) -> None:
    """Send a datagram past a fan-out by hash, and wait until it has been seen."""
    with (
        namespace.run(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))) as watcher,
        namespace.receiver(LOCAL) as receiver,
        namespace.receiver(LOCAL) as sender,
    ):
        watcher.settimeout(SOMETHING_SECONDS)
        watcher.setsockopt(SOL_PACKET, PACKET_FANOUT, os.getpid() & 0xFFFF)
        assert delivered(sender, receiver, SOMETHING_SECONDS)
        watcher.recv(2048)


def test_a_namespace_that_vanished() -> None:
    """The link of a namespace that is gone has no target, takes no program, and can be detached and closed."""
    namespace = Namespace()
    with deciding(SkAction.DROP) as drop, attach_netns(drop, namespace.fd) as link:
        namespace.close()
        deadline = time.monotonic() + SOMETHING_SECONDS  # a worker of the kernel's takes it apart
        while link.info().target and time.monotonic() < deadline:
            time.sleep(0.01)
        assert link.info().target == 0
        with deciding(SkAction.PASS) as other, pytest.raises(KernelError, match=r"is gone \(ENOLINK\)$") as caught:
            link.update(other)
        assert caught.value.errno == errno.ENOLINK
        link.detach()


def test_what_cannot_be(namespace: Namespace, tmp_path: Path) -> None:
    """No namespace, another kind of target, of program or of hook: each is one line."""
    with deciding(SkAction.PASS, "let") as let:
        with pytest.raises(KernelError, match=rf"^cannot open {tmp_path}/none: .*\(ENOENT\)$"):
            attach_netns(let, tmp_path / "none")
        with pytest.raises(KernelError, match=r"^cannot attach program let to the network namespace: .*\(EINVAL\)$"):
            attach_netns(let, tmp_path)
    with returning(ProgramType.XDP, AttachType.XDP, 2) as other, pytest.raises(KernelError):
        attach_netns(other, namespace.fd)
    with pytest.raises(KernelError, match=r"namespace's hook xdp: .*\(EINVAL\)$"):
        query_netns(AttachType.XDP, namespace.fd)
