"""Maps whose values are maps: a program finds one by key, user space puts them there."""

from typing import Any, TypeVar

from pybpfasm.lang.maps import MapDeclaration, only_in_program
from pybpfasm.lang.types import u32
from pybpfasm.records import evolve
from pybpfasm.spec import MapSpec
from pybpfasm.uapi import MapType

K = TypeVar("K")
M = TypeVar("M", bound=MapDeclaration[Any, Any])


class _MapOfMaps(MapDeclaration[K, M]):
    """What both have in common. `inner` is a map like those that are put there."""

    def __init__(self, *, inner: M, max_entries: int, flags: int = 0, name: str | None = None) -> None:
        super().__init__(max_entries=max_entries, flags=flags, name=name)
        self.inner = inner

    @property
    def value_annotation(self) -> Any:
        """A map's descriptor, for user space."""
        return u32

    def spec(self, name: str, *, max_entries: int | None = None) -> MapSpec:
        """The map to create, as for others; `inner` is its maps' shape."""
        return evolve(super().spec(name, max_entries=max_entries), inner=self.inner.spec(f"{name}_inner"))

    def lookup(self, key: K) -> M | None:
        """The map at `key`, to be used as one by its own name; None if there is none."""
        only_in_program("lookup")


class HashOfMaps(_MapOfMaps[K, M]):
    """BPF_MAP_TYPE_HASH_OF_MAPS: `HashOfMaps[u32, HashMap[u32, Stat]](inner=HashMap[u32, Stat](…), max_entries=4)`."""

    type = MapType.HASH_OF_MAPS


class ArrayOfMaps(_MapOfMaps[K, M]):
    """BPF_MAP_TYPE_ARRAY_OF_MAPS, keyed by u32."""

    type = MapType.ARRAY_OF_MAPS
