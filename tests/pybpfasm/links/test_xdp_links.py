"""XDP links: packets dropped before the stack sees them, one program at a time, in the mode that was asked for."""

import errno
from pathlib import Path

import pytest
from small_network import Wire
from small_programs import UNBOUND, returning

from pybpfasm.errors import KernelError
from pybpfasm.kernel import features
from pybpfasm.kernel.links import Link
from pybpfasm.kernel.links.xdp import XdpMode, attach_xdp
from pybpfasm.kernel.programs import Program
from pybpfasm.uapi import AttachType, LinkType, ProgramType, XdpAction

pytestmark = pytest.mark.needs(features.XDP_LINK)

INTERFACE = "wire1"


def program(verdict: XdpAction, name: str = "test") -> Program:
    """An XDP program with one verdict."""
    return returning(ProgramType.XDP, AttachType.XDP, verdict, name)


def attached(wire: Wire, verdict: XdpAction, mode: XdpMode = XdpMode.ANY) -> Link:
    """Such a program, attached where packets arrive."""
    with program(verdict) as made:
        return wire.right.run(lambda: attach_xdp(made, INTERFACE, mode))


@pytest.mark.parametrize("mode", [XdpMode.ANY, XdpMode.GENERIC, XdpMode.NATIVE])
def test_packets_are_dropped(wire: Wire, mode: XdpMode) -> None:
    """While the link is there no packet arrives, in either mode; before and afterwards they do."""
    assert wire.passes()
    with attached(wire, XdpAction.DROP, mode):
        assert wire.drops()
    assert wire.passes()


def test_update_in_place(wire: Wire) -> None:
    """Another program takes the place of the first, in the same link, and only if the first is the one expected."""
    with (
        program(XdpAction.DROP) as drop,
        program(XdpAction.PASS) as let,
        wire.right.run(lambda: attach_xdp(drop, INTERFACE)) as link,
    ):
        number = link.info().id
        link.update(let, old=drop)
        assert wire.passes()
        assert (link.info().id, link.info().program_id) == (number, let.info().id)
        with pytest.raises(KernelError, match=r"another program than test is attached.*\(EPERM\)$"):
            link.update(drop, old=drop)
        assert wire.passes()


def test_information(wire: Wire) -> None:
    """The kernel names the interface and the program."""
    with program(XdpAction.PASS) as made, wire.right.run(lambda: attach_xdp(made, INTERFACE)) as link:
        info = link.info()
        assert (info.type, info.program_id) == (LinkType.XDP, made.info().id)
        assert info.target == wire.right.index(INTERFACE)


def test_a_second_program(wire: Wire) -> None:
    """An interface takes one program, in one mode: EBUSY, and EEXIST for the other mode."""
    with attached(wire, XdpAction.PASS, XdpMode.NATIVE):
        with pytest.raises(
            KernelError,
            match=r"^cannot attach program test to XDP of interface wire1: it has an XDP program already.*\(EBUSY\)$",
        ):
            attached(wire, XdpAction.DROP, XdpMode.NATIVE)
        with pytest.raises(KernelError, match=r"in the other mode.*\(EEXIST\)$"):
            attached(wire, XdpAction.DROP, XdpMode.GENERIC)
        assert wire.passes()


def test_a_pin_keeps_it(wire: Wire, bpffs: Path) -> None:
    """Pinned, it outlives its descriptor; adopted from the pin, it can be updated, detached and unpinned."""
    with attached(wire, XdpAction.DROP) as link:
        link.pin(bpffs / "link")
        number = link.info().id
    assert wire.drops()
    with Link.open(bpffs / "link") as again, program(XdpAction.PASS) as let:
        assert again.info().id == number
        again.update(let)
        assert wire.passes()
        again.detach()
        assert again.info().target == 0
        again.unpin()
    assert not (bpffs / "link").exists()


def test_detached_for_good(wire: Wire) -> None:
    """After `detach` packets arrive though the link is open, its target is 0, and it takes no program."""
    with attached(wire, XdpAction.DROP) as link:
        link.detach()
        assert wire.passes()
        assert link.info().target == 0
        with program(XdpAction.DROP) as drop, pytest.raises(KernelError, match=r"is gone \(ENOLINK\)$"):
            link.update(drop)
        link.detach()


def test_an_interface_that_vanished(wire: Wire) -> None:
    """The link of a deleted interface says so: no target, ENOLINK for an update, and it can be detached and closed."""
    with attached(wire, XdpAction.DROP) as link:
        wire.right.ip(f"link del {INTERFACE}")
        assert link.info().target == 0
        with program(XdpAction.DROP) as drop, pytest.raises(KernelError, match=r"is gone \(ENOLINK\)$") as caught:
            link.update(drop)
        assert caught.value.errno == errno.ENOLINK
        link.detach()


def test_what_cannot_be(wire: Wire) -> None:
    """No such interface, a driver without the mode, a program of another kind: each is one line."""

    def refused(made: Program, interface: int | str, mode: XdpMode, message: str) -> None:
        with pytest.raises(KernelError, match=message):
            wire.right.run(lambda: attach_xdp(made, interface, mode))

    with program(XdpAction.DROP) as made, returning(ProgramType.SCHED_CLS, UNBOUND, 0) as other:
        refused(made, "none", XdpMode.ANY, r"^cannot find interface none: .*\(ENODEV\)$")
        refused(made, 77, XdpMode.ANY, r"^cannot find interface with index 77: .*\(ENODEV\)$")
        refused(made, INTERFACE, XdpMode.OFFLOAD, r"not for this mode \(to be offloaded.*\(EINVAL\)$")
        refused(made, "lo", XdpMode.NATIVE, r"has no XDP of this mode: use XdpMode.GENERIC \((ENOTSUP|EOPNOTSUPP)\)$")
        refused(other, INTERFACE, XdpMode.ANY, r"the program is not for XDP.*\(EINVAL\)$")
