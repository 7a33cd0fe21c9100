"""What a program is for: the running kernel, or one that is known by its version.

running_target()       asks the running kernel, each question when it comes up
named_target("6.1")    what was measured on a kernel of that version, for work on another machine
"""

import os
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache, partial
from types import MappingProxyType

from pybpfasm.errors import BpfError
from pybpfasm.kernel.features import Feature
from pybpfasm.kernel.probes.helpers import find_helpers
from pybpfasm.kernel.probes.instructions import IsaLevel, find_isa_level
from pybpfasm.kernel.probes.tables import all_features
from pybpfasm.lang.target_data import FEATURES, HELPERS, ISA_LEVELS, KERNELS
from pybpfasm.records import field, frozen
from pybpfasm.uapi import Helper, ProgramType

__all__ = ["TARGET_NAMES", "Target", "named_target", "running_target"]

# The kernels that there is a `named_target` of: Debian's of that version, which have all options.
TARGET_NAMES: tuple[str, ...] = KERNELS


@frozen(eq=False)
class Target:
    """A kernel that programs are made for.

    `name` is its version or release, `isa` the level of its instructions, `features` says by their names which of
    `pybpfasm.kernel.features` and of the tables of `pybpfasm.kernel.probes` it has. `known_helpers` are all that it has
    for whatever type of program; None for the running kernel, which is not asked for all.
    """

    name: str
    isa: IsaLevel
    features: Mapping[str, bool] = field(repr=False)
    _find_helpers: Callable[[ProgramType], frozenset[Helper]] = field(repr=False)
    known_helpers: frozenset[Helper] | None = field(default=None, repr=False)

    def has(self, feature: Feature | str) -> bool:
        """Whether it has a feature. Raises `BpfError` if that is not known, `KernelError` if the kernel is silent."""
        name = feature if isinstance(feature, str) else feature.name
        try:
            return self.features[name]
        except KeyError:
            raise BpfError(f"whether Linux {self.name} has {name!r} is not known: it is in no table") from None

    def helpers(self, program_type: ProgramType) -> frozenset[Helper]:
        """The helpers that programs of a type can call, see `probes.find_helpers`, also for what it raises.

        Those that print to the kernel's trace are left out.
        """
        return self._find_helpers(program_type)


class _RunningFeatures(Mapping[str, bool]):
    """Features by name; each is tried when it is asked for."""

    def __init__(self) -> None:
        self._rows = {each.name: each for each in all_features()}

    def __getitem__(self, name: str) -> bool:
        return self._rows[name].supported()

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)


@lru_cache(maxsize=1)
def running_target() -> Target:
    """The running kernel, as far as this process may use it.

    It is the same object each time; what the kernel has answered is kept. Raises `KernelError` (EPERM) for a process
    that may not load programs.
    """
    return Target(os.uname().release, find_isa_level(), _RunningFeatures(), find_helpers)


def named_target(name: str) -> Target:
    """A kernel by its version, as in "6.1": one of `TARGET_NAMES`. Raises `BpfError` for another."""
    if name not in KERNELS:
        raise BpfError(f"there is no target {name!r}: there are {', '.join(KERNELS)}")
    place = KERNELS.index(name)
    known = {feature: marks[place] == "+" for feature, marks in FEATURES.items()}
    # They are numbered as they came; not all of them can be called by a program that does nothing else.
    newest = max(masks[place].bit_length() - 1 for masks in HELPERS.values())
    helpers = frozenset(each for each in Helper if 0 < each <= newest)
    find = partial(_measured_helpers, place)
    return Target(name, IsaLevel(ISA_LEVELS[place]), MappingProxyType(known), find, helpers)


def _measured_helpers(place: int, program_type: ProgramType) -> frozenset[Helper]:
    masks = HELPERS.get(program_type.name)
    if masks is None:
        raise BpfError(f"programs of type {program_type.name.lower()} have no helpers of their own: name another type")
    return frozenset(each for each in Helper if masks[place] >> each & 1)
