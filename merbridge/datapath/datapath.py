"""The datapath: loaded anew or adopted from its pins, and attached.

A start never leaves it half made. Programs are loaded, and so verified, before anything is pinned; what a failed start
has added is taken away again; the hook that redirects is attached last, when all that serves it is in place. Maps and
links that are pinned already are kept, with their ids and entries; their programs are replaced through the links.

A pinned map of another shape, an earlier or later version's or of another `--max-pods`, is replaced: the new one is
filled before the first program that uses it is attached, and both serve until the last program is replaced. What is
known of connections is kept by the maps that have it: `--max-connections` counts when these are made.
"""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

import attrs

import programs.maps as layouts
from merbridge.datapath import state
from merbridge.datapath.collection import DatapathSettings, collection, share_of
from merbridge.datapath.drift import Drift
from merbridge.datapath.hooks import Hooks
from merbridge.datapath.keeper import PinKeeper
from merbridge.datapath.pins import Pins
from merbridge.datapath.programs import LoadedPrograms
from merbridge.errors import MerbridgeError
from pybpfasm.errors import BpfError
from pybpfasm.kernel import (
    Map,
    MapFullError,
    Program,
    ShapeError,
    TypedMap,
    VerifierError,
    features,
)
from pybpfasm.lang.maps import MapDeclaration
from pybpfasm.spec import MapSpec

K = TypeVar("K")
V = TypeVar("V", bound=Any)

# In the order in which a user is told of the first that is missing.
NEEDED = (
    features.CGROUP_ID_IN_SOCK_ADDR,
    features.NETNS_COOKIE_IN_SOCK_ADDR,
    features.SK_STORAGE_IN_SOCK_ADDR,
    features.NETNS_COOKIE_IN_SOCK_OPS,
    features.NETNS_COOKIE_IN_SK_MSG,
    features.NETNS_COOKIE_IN_SOCKOPT,
)


@attrs.frozen
class Written:
    """What the agent has put into a map last: what was wanted, as one object, and what of it has found a place.

    `raw` is the map's whole content then; `read` is when it was read entry by entry last (time.monotonic).
    """

    wanted: Mapping[Any, Any]
    placed: Mapping[Any, Any]
    raw: tuple[tuple[bytes, bytes], ...]
    read: float
    has_place: frozenset[Any]


