"""tcx links and tc filters: packets dropped on their way in and out, in order, by one or the other."""

import errno
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from small_network import Wire
from small_programs import UNBOUND, count, counting, returning

from pybpfasm.errors import BpfError, KernelError
from pybpfasm.kernel import features
from pybpfasm.kernel.links import Link
from pybpfasm.kernel.links.order import FIRST, LAST, LinkId, Order, ProgramId, after, before
from pybpfasm.kernel.links.tc import TcFilter, attach_tc, attach_traffic, remove_clsact
from pybpfasm.kernel.links.tcx import Direction, attach_tcx, query_tcx
from pybpfasm.kernel.maps import Map
from pybpfasm.kernel.programs import Program
from pybpfasm.uapi import AttachType, LinkType, ProgramType, TcxAction

INTERFACE = "wire1"
INGRESS, EGRESS = Direction.INGRESS, Direction.EGRESS

needs_tcx = pytest.mark.needs(features.TCX_LINK)


def program(verdict: TcxAction) -> Program:
    """A sched_cls program with one verdict."""
    return returning(ProgramType.SCHED_CLS, UNBOUND, verdict)


def counted(counts: Map, index: int, verdict: TcxAction = TcxAction.NEXT) -> Program:
    """One that counts the packets it sees."""
    return counting(ProgramType.SCHED_CLS, UNBOUND, verdict, counts, index)


# --- tcx --------------------------------------------------------------------------------------------------------------


@needs_tcx
def test_tcx_drops(wire: Wire) -> None:
    """At the receiver's ingress or the sender's egress: while the link is there no packet arrives."""
    with program(TcxAction.DROP) as drop:
        with wire.right.run(lambda: attach_tcx(drop, INTERFACE, INGRESS)) as link:
            info = link.info()
            assert (info.type, info.attach_type) == (LinkType.TCX, AttachType.TCX_INGRESS)
            assert (info.target, info.program_id) == (wire.right.index(INTERFACE), drop.info().id)
            assert wire.drops()
        assert wire.passes()
        with wire.left.run(lambda: attach_tcx(drop, "wire0", EGRESS)):
            assert wire.drops()
        with wire.left.run(lambda: attach_tcx(drop, "wire0", INGRESS)):
            assert wire.passes()


@needs_tcx
def test_tcx_order(wire: Wire) -> None:
    """First, last, before and after, by descriptors and by ids of programs and links; the query has the order."""

    def attach(made: Program, order: Order | None) -> Link:
        return attach_tcx(made, INTERFACE, INGRESS, order=order)

    def order() -> list[int]:
        return list(wire.right.run(lambda: query_tcx(INTERFACE, INGRESS)).ids)

    made = [program(TcxAction.NEXT) for _ in range(7)]
    ids = [each.info().id for each in made]
    places: list[Callable[[list[Link]], Order | None]] = [
        lambda _: None,
        lambda _: FIRST,
        lambda _: LAST,
        lambda links: before(links[2]),
        lambda _: after(made[1]),
        lambda links: before(LinkId(links[0].info().id)),
        lambda _: after(ProgramId(ids[2])),
    ]
    expected = [[0], [1, 0], [1, 0, 2], [1, 0, 3, 2], [1, 4, 0, 3, 2], [1, 4, 5, 0, 3, 2], [1, 4, 5, 0, 3, 2, 6]]
    links: list[Link] = []
    for each, place, wanted in zip(made, places, expected, strict=True):
        where = place(links)
        links.append(wire.right.run(lambda made=each, where=where: attach(made, where)))
        assert order() == [ids[number] for number in wanted]
    found = wire.right.run(lambda: query_tcx(INTERFACE, INGRESS))
    assert found.programs[0].link_id == links[1].info().id
    for each in (*links, *made):
        each.close()
    assert order() == []


@needs_tcx
def test_tcx_verdicts_in_order(wire: Wire, counts: Map) -> None:
    """NEXT hands on, the first other verdict is final: who comes after it sees nothing."""
    with (
        counted(counts, 0) as first,
        counted(counts, 1, TcxAction.PASS) as second,
        program(TcxAction.DROP) as third,
        wire.right.run(lambda: attach_tcx(first, INTERFACE, INGRESS)),
        wire.right.run(lambda: attach_tcx(third, INTERFACE, INGRESS)) as dropping,
    ):
        assert wire.drops()
        with wire.right.run(lambda: attach_tcx(second, INTERFACE, INGRESS, order=before(dropping))):
            assert wire.passes()
    assert (count(counts, 0), count(counts, 1)) == (2, 1)


