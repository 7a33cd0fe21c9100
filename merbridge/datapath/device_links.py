"""Programs at network devices, each by a link that is pinned, so that they outlive the agent.

Before Linux 6.6 there are no links for devices: there a program is a tc filter, which stays as long as its device.
"""

import errno
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

import attrs

from merbridge.datapath.datapath import Datapath
from merbridge.datapath.pins import Pins
from merbridge.watchers.devices import netlink
from merbridge.watchers.netns import Netns, in_netns_of
from pybpfasm.errors import KernelError
from pybpfasm.kernel import Link, Program, features
from pybpfasm.kernel.links import Direction, TcFilter, attach_tc, attach_tcx
from pybpfasm.kernel.links.tc import PARENTS

# Which packets of its device a program sees.
DIRECTIONS = {
    "to_pod": Direction.EGRESS,
    "from_pod": Direction.INGRESS,
    "to_ztunnel": Direction.EGRESS,
    "from_ztunnel": Direction.INGRESS,
    "at_ztunnel": Direction.INGRESS,
}

# A filter has no link that could be asked whether it is still there.
_LOOK_AT_FILTERS_SECONDS = 5.0

# Our filters' place among others' of the same device.
_PRIORITY, _HANDLE = 1, 0x6D62


@attrs.frozen
class Spot:
    """A program's place: a device by its index in a network namespace.

    `owner` is the cookie of the pod's namespace whose device it is, whichever end of it.
    """

    program: str
    owner: int
    index: int
    netns: Netns

    @property
    def name(self) -> str:
        """The pin's."""
        return f"{self.program}-{self.owner:x}"


class DeviceLinks:
    """What is attached to devices, as far as this agent knows; owns the links' descriptors."""

    def __init__(self, pins: Pins, datapath: Datapath, proc: Path) -> None:
        self._pins = pins
        self._datapath = datapath
        self._proc = proc
        self._links: dict[str, Link] = {}
        self._filters: dict[Spot, float] = {}  # when to look at each again
        self._indices: dict[str, int] = {}

    def close(self) -> None:
        """Give up the descriptors; what is pinned stays attached."""
        while self._links:
            self._links.popitem()[1].close()

    def ensure(self, spot: Spot) -> None:
        """Attach a program, if it is not attached there already.

        Raises `KernelError`: ENODEV when the device is gone; `NetnsGoneError`, `MerbridgeError` as `in_netns_of` does.
        """
        if features.TCX_LINK.supported():
            self._ensure_link(spot)
        elif time.monotonic() >= self._filters.get(spot, 0.0):
            program = self._datapath.programs[spot.program]
            is_new = in_netns_of(spot.netns, self._proc, lambda: _attach_filter(program, spot))
            self._datapath.drift.programs += is_new and spot in self._filters
            self._filters[spot] = time.monotonic() + _LOOK_AT_FILTERS_SECONDS

    def drop_all_but(self, kept: Collection[str]) -> None:
        """Detach whatever is attached under other names."""
        for path in list(self._pins.devices.iterdir()):
            if path.name not in kept:
                link = self._links.pop(path.name, None)
                self._datapath.unpin(path)
                if link is not None:
                    link.close()
        self._filters = {spot: when for spot, when in self._filters.items() if spot.name in kept}
        self._indices = {name: index for name, index in self._indices.items() if name in kept}

    def drop_all(self, host: Netns) -> None:
        """Detach everything, filters of earlier agents too."""
        self.drop_all_but(())
        if not features.TCX_LINK.supported():
            in_netns_of(host, self._proc, remove_filters)

    def _ensure_link(self, spot: Spot) -> None:
        path = self._pins.devices / spot.name
        held = self._links.get(spot.name)
        program = self._datapath.programs[spot.program]
        if held is not None:
            info = held.info()
            if info.target == spot.index:
                if not self._datapath.programs.is_same(spot.program, info.program_id):
                    held.update(program)
                    self._datapath.drift.programs += 1
                return
            self._links.pop(spot.name).close()
        elif path.exists() and (adopted := self._adopted(path, spot)) is not None:
            self._links[spot.name] = adopted
            self._datapath.adopt(path, adopted.pin)
            return
        self._datapath.unpin(path)
        direction = DIRECTIONS[spot.program]
        link = in_netns_of(spot.netns, self._proc, lambda: attach_tcx(program, spot.index, direction))
        self._links[spot.name] = link
        self._datapath.pin(path, link.pin)
        # An index is never given out again: somebody has detached it from the device that it was at.
        self._datapath.drift.programs += self._indices.get(spot.name) == spot.index
        self._indices[spot.name] = spot.index

    def _adopted(self, path: Path, spot: Spot) -> Link | None:
        """The link that an earlier agent has pinned, with this one's program; None where it is of another device."""
        link = Link.open(path)
        if link.info().target != spot.index:
            link.close()
            return None
        if not self._datapath.programs.is_same(spot.program, link.info().program_id):
            link.update(self._datapath.programs[spot.program])
        self._indices[spot.name] = spot.index
        return link


def remove_filters() -> int:
    """Take our tc filters away from the devices of the calling thread's network namespace; how many there were."""
    if features.TCX_LINK.supported():
        return 0
    removed = 0
    with netlink("remove the tc filters of merbridge") as requests:
        for link in requests.get_links():
            for direction in Direction:
                removed += _remove_filter(requests, link["index"], direction)
    return removed


def _attach_filter(program: Program, spot: Spot) -> bool:
    """Attach a program, or put it in the place of the one that is there; whether there was none."""
    direction = DIRECTIONS[spot.program]
    try:
        added = attach_tc(program, spot.index, direction, priority=_PRIORITY, handle=_HANDLE)
    except KernelError as error:
        if error.errno != errno.EEXIST:
            raise
        added = TcFilter(program, spot.index, direction, _PRIORITY, _HANDLE)
        added.update(program)
        added.keep()
        return False
    added.keep()
    return True


def _remove_filter(requests: Any, index: int, direction: Direction) -> int:
    """Remove ours of one direction, known by the program's name."""
    ours = [name for name, its in DIRECTIONS.items() if its is direction]
    parent = PARENTS[direction]
    removed = 0
    for each in requests.get_filters(index=index, parent=parent):
        options = each.get_attr("TCA_OPTIONS")
        if each["handle"] != _HANDLE or options is None or options.get_attr("TCA_BPF_NAME") not in ours:
            continue
        requests.tc("del-filter", "bpf", index, _HANDLE, parent=parent, prio=_PRIORITY)
        removed += 1
    return removed
