"""Where among its neighbours a program is attached: first, last, before or after another (kernel/bpf/mprog.c).

tcx and netkit know this from their beginning (Linux 6.6, 6.7), cgroups from Linux 6.17 on. Programs run in this order;
what a program returns decides whether the next one runs.
"""

from typing import Any

from pybpfasm.kernel.links.base import Link
from pybpfasm.kernel.programs import Program
from pybpfasm.records import frozen
from pybpfasm.uapi import AttachFlag


@frozen
class ProgramId:
    """A program by its id, where nobody has a descriptor of it; using it takes CAP_SYS_ADMIN."""

    number: int


@frozen
class LinkId:
    """A link by its id, where nobody has a descriptor of it; using it takes CAP_SYS_ADMIN."""

    number: int


Anchor = Program | Link | ProgramId | LinkId


@frozen
class Order:
    """A place among the programs at a hook; without an anchor it is the first place or the last."""

    side: AttachFlag
    anchor: Anchor | None = None

    @property
    def flags(self) -> AttachFlag:
        """The BPF_F_… flags that say so."""
        flags = self.side
        if isinstance(self.anchor, (ProgramId, LinkId)):
            flags |= AttachFlag.ID
        if isinstance(self.anchor, (Link, LinkId)):
            flags |= AttachFlag.LINK
        return flags

    @property
    def relative(self) -> int:
        """The anchor's descriptor or id; 0 without one."""
        if self.anchor is None:
            return 0
        return self.anchor.number if isinstance(self.anchor, (ProgramId, LinkId)) else self.anchor.fd


FIRST = Order(AttachFlag.BEFORE)
LAST = Order(AttachFlag.AFTER)


def before(anchor: Anchor) -> Order:
    """Directly before another program or link."""
    return Order(AttachFlag.BEFORE, anchor)


def after(anchor: Anchor) -> Order:
    """Directly after another program or link."""
    return Order(AttachFlag.AFTER, anchor)


def ordering(order: Order | None, expected_revision: int) -> dict[str, Any]:
    """The arguments for `base.create` that say so."""
    if order is None and not expected_revision:
        return {}
    flags, relative = (order.flags, order.relative) if order else (AttachFlag(0), 0)
    return {"flags": flags, "mprog": {"relative_fd_or_id": relative, "expected_revision": expected_revision}}
