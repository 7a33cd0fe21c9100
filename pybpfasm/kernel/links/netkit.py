"""Programs of a pair of netkit interfaces, on what either end sends, before the packet is at the other (Linux 6.7).

What a program returns is as with tcx; where none decides, the pair's policy does.
"""

import errno
from enum import Enum

from pybpfasm.kernel import features
from pybpfasm.kernel.links import tcx
from pybpfasm.kernel.links.attempt import attempting
from pybpfasm.kernel.links.base import Link, create
from pybpfasm.kernel.links.order import Order, ordering
from pybpfasm.kernel.links.query import Attached
from pybpfasm.kernel.links.target import interface_index
from pybpfasm.kernel.programs import Program
from pybpfasm.uapi import AttachType


class NetkitEnd(Enum):
    """Whose packets a program sees: those that the primary interface sends, or its peer."""

    PRIMARY = AttachType.NETKIT_PRIMARY
    PEER = AttachType.NETKIT_PEER


_CAUSES = {
    **tcx.CAUSES,
    errno.ENXIO: "the interface is not of kind netkit",
    errno.EACCES: "it is the pair's peer: programs of both ends are attached by the primary interface",
}


def attach_netkit(
    program: Program,
    interface: int | str,
    end: NetkitEnd,
    *,
    order: Order | None = None,
    expected_revision: int = 0,
) -> Link:
    """Attach a sched_cls program to an end of a netkit pair, by the name or index of its **primary** interface.

    That is sought in the calling thread's network namespace; the peer may be in another, whose processes cannot change
    what is attached. `order` and `expected_revision` are as in `attach_tcx`, and so are the errors; further ones are
    ENXIO for another kind of interface, EACCES for the peer. `UnsupportedFeatureError` before Linux 6.7, or in a kernel
    that was built without netkit.
    """
    attempted = f"attach program {program.spec.name} to netkit {end.name.lower()} of interface {interface}"
    index = interface_index(interface)
    with attempting(attempted, _CAUSES, features.NETKIT_LINK):
        return create(program, index, attempted, attach_type=end.value, **ordering(order, expected_revision))


def query_netkit(interface: int | str, end: NetkitEnd) -> Attached:
    """The programs of an end, with their links, by the primary interface. Raises as `attach_netkit` does."""
    attempted = f"ask what is attached to netkit {end.name.lower()} of interface {interface}"
    index = interface_index(interface)
    with attempting(attempted, _CAUSES, features.NETKIT_LINK):
        return tcx.queried(index, end.value, attempted)
