"""netkit links, on kernels that were built with it: programs between the two ends, attached by the primary one."""

from collections.abc import Iterator

import pytest
from small_network import Wire
from small_programs import UNBOUND, count, counting, returning

from pybpfasm.errors import KernelError, UnsupportedFeatureError
from pybpfasm.kernel import features
from pybpfasm.kernel.links.netkit import NetkitEnd, attach_netkit, query_netkit
from pybpfasm.kernel.links.order import FIRST
from pybpfasm.kernel.maps import Map
from pybpfasm.kernel.programs import Program
from pybpfasm.uapi import AttachType, LinkType, ProgramType, TcxAction

PRIMARY, PEER = NetkitEnd.PRIMARY, NetkitEnd.PEER


@pytest.fixture
def wire() -> Iterator[Wire]:
    """Two namespaces joined by a netkit pair, whose primary interface is on the left."""
    made = Wire("netkit")
    yield made
    made.close()


def program(verdict: TcxAction) -> Program:
    """A program with one verdict."""
    return returning(ProgramType.SCHED_CLS, UNBOUND, verdict)


@pytest.mark.needs(features.NETKIT_LINK)
def test_packets_are_dropped(wire: Wire, counts: Map) -> None:
    """What the primary sends is dropped at its end; the other end's program sees only what the peer sends."""
    with (
        program(TcxAction.DROP) as drop,
        counting(ProgramType.SCHED_CLS, UNBOUND, TcxAction.DROP, counts) as other,
        wire.left.run(lambda: attach_netkit(other, "wire0", PEER)) as link,
    ):
        assert wire.passes()
        assert count(counts) == 0
        info = link.info()
        assert (info.type, info.attach_type) == (LinkType.NETKIT, AttachType.NETKIT_PEER)
        assert info.program_id == other.info().id
        with wire.left.run(lambda: attach_netkit(drop, "wire0", PRIMARY)):
            assert wire.drops()
        assert wire.passes()


@pytest.mark.needs(features.NETKIT_LINK)
def test_order_and_update(wire: Wire) -> None:
    """The first final verdict stands; a link is updated in place; the query has the order and the links."""
    with (
        program(TcxAction.DROP) as drop,
        program(TcxAction.PASS) as let,
        program(TcxAction.NEXT) as following,
        wire.left.run(lambda: attach_netkit(drop, "wire0", PRIMARY)) as last,
        wire.left.run(lambda: attach_netkit(following, "wire0", PRIMARY, order=FIRST)) as first,
    ):
        found = wire.left.run(lambda: query_netkit("wire0", PRIMARY))
        assert [(each.id, each.link_id) for each in found.programs] == [
            (following.info().id, first.info().id),
            (drop.info().id, last.info().id),
        ]
        assert wire.drops()
        first.update(let, old=following)
        assert wire.passes()
        first.detach()
        assert wire.drops()
        assert first.info().target == 0


@pytest.mark.needs(features.NETKIT_LINK)
def test_an_interface_that_vanished(wire: Wire) -> None:
    """The link of a deleted pair has no target, takes no program, and can be detached and closed."""
    with (
        program(TcxAction.DROP) as drop,
        program(TcxAction.PASS) as let,
        wire.left.run(lambda: attach_netkit(drop, "wire0", PRIMARY)) as link,
    ):
        wire.left.ip("link del wire0")
        assert link.info().target == 0
        with pytest.raises(KernelError, match=r"is gone \(ENOLINK\)$"):
            link.update(let)
        link.detach()


@pytest.mark.needs(features.NETKIT_LINK)
def test_what_cannot_be(wire: Wire) -> None:
    """The peer, another kind of interface: each is one line."""
    with program(TcxAction.DROP) as drop:
        with pytest.raises(KernelError, match=r"are attached by the primary interface \(EACCES\)$"):
            wire.right.run(lambda: attach_netkit(drop, "wire1", PRIMARY))
        with pytest.raises(KernelError, match=r"is not of kind netkit \(ENXIO\)$"):
            wire.left.run(lambda: attach_netkit(drop, "lo", PRIMARY))


def test_without_netkit() -> None:
    """A kernel without netkit is told apart from a wrong interface."""
    expected: tuple[type[Exception], str] = (KernelError, r"is not of kind netkit \(ENXIO\)$")
    if not features.NETKIT_LINK.supported():
        expected = (
            UnsupportedFeatureError,
            "does not support netkit links: it needs Linux 6.7 or later, built with CONFIG_NETKIT$",
        )
    with program(TcxAction.DROP) as drop, pytest.raises(expected[0], match=expected[1]):
        attach_netkit(drop, "lo", PRIMARY)
