"""tc filters: sched_cls programs at an interface's clsact qdisc (Linux 4.5), where tcx is missing or tc is in use.

The kernel keeps a filter until somebody removes it, or its interface goes: there is no link. This speaks netlink
through pyroute2, which is installed beside this library and imported when it is needed.

Filters run after tcx programs, by priority, the newer one first within one; what the first says that does not say NEXT
(TC_ACT_UNSPEC, -1) stands.
"""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from pybpfasm.errors import BpfError, KernelError
from pybpfasm.kernel import features, sys
from pybpfasm.kernel.link_info import LinkInfo
from pybpfasm.kernel.links.attempt import lacks
from pybpfasm.kernel.links.base import LegacyAttachment, Link
from pybpfasm.kernel.links.target import interface_index
from pybpfasm.kernel.links.tcx import Direction, attach_tcx
from pybpfasm.kernel.programs import Program

# TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS or …_EGRESS) of uapi linux/pkt_sched.h.
PARENTS = {Direction.INGRESS: 0xFFFFFFF2, Direction.EGRESS: 0xFFFFFFF3}

_CAUSES = {
    errno.EEXIST: "a filter has this priority and handle, or a qdisc of another kind is in clsact's place",
    errno.ENOENT: "the filter is not there any more, or the interface has no clsact qdisc",
    errno.EINVAL: "the program is not of type sched_cls, or the interface has no clsact qdisc",
    errno.EPERM: "it needs root, or CAP_NET_ADMIN",
    errno.EOPNOTSUPP: "the kernel was built without cls_bpf or sch_ingress, or its module is not loaded",
}


class TcFilter(LegacyAttachment):
    """A program as a tc filter. Closing it, or losing it, removes the filter, unless `keep` was called.

    All is done in the calling thread's network namespace, which must be the interface's; it holds none open.
    """

    def __init__(self, program: Program, index: int, direction: Direction, priority: int, handle: int) -> None:
        self.index = index
        self.direction = direction
        self.priority = priority
        self.handle = handle
        self._name = program.spec.name
        self._namespace = _own_namespace()
        super().__init__(features.TCX_LINK.error(), self._remove)

    def info(self) -> LinkInfo:
        """Nothing: raises `UnsupportedFeatureError` where the kernel has no tcx links, else `BpfError`."""
        raise self._without_link()

    def pin(self, path: object) -> None:  # noqa: ARG002 - there is nothing to pin
        """Nothing: raises as `info` does. `keep` leaves the program attached."""
        raise self._without_link()

    def keep(self) -> None:
        """Leave the filter when this object ends: until somebody removes it, or its interface goes."""
        self._end = None

    def update(self, program: Program, old: Program | None = None) -> None:
        """Put another program in place, with no moment between them. `old` cannot be asked for: raises `BpfError`.

        Raises `KernelError`: ENODEV if the interface is gone.
        """
        attempted = f"replace the attached program by {program.spec.name}"
        if old is not None:
            raise BpfError(f"cannot {attempted}: a tc filter is replaced whatever its program is, leave out `old`")
        self._check_namespace(attempted)
        with _netlink(attempted) as tc:
            tc("replace-filter", "bpf", self.index, self.handle, **_bpf(program, self.direction, self.priority))

    def _remove(self) -> None:
        attempted = f"remove the tc filter with program {self._name}"
        self._check_namespace(attempted)
        try:
            with _netlink(attempted) as tc:
                place = {"parent": PARENTS[self.direction], "prio": self.priority}
                tc("del-filter", "bpf", self.index, self.handle, **place)
        except KernelError as error:
            # Gone before us: the filter, the qdisc with its filters (EINVAL: no such parent), or the interface.
            if error.errno not in (errno.ENOENT, errno.EINVAL, errno.ENODEV):
                raise

    def _check_namespace(self, attempted: str) -> None:
        if _own_namespace() != self._namespace:
            raise BpfError(f"cannot {attempted}: it was attached in another network namespace, do it in that one")

    def _without_link(self) -> BpfError:
        if lacks(features.TCX_LINK):
            return self.missing
        return BpfError(f"program {self._name} is attached as a tc filter, without a link to ask about it or to pin")


def attach_tc(
    program: Program, interface: int | str, direction: Direction, *, priority: int = 1, handle: int = 1
) -> TcFilter:
    """Attach a sched_cls program as a filter that decides itself (direct-action); makes the clsact qdisc if need be.

    The interface, by name or index, is the calling thread's namespace's. Lower priorities come first, 1 to 65535;
    several of one priority have different handles. The qdisc stays when the filter goes. Raises `KernelError`: ENODEV
    without the interface, EEXIST if a filter has this priority and handle; `BpfError` without pyroute2.
    """
    attempted = f"attach program {program.spec.name} to tc {direction.value} of interface {interface}"
    index = interface_index(interface)
    with _netlink(attempted) as tc:
        _ensure_clsact(tc, index)
        tc("add-filter", "bpf", index, handle, **_bpf(program, direction, priority))
    return TcFilter(program, index, direction, priority, handle)


def remove_clsact(interface: int | str) -> None:
    """Take away an interface's clsact qdisc, with all filters that anybody has attached there.

    Raises `KernelError`: ENODEV without the interface, EINVAL or ENOENT without the qdisc; `BpfError` without pyroute2.
    """
    attempted = f"remove clsact from interface {interface}"
    index = interface_index(interface)
    with _netlink(attempted) as tc:
        tc("del", "clsact", index)


def attach_traffic(program: Program, interface: int | str, direction: Direction) -> Link | TcFilter:
    """Attach a sched_cls program by tcx where the kernel has it (Linux 6.6), else as a tc filter of priority 1.

    Raises as `attach_tcx` and `attach_tc` do. A program that is to be the same with both returns TcxAction.NEXT, PASS,
    DROP or REDIRECT.
    """
    attach: Callable[..., Link | TcFilter] = attach_tc if lacks(features.TCX_LINK) else attach_tcx
    return attach(program, interface, direction)


def _bpf(program: Program, direction: Direction, priority: int) -> dict[str, Any]:
    place = {"parent": PARENTS[direction], "prio": priority}
    return {**place, "fd": program.fd, "name": program.spec.name, "direct_action": True}


def _ensure_clsact(tc: Callable[..., None], index: int) -> None:
    try:
        tc("add", "clsact", index)
    except KernelError as error:
        if error.errno != errno.EEXIST:
            raise


@contextmanager
def _netlink(attempted: str) -> Iterator[Callable[..., None]]:
    """Requests to tc, for the time of the block; pyroute2's errors become ours."""
    try:
        from pyroute2 import IPRoute  # costs a fifth of a second, and is not always installed
        from pyroute2.netlink.exceptions import NetlinkError
    except ImportError:
        raise BpfError(
            f"cannot {attempted}: tc needs the package pyroute2, install it (pip install pyroute2)"
        ) from None
    with IPRoute() as netlink:

        def request(*arguments: object, **fields: object) -> None:
            try:
                netlink.tc(*arguments, **fields)
            except NetlinkError as error:
                raise sys.failure(error.code, attempted, _CAUSES.get(error.code)) from None

        yield request


def _own_namespace() -> tuple[int, int]:
    status = os.stat("/proc/thread-self/ns/net")
    return status.st_dev, status.st_ino