@needs_tcx
def test_tcx_revision(wire: Wire) -> None:
    """An attachment that expects what was seen is refused once it has changed: ESTALE."""
    with (
        program(TcxAction.NEXT) as one,
        program(TcxAction.NEXT) as two,
        program(TcxAction.NEXT) as three,
        wire.right.run(lambda: attach_tcx(one, INTERFACE, INGRESS)),
    ):
        seen = wire.right.run(lambda: query_tcx(INTERFACE, INGRESS)).revision
        with wire.right.run(lambda: attach_tcx(two, INTERFACE, INGRESS, expected_revision=seen)):
            with pytest.raises(KernelError, match=r"has changed since.*query again \(ESTALE\)$") as caught:
                wire.right.run(lambda: attach_tcx(three, INTERFACE, INGRESS, expected_revision=seen))
            assert caught.value.errno == errno.ESTALE


@needs_tcx
def test_tcx_link_in_use(wire: Wire, bpffs: Path) -> None:
    """Updated in place, pinned and adopted, detached: the link stays the same one."""
    with program(TcxAction.DROP) as drop, program(TcxAction.PASS) as let:
        with wire.right.run(lambda: attach_tcx(drop, INTERFACE, INGRESS)) as link:
            number = link.info().id
            link.pin(bpffs / "link")
        assert wire.drops()
        with Link.open(bpffs / "link") as again:
            again.update(let, old=drop)
            assert wire.passes()
            assert (again.info().id, again.info().program_id) == (number, let.info().id)
            again.update(drop)
            assert wire.drops()
            again.detach()
            assert wire.passes()
            assert again.info().target == 0
            with pytest.raises(KernelError, match=r"is gone \(ENOLINK\)$"):
                again.update(let)


@needs_tcx
def test_tcx_interface_vanished(wire: Wire) -> None:
    """The link of a deleted interface has no target, takes no program, and can be detached and closed."""
    with (
        program(TcxAction.DROP) as drop,
        program(TcxAction.DROP) as other,
        wire.right.run(lambda: attach_tcx(drop, INTERFACE, INGRESS)) as link,
    ):
        wire.right.ip(f"link del {INTERFACE}")
        assert link.info().target == 0
        with pytest.raises(KernelError, match=r"is gone \(ENOLINK\)$"):
            link.update(other)
        link.detach()


@needs_tcx
def test_tcx_cannot(wire: Wire) -> None:
    """A program twice, a neighbour that is not there, no interface, another kind: each is one line."""

    def refused(message: str, made: Program, interface: str = INTERFACE, order: Order | None = None) -> None:
        with pytest.raises(KernelError, match=message):
            wire.right.run(lambda: attach_tcx(made, interface, INGRESS, order=order))

    xdp = returning(ProgramType.XDP, AttachType.XDP, 2)
    with program(TcxAction.NEXT) as one, program(TcxAction.NEXT) as two, xdp:
        with wire.right.run(lambda: attach_tcx(one, INTERFACE, INGRESS)):
            refused(r"^cannot attach program test to tcx ingress of interface wire1: this .* twice \(EEXIST\)$", one)
            refused(r"is not attached there \(ENOENT\)$", two, order=after(two))
            refused(r"none of that name or index \(ENODEV\)$", two, "none")
            refused(r"is not of type sched_cls.*\(EINVAL\)$", xdp)
        assert wire.right.run(lambda: query_tcx(INTERFACE, EGRESS)).ids == ()


# --- tc filters -------------------------------------------------------------------------------------------------------


def test_a_filter_drops(wire: Wire) -> None:
    """At the receiver's ingress or the sender's egress: while the filter is there no packet arrives."""

    def inside(interface: str, direction: Direction) -> None:
        with program(TcxAction.DROP) as drop, attach_tc(drop, interface, direction):
            assert wire.drops()
        assert wire.passes()

    wire.right.run(lambda: inside(INTERFACE, INGRESS))
    wire.left.run(lambda: inside("wire0", EGRESS))


def test_filters_by_priority(wire: Wire, counts: Map) -> None:
    """The lower priority comes first, and within one the newer filter; what is final ends the row."""

    def inside() -> None:
        with (
            counted(counts, 0) as first,
            program(TcxAction.PASS) as second,
            program(TcxAction.DROP) as third,
            attach_tc(third, INTERFACE, INGRESS, priority=3),
            attach_tc(first, INTERFACE, INGRESS, priority=2),
        ):
            assert wire.drops()
            with attach_tc(second, INTERFACE, INGRESS, priority=2, handle=2):
                assert wire.passes()
            assert wire.drops()

    wire.right.run(inside)
    assert count(counts, 0) == 2


