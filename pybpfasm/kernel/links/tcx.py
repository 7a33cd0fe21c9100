"""tcx: programs on an interface's incoming and outgoing packets, several in order, without qdiscs (Linux 6.6).

What a program returns is of `pybpfasm.uapi.TcxAction`: NEXT lets the next one decide, the others are final.
"""

import errno
from enum import Enum

from pybpfasm.errors import KernelError
from pybpfasm.kernel import features
from pybpfasm.kernel.links.attempt import attempting
from pybpfasm.kernel.links.base import Link, create
from pybpfasm.kernel.links.order import Order, ordering
from pybpfasm.kernel.links.query import Attached, query
from pybpfasm.kernel.links.target import interface_index
from pybpfasm.kernel.programs import Program
from pybpfasm.uapi import AttachFlag, AttachType


class Direction(Enum):
    """Which packets of an interface a program sees."""

    INGRESS = "ingress"
    EGRESS = "egress"


_HOOKS = {Direction.INGRESS: AttachType.TCX_INGRESS, Direction.EGRESS: AttachType.TCX_EGRESS}

CAUSES = {
    errno.EEXIST: "this program is attached there already: load it once more to run it twice",
    errno.ESTALE: "what is attached there has changed since expected_revision was read: query again",
    errno.ENOENT: "the program or link to be placed before or after is not attached there",
    errno.ERANGE: "64 programs are attached there, which is as many as can be",
    errno.EINVAL: "the program is not of type sched_cls, or what it is placed beside is not",
}


def attach_tcx(
    program: Program,
    interface: int | str,
    direction: Direction,
    *,
    order: Order | None = None,
    expected_revision: int = 0,
) -> Link:
    """Attach a sched_cls program to an interface, by name or index, of the calling thread's network namespace.

    Without an `order` it comes last. With `expected_revision`, from `query_tcx`, only if nothing was attached or
    detached since. Raises `KernelError`: ENODEV without the interface, EEXIST if this program is there already, ENOENT
    if what `order` names is not, ESTALE for another revision; `UnsupportedFeatureError` before Linux 6.6, where
    `attach_tc` is the way.
    """
    attempted = f"attach program {program.spec.name} to tcx {direction.value} of interface {interface}"
    index = interface_index(interface)
    with attempting(attempted, CAUSES, features.TCX_LINK):
        return create(program, index, attempted, attach_type=_HOOKS[direction], **ordering(order, expected_revision))


def query_tcx(interface: int | str, direction: Direction) -> Attached:
    """The programs on an interface, with their links. Raises as `attach_tcx` does."""
    attempted = f"ask what is attached to tcx {direction.value} of interface {interface}"
    index = interface_index(interface)
    with attempting(attempted, {}, features.TCX_LINK):
        return queried(index, _HOOKS[direction], attempted)


def queried(index: int, hook: AttachType, attempted: str) -> Attached:
    """The programs at a hook of an interface; where nothing was ever attached the kernel says ENOENT."""
    try:
        return query(index, hook, attempted, links=True)
    except KernelError as error:
        if error.errno != errno.ENOENT:
            raise
        return Attached((), AttachFlag(0), 0)
