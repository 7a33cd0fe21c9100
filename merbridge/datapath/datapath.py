"""The datapath: loaded anew or adopted from its pins, and attached.

A start never leaves it half made. Programs are loaded, and so verified, before anything is pinned; what a failed start
has added is taken away again; the hook that redirects is attached last, when all that serves it is in place. Maps and
links that are pinned already are kept, with their ids and entries; their programs are replaced through the links.
"""

import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

import programs.maps as layouts
from merbridge.datapath import state
from merbridge.datapath.collection import DNS_HOOKS, DatapathSettings, collection
from merbridge.datapath.pins import Pins
from merbridge.errors import MerbridgeError
from pybpfasm.errors import BpfError, KernelError
from pybpfasm.kernel import (
    Link,
    Map,
    Program,
    ShapeError,
    TypedMap,
    VerifierError,
    attach_cgroup,
    attach_sockmap,
    features,
)
from pybpfasm.kernel.links import DirectAttachment
from pybpfasm.lang.maps import MapDeclaration
from pybpfasm.spec import MapSpec

K = TypeVar("K")
V = TypeVar("V", bound=Any)

# What the programs need; facts of the kernel's history: SO_NETNS_COOKIE 5.14, the cookie in sock_ops 5.15.
OLDEST_KERNEL = "5.15"

# In the order in which a user is told of the first that is missing.
NEEDED = (
    features.CGROUP_ID_IN_SOCK_ADDR,
    features.NETNS_COOKIE_IN_SOCK_ADDR,
    features.SK_STORAGE_IN_SOCK_ADDR,
    features.SK_STORAGE_IN_SK_MSG,
    features.NETNS_COOKIE_IN_SOCK_OPS,
)

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


class Datapath:
    """The datapath's maps, programs and links; owns their descriptors, not their pins."""

    def __init__(self, pins: Pins, settings: DatapathSettings) -> None:
        self._pins = pins
        self._settings = settings
        self._held = ExitStack()
        self._undo = ExitStack()
        self._stays = False
        self._maps: dict[str, Map] = {}
        self._programs: dict[str, Program] = {}

    def __enter__(self) -> "Datapath":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Give up the descriptors. What was pinned by `load` but never attached is taken away."""
        self._undo.close()
        self._held.close()

    def load(self) -> None:
        """Adopt the pinned maps or make new ones, and load the programs. Raises `MerbridgeError`."""
        specs = collection(self._settings)
        try:
            created = [name for name, spec in specs.maps.items() if self._open_or_create(name, spec)]
            for name, spec in specs.programs.items():
                self._programs[name] = self._held.enter_context(Program.load(spec, self._maps))
            for name in created:
                self.pin(self._pins.maps / name, self._maps[name].pin)
        except VerifierError as error:
            raise MerbridgeError(_why_rejected(error)) from error
        except ShapeError as error:
            raise MerbridgeError(
                f"{error}: run `python -m merbridge cleanup` first, then run: in between nothing is redirected"
            ) from error
        except BpfError as error:
            raise MerbridgeError(str(error)) from error

    def attach(self, cgroup_root: Path) -> None:
        """Attach every hook, or put the new program in place where it is attached already. Raises `MerbridgeError`."""
        try:
            descriptor = os.open(cgroup_root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise MerbridgeError(f"cannot open the cgroup {cgroup_root} (--cgroup-root): {error.strerror}") from None
        try:
            # Every question is asked before the first hook is touched: what can fail fails here.
            wanted = [name for name in ATTACH_ORDER if name in self._programs]
            pinned = {name: self._pinned_link(name, descriptor) for name in wanted}
            for name, link in pinned.items():
                if link is None:
                    self._attach_hook(name, descriptor)
                else:
                    link.update(self._programs[name])
                    _aside(self._pins.links / name).unlink(missing_ok=True)
            for name in reversed(ATTACH_ORDER):
                if name not in wanted:
                    (self._pins.links / name).unlink(missing_ok=True)
        except BpfError as error:
            raise MerbridgeError(f"{error} (merbridge needs Linux {OLDEST_KERNEL} or later)") from error
        finally:
            os.close(descriptor)
        self._undo.pop_all()  # from here on it stays
        self._stays = True

    def map(self, declaration: MapDeclaration[K, V]) -> TypedMap[K, V]:
        """A map by its declaration."""
        return TypedMap(declaration, self._maps[_NAMES[id(declaration)]])

    def program(self, name: str) -> Program:
        """A loaded program by its name."""
        return self._programs[name]

    def pin(self, path: Path, pin: Callable[[Path], None]) -> None:
        """Pin an object; until `attach` has done its work, closing takes the pin away. Raises `MerbridgeError`."""
        try:
            pin(path)
        except KernelError as error:
            raise MerbridgeError(f"{error} (--bpffs)") from error
        if not self._stays:
            self._undo.callback(path.unlink, missing_ok=True)

    def _open_or_create(self, name: str, spec: MapSpec) -> bool:
        path = self._pins.maps / name
        if path.exists():
            self._maps[name] = self._held.enter_context(Map.open(path, spec))
            return False
        self._maps[name] = self._held.enter_context(Map.create(spec))
        return True

    def _pinned_link(self, name: str, cgroup: int) -> Link | None:
        """The hook's link if it is pinned, and attached where it should be."""
        path = self._pins.links / name
        target = self._maps["sockets"].info().id if name in _SOCKMAP_HOOKS else os.fstat(cgroup).st_ino
        if not path.exists():
            return None
        link = Link.open(path)
        if link.info().target == target:
            return self._held.enter_context(link)
        link.close()  # held by us, it would outlive its pin, and redirect beside the new one
        return None

    def _attach_hook(self, name: str, cgroup: int) -> None:
        program = self._programs[name]
        link: Link | DirectAttachment
        if name in _SOCKMAP_HOOKS:
            link = attach_sockmap(program, self._maps["sockets"])
        else:
            link = attach_cgroup(program, cgroup)
        if isinstance(link, DirectAttachment):
            # No link on this kernel: the program is attached as long as the map lives. Its pin is for `status`.
            link.keep()
            self._pin_over(self._pins.programs / name, program.pin)
        else:
            self._held.enter_context(link)
            self._pin_over(self._pins.links / name, link.pin)

    def _pin_over(self, path: Path, pin: Callable[[Path], None]) -> None:
        """Pin an object, in one step instead of the one that is pinned there."""
        if not path.exists():
            self.pin(path, pin)
            return
        aside = _aside(path)
        aside.unlink(missing_ok=True)
        pin(aside)
        aside.rename(path)


def _why_rejected(error: VerifierError) -> str:
    """What the kernel lacks, where that is the reason; else the rejection itself."""
    missing = next((feature for feature in NEEDED if not feature.supported()), None)
    if missing is not None:
        return str(missing.error())
    return f"{error}: this is a fault of merbridge, please report it with your kernel's version"


def _aside(path: Path) -> Path:
    """The name that a link has on its way to `path`; a killed agent may leave it, and the link attached by it."""
    return path.with_name(f"{path.name}-new")


def _names() -> dict[int, str]:
    """Each declaration's name in the collection, which is the one it has in the module that declares it."""
    declared = {**vars(layouts), **vars(state)}
    return {id(each): each.name or name for name, each in declared.items() if isinstance(each, MapDeclaration)}


_NAMES = _names()
