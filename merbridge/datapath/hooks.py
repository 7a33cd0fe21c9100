"""The programs at the cgroup root and at the map of sockets: attached, put in place of earlier ones, attached again."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from merbridge.datapath.collection import DNS_HOOKS
from merbridge.datapath.drift import Drift
from merbridge.datapath.keeper import PinKeeper, aside_of
from merbridge.datapath.pins import Pins
from merbridge.datapath.programs import LoadedPrograms
from merbridge.errors import MerbridgeError
from pybpfasm.errors import BpfError
from pybpfasm.kernel import Link, Map, attach_cgroup, attach_sockmap
from pybpfasm.kernel.links import DirectAttachment

# What the programs need; facts of the kernel's history: SO_NETNS_COOKIE 5.14, the cookie in sock_ops 5.15.
OLDEST_KERNEL = "5.15"

# The order in which hooks are attached: what redirects comes last.
ATTACH_ORDER = (
    "redirect",
    "getsockopt",
    "getpeername6",
    "getpeername4",
    "sockops",
    *DNS_HOOKS,
    "connect6",
    "connect4",
)

_SOCKMAP_HOOKS = ("redirect",)


class Hooks:
    """The attachments; owns the links' descriptors. Programs and maps may come after it was made."""

    def __init__(
        self, pins: Pins, keeper: PinKeeper, drift: Drift, maps: Mapping[str, Map], programs: LoadedPrograms
    ) -> None:
        self._pins = pins
        self._keeper = keeper
        self._drift = drift
        self._maps = maps
        self._programs = programs
        self._links: dict[str, Link] = {}
        self._cgroup_root = Path()
        self.created: list[Path] = []

    def close(self) -> None:
        """Give up the descriptors; what is pinned stays attached."""
        while self._links:
            self._links.popitem()[1].close()

    def attach(self, cgroup_root: Path) -> None:
        """Attach every hook, or put the new program in place where it is attached already. Raises `MerbridgeError`.

        `created` are the pins that were not there before.
        """
        self._cgroup_root = cgroup_root
        with _opened(cgroup_root) as cgroup:
            try:
                # Every question is asked before the first hook is touched: what can fail fails here.
                wanted = [name for name in ATTACH_ORDER if name in self._programs]
                pinned = {name: self._pinned_link(name, cgroup) for name in wanted}
                stays = {
                    name
                    for name, link in pinned.items()
                    if link is not None and self._programs.is_same(name, link.info().program_id)
                }
                for name, link in pinned.items():
                    if link is None:
                        self._attach(name, cgroup)
                    else:
                        if name not in stays:
                            link.update(self._programs[name])
                        self._links[name] = link
                        self._keeper.adopt(self._pins.links / name, link.pin)
                        aside_of(self._pins.links / name).unlink(missing_ok=True)
                for name in reversed(ATTACH_ORDER):
                    if name not in wanted:
                        self._keeper.drop(self._pins.links / name)
            except BpfError as error:
                raise MerbridgeError(f"{error} (merbridge needs Linux {OLDEST_KERNEL} or later)") from error

    def mend(self) -> Iterator[str]:
        """Attach again what somebody has detached, and put our program in place of another's; counted as drift.

        Lines on what could not be done; the others are.
        """
        for name in ATTACH_ORDER:
            try:
                self._drift.programs += name in self._links and self._mend(name, self._links[name])
            except (BpfError, MerbridgeError) as error:
                yield f"program {name} was detached by somebody: {error}"

    def _mend(self, name: str, link: Link) -> bool:
        """Whether there was something to do."""
        info = link.info()
        if info.target == 0:
            self._attach_again(name)
        elif not self._programs.is_same(name, info.program_id):
            link.update(self._programs[name])
        else:
            return False
        return True

    def _attach_again(self, name: str) -> None:
        with _opened(self._cgroup_root) as cgroup:
            detached = self._links.pop(name)
            try:
                self._attach(name, cgroup)
            except (BpfError, MerbridgeError):
                self._links[name] = detached  # to be tried again
                raise
            detached.close()

    def _pinned_link(self, name: str, cgroup: int) -> Link | None:
        """The hook's link if it is pinned, and attached where it should be."""
        path = self._pins.links / name
        target = self._maps["sockets"].info().id if name in _SOCKMAP_HOOKS else os.fstat(cgroup).st_ino
        if not path.exists():
            return None
        link = Link.open(path)
        if link.info().target == target:
            return link
        link.close()  # held by us, it would outlive its pin, and redirect beside the new one
        return None

    def _attach(self, name: str, cgroup: int) -> None:
        program = self._programs[name]
        link: Link | DirectAttachment
        if name in _SOCKMAP_HOOKS:
            link = attach_sockmap(program, self._maps["sockets"])
        else:
            link = attach_cgroup(program, cgroup)
        if isinstance(link, DirectAttachment):
            # No link on this kernel: the program is attached as long as the map lives. Its pin is for `status`.
            link.keep()
            path, pin = self._pins.programs / name, program.pin
        else:
            self._links[name] = link
            path, pin = self._pins.links / name, link.pin
        is_new = not path.exists()
        self._keeper.pin(path, pin)
        if is_new:
            self.created.append(path)


@contextmanager
def _opened(cgroup_root: Path) -> Iterator[int]:
    try:
        descriptor = os.open(cgroup_root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise MerbridgeError(f"cannot open the cgroup {cgroup_root} (--cgroup-root): {error.strerror}") from None
    try:
        yield descriptor
    finally:
        os.close(descriptor)