class Datapath:
    """The datapath's maps, programs and links; owns their descriptors, not their pins.

    `drift` counts what somebody else has changed, `written` is what the agent has put into its maps last, by name.
    """

    def __init__(self, pins: Pins, settings: DatapathSettings) -> None:
        self.drift = Drift()
        self.written: dict[str, Written] = {}
        self.kept_size = ""
        self._pins = pins
        self._settings = settings
        self._held = ExitStack()
        self._undo = ExitStack()
        self._stays = False
        self._maps: dict[str, Map] = {}
        self._replaced: list[str] = []
        self._programs: dict[str, Program] = {}
        self._keeper = PinKeeper(self.drift)
        self.programs = LoadedPrograms(self._programs)
        self._hooks = Hooks(pins, self._keeper, self.drift, self._maps, self.programs)
        self._held.callback(self._hooks.close)

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
        try:
            specs = collection(self._with_kept_size())
            created = [name for name, spec in specs.maps.items() if self._open_or_create(name, spec)]
            for name, spec in specs.programs.items():
                self._programs[name] = self._held.enter_context(Program.load(spec, self._maps))
            for declaration in (state.pod_records, layouts.places):
                self._carry_over(declaration)
            for name in created:
                self.pin(self._pins.maps / name, self._maps[name].pin)
        except VerifierError as error:
            raise MerbridgeError(_why_rejected(error)) from error
        except BpfError as error:
            raise MerbridgeError(str(error)) from error

    def attach(self, cgroup_root: Path) -> None:
        """Attach every hook, or put the new program in place where it is attached already. Raises `MerbridgeError`.

        The maps have to hold all by now: those that take the place of others are used and pinned from here on.
        """
        self._carry_over(layouts.shares)  # the programs count in it: as late as can be
        try:
            self._hooks.attach(cgroup_root)
        finally:
            for path in self._hooks.created:
                self._undo.callback(path.unlink, missing_ok=True)
        self._undo.pop_all()  # from here on it stays
        self._stays = True
        for name in self._replaced:
            self._keeper.pin(self._pins.maps / name, self._maps[name].pin)

    def mend(self) -> list[str]:
        """Put right what somebody has taken away of attachments and pins; lines on what could not be done."""
        return [*self._hooks.mend(), *self._keeper.mend()]

    @property
    def replaced(self) -> tuple[str, ...]:
        """The maps that were pinned with another shape."""
        return tuple(self._replaced)

    def map(self, declaration: MapDeclaration[K, V]) -> TypedMap[K, V]:
        """A map by its declaration."""
        return TypedMap(declaration, self._maps[_NAMES[id(declaration)]])

    def pin(self, path: Path, pin: Callable[[Path], None]) -> None:
        """Pin an object, and keep it so; until `attach` has done its work, closing takes the pin away.

        Raises `MerbridgeError`.
        """
        self._keeper.pin(path, pin)
        if not self._stays:
            self._undo.callback(path.unlink, missing_ok=True)

    def adopt(self, path: Path, pin: Callable[[Path], None]) -> None:
        """Keep what is pinned there already."""
        self._keeper.adopt(path, pin)

    def unpin(self, path: Path) -> None:
        """Take a pin away, if it is there."""
        self._keeper.drop(path)

    def _with_kept_size(self) -> DatapathSettings:
        """The settings, with as many connections as the pinned map has room for.

        No other maps can take over unnoticed what it and `connections` have.
        """
        spec = layouts.original_dst.spec("original_dst")
        path = self._pins.maps / "original_dst"
        try:
            if not path.exists():
                return self._settings
            with Map.open_any_size(path, spec) as pinned:
                size = pinned.spec.max_entries
        except ShapeError:
            return self._settings  # it is another version's, and is replaced
        if size != self._settings.max_connections:
            self.kept_size = (
                f"map original_dst keeps its {size} entries: --max-connections {self._settings.max_connections} counts "
                "after `python -m merbridge cleanup`, or when the node starts again"
            )
        return attrs.evolve(self._settings, max_connections=size)

    def _open_or_create(self, name: str, spec: MapSpec) -> bool:
        """Whether the map is new, and to be pinned where nothing is."""
        path = self._pins.maps / name
        is_pinned = path.exists()
        if is_pinned:
            try:
                self._maps[name] = self._held.enter_context(Map.open(path, spec))
            except ShapeError:
                self._replaced.append(name)
            else:
                self._keeper.adopt(path, self._maps[name].pin)
                return False
        self._maps[name] = self._held.enter_context(Map.create(spec))
        return not is_pinned

    def _carry_over(self, declaration: MapDeclaration[Any, Any]) -> None:
        """Fill a map that takes another's place with what is in that, if it differs in size only."""
        name = _NAMES[id(declaration)]
        if name not in self._replaced:
            return
        filled = self.map(declaration)
        try:
            with Map.open_any_size(self._pins.maps / name, declaration.spec(name)) as before:
                for key, value in TypedMap(declaration, before).items():
                    if isinstance(value, layouts.Share):
                        # What is counted in the old map until its program is replaced is taken off in this one: below 0
                        # it would seem used up.
                        value = layouts.Share(used=value.used + share_of(self._settings.max_connections) // 4)
                    filled.set(key, value)
        except (ShapeError, MapFullError):
            return  # another version's, or there is less room: what is missing is found out again


def _why_rejected(error: VerifierError) -> str:
    """What the kernel lacks, where that is the reason; else the rejection itself."""
    missing = next((feature for feature in NEEDED if not feature.supported()), None)
    if missing is not None:
        return str(missing.error())
    return f"{error}: this is a fault of merbridge, please report it with your kernel's version"


def _names() -> dict[int, str]:
    """Each declaration's name in the collection, which is the one it has in the module that declares it."""
    declared = {**vars(layouts), **vars(state)}
    return {id(each): each.name or name for name, each in declared.items() if isinstance(each, MapDeclaration)}


_NAMES = _names()