def test_a_filter_is_replaced(wire: Wire) -> None:
    """Another program takes the place of the first; asking for a certain one, or for a link, is an error."""

    def inside() -> None:
        with (
            program(TcxAction.DROP) as drop,
            program(TcxAction.PASS) as let,
            attach_tc(drop, INTERFACE, INGRESS) as made,
        ):
            made.update(let)
            assert wire.passes()
            with pytest.raises(BpfError, match=r"leave out `old`$"):
                made.update(drop, old=let)
            for ask in (made.info, lambda: made.pin(Path("link"))):
                with pytest.raises(BpfError, match=r"as a tc filter, without a link|does not support tcx links"):
                    ask()

    wire.right.run(inside)


def test_a_filter_that_stays(wire: Wire) -> None:
    """After `keep` the filter outlives its object; clsact is taken away with all of its filters."""

    def inside() -> None:
        with program(TcxAction.DROP) as drop, attach_tc(drop, INTERFACE, INGRESS) as made:
            made.keep()
        assert wire.drops()
        remove_clsact(INTERFACE)
        assert wire.passes()
        with pytest.raises(KernelError, match=r"^cannot remove clsact from interface wire1: .*\((EINVAL|ENOENT)\)$"):
            remove_clsact(INTERFACE)

    wire.right.run(inside)


def test_a_filter_whose_end_came_first(wire: Wire) -> None:
    """Closing is quiet when the filter, the qdisc or the interface is gone; an update says what is missing."""

    def inside() -> None:
        with program(TcxAction.PASS) as let:
            with attach_tc(let, INTERFACE, INGRESS):
                remove_clsact(INTERFACE)
            made = attach_tc(let, INTERFACE, INGRESS)
            wire.right.ip(f"link del {INTERFACE}")
            with pytest.raises(KernelError, match=r"^cannot replace the attached program by test: .*\(ENODEV\)$"):
                made.update(let)
            made.detach()

    wire.right.run(inside)


def test_a_filter_from_elsewhere(wire: Wire) -> None:
    """In another namespace an interface of that number is another one: nothing is done, and it is said."""

    def attach() -> TcFilter:
        with program(TcxAction.DROP) as drop:
            return attach_tc(drop, INTERFACE, INGRESS)

    made = wire.right.run(attach)
    with program(TcxAction.PASS) as let, pytest.raises(BpfError, match=r"in another network namespace, do it in that"):
        wire.left.run(lambda: made.update(let))
    assert wire.drops()
    wire.right.run(made.close)
    assert wire.passes()


def test_filters_that_cannot_be(wire: Wire) -> None:
    """A place that is taken, no interface, a program of another kind: each is one line."""

    def refused(message: str, made: Program, interface: str = INTERFACE) -> None:
        with pytest.raises(KernelError, match=message):
            attach_tc(made, interface, INGRESS)

    def inside() -> None:
        xdp = returning(ProgramType.XDP, AttachType.XDP, 2)
        with program(TcxAction.PASS) as let, xdp, attach_tc(let, INTERFACE, INGRESS):
            refused(r"^cannot attach program test to tc ingress of interface wire1: a filter has .*\(EEXIST\)$", let)
            refused(r"none of that name or index \(ENODEV\)$", let, "none")
            with pytest.raises(KernelError, match=r"is not of type sched_cls, or .*\(EINVAL\)$"):
                attach_tc(xdp, INTERFACE, EGRESS)

    wire.right.run(inside)


def test_without_pyroute2(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the package is not installed, one line names it."""
    monkeypatch.setitem(sys.modules, "pyroute2", None)
    message = "tc needs the package pyroute2, install it (pip install pyroute2)"
    with program(TcxAction.DROP) as drop, pytest.raises(BpfError, match=f"{re.escape(message)}$"):
        wire.right.run(lambda: attach_tc(drop, INTERFACE, INGRESS))


# --- either -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tcx", [True, False])
def test_either_way(wire: Wire, monkeypatch: pytest.MonkeyPatch, tcx: bool) -> None:
    """With tcx it is a link, without it (as a kernel before 6.6 would have it) a filter, and both drop packets."""
    if not tcx:
        monkeypatch.setattr("pybpfasm.kernel.links.tc.lacks", lambda _: True)
    kind = Link if tcx and features.TCX_LINK.supported() else TcFilter

    def inside() -> None:
        with program(TcxAction.DROP) as drop, attach_traffic(drop, INTERFACE, INGRESS) as made:
            assert isinstance(made, kind)
            assert wire.drops()
        assert wire.passes()

    wire.right.run(inside)
