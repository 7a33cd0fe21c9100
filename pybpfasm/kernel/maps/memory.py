"""Maps whose memory user space can have in its own address space."""

from __future__ import annotations

import errno
import mmap
from collections.abc import Iterator
from typing import Any, Generic, Self, TypeVar, cast

from pybpfasm.errors import KernelError
from pybpfasm.kernel.maps.codecs import codec_of
from pybpfasm.kernel.maps.errors import MapOperationError, errno_name
from pybpfasm.kernel.maps.kinds import kind_of
from pybpfasm.kernel.maps.map import Map
from pybpfasm.spec import Untyped
from pybpfasm.uapi import MapCreateFlag, MapType

V = TypeVar("V")


class _Mapped:
    """Memory shared with the kernel, until `close`: it may outlive the map's object."""

    def __init__(self, map_: Map, length: int, *, writable: bool) -> None:
        protection = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
        try:
            self._mapping = mmap.mmap(map_.fd, length, mmap.MAP_SHARED, protection)
        except OSError as error:
            raise _refused(map_, error.errno or 0) from None
        self.memory = memoryview(self._mapping)

    def close(self) -> None:
        """Unmap it; closing twice does nothing. Raises BufferError while slices of `memory` are in use."""
        self.memory.release()
        self._mapping.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class MappedArray(_Mapped, Generic[V]):
    """The values of an array that was made with BPF_F_MMAPABLE (Linux 5.5), without system calls.

    `memory` is all of it: value after value, each at a multiple of 8 bytes. Indexing copies a value, as the type says
    that `value` names (`TypedMap.of`); programs may write at the same time, and a copy of more than 8 aligned bytes
    can then be half old and half new. `memory.cast("Q")` reads and writes aligned words whole. A frozen map can be
    mapped read-only. Raises `KernelError`, `MapOperationError` for a map that was not made for it.
    """

    def __init__(self, map_: Map, value: Any = None, *, writable: bool = True) -> None:
        spec = map_.spec
        if spec.type != MapType.ARRAY:
            raise _unmappable(map_, f"a map of type {map_.kind.title} cannot be mapped as values, an array can")
        known = bytes if isinstance(spec.value, Untyped) else spec.value
        self._codec = codec_of(known if value is None else value, spec.value.size)
        self._stride = -(-spec.value.size // 8) * 8
        self._count = spec.max_entries
        super().__init__(map_, self._stride * self._count, writable=writable)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> V:
        """A copy of the value at `index`. Raises IndexError."""
        at = self._place(index)
        return cast(V, self._codec.unpack(bytes(self.memory[at : at + self._codec.size])))

    def __setitem__(self, index: int, value: V) -> None:
        """Write the value at `index`. Raises IndexError; TypeError if it is mapped read-only."""
        at = self._place(index)
        self.memory[at : at + self._codec.size] = self._codec.pack(value)

    def __iter__(self) -> Iterator[V]:
        return (self[index] for index in range(self._count))

    def _place(self, index: int) -> int:
        if not 0 <= index < self._count:
            raise IndexError(f"there is no value {index}, but {self._count} from 0 on")
        return index * self._stride


class MappedArena(_Mapped):
    """An arena's pages (Linux 6.9), which programs and user space share; a page is there once it is touched.

    Not done: arenas with an address of their own choice (`MapSpec.extra`), since Python's mmap cannot ask for an
    address, and pointers into the arena as Python objects. Raises `KernelError`: EBUSY if another process has mapped
    it elsewhere.
    """

    def __init__(self, map_: Map, *, writable: bool = True) -> None:
        if map_.spec.type != MapType.ARENA:
            raise _unmappable(map_, f"it is of type {map_.kind.title}, not an arena")
        if map_.spec.extra:
            raise _unmappable(map_, "it has an address of its own (map_extra), which is not supported: leave it 0")
        super().__init__(map_, map_.spec.max_entries * mmap.PAGESIZE, writable=writable)


def _unmappable(map_: Map, cause: str) -> MapOperationError:
    return MapOperationError(errno.EOPNOTSUPP, f"cannot map map {map_.spec.name} into memory: {cause}")


def _refused(map_: Map, number: int) -> KernelError:
    if not map_.spec.flags & MapCreateFlag.MMAPABLE:
        return _unmappable(map_, "it was made without the flag MMAPABLE")
    frozen = number == errno.EPERM and map_.frozen
    causes = {
        errno.EPERM: "it is frozen: map it with writable=False" if frozen else "its descriptor does not allow it",
        errno.EBUSY: "it is mapped already, at another address"
        if kind_of(map_.spec.type).title == "arena"
        else "it is in use",
        errno.ENOMEM: "there is no memory, or no room in this process, for it",
    }
    cause = causes.get(number, "the kernel refuses")
    return KernelError(number, f"cannot map map {map_.spec.name} into memory: {cause} ({errno_name(number)})")
