"""Maps that hold or belong to something else: sockets, programs, maps, devices; and storage of an object's own."""

from collections.abc import Sequence
from typing import Any

from pybpfasm.isa import Instruction
from pybpfasm.sim.contexts.sockets import Sock
from pybpfasm.sim.linux_errno import Errno
from pybpfasm.sim.maps.base import Key, Map
from pybpfasm.spec import ProgramSpec
from pybpfasm.uapi import MapType

# What can be tail-called.
Callee = ProgramSpec | Sequence[Instruction]

_ARRAYS = frozenset(
    (
        MapType.PROG_ARRAY,
        MapType.ARRAY_OF_MAPS,
        MapType.SOCKMAP,
        MapType.REUSEPORT_SOCKARRAY,
        MapType.DEVMAP,
        MapType.CPUMAP,
        MapType.XSKMAP,
        MapType.CGROUP_ARRAY,
    )
)


class ObjectMap(Map):
    """A map whose values are objects: what user space gives as a file descriptor, a test gives as itself."""

    def set_up(self) -> None:
        """Make the map empty."""
        self._objects: dict[bytes, Any] = {}

    def get(self, key: Key) -> Any:
        """The object at `key`, or None."""
        return self._objects.get(self.key_bytes(key))

    def set(self, key: Key, value: Any, flags: int = 0) -> None:
        """Put an object at `key`. Raises `MapError`: E2BIG, EEXIST, ENOENT, EINVAL."""
        key = self.key_bytes(key)
        exists = key in self._objects
        if self.type in _ARRAYS:
            if self.index(key) >= self.max_entries:
                self.refuse(Errno.E2BIG, f"index {self.index(key)} is outside, it has {self.max_entries} entries")
        elif not exists and len(self._objects) >= self.max_entries:
            self.refuse(Errno.E2BIG, f"it is full, it holds {self.max_entries} entries")
        self.check_flags(flags, exists=exists)
        self.check_object(value)
        self._objects[key] = value

    def check_object(self, value: Any) -> None:
        """Refuse what the map cannot hold."""

    def remove(self, key: bytes) -> None:
        """Remove the entry at `key`."""
        if self._objects.pop(key, None) is None:
            self.refuse(Errno.ENOENT, "the key is not there")

    def objects(self) -> dict[bytes, Any]:
        """All entries."""
        return dict(self._objects)

    def keys(self) -> list[bytes]:
        """The keys of all entries."""
        return list(self._objects)

    def __len__(self) -> int:
        return len(self._objects)


class ProgramArray(ObjectMap):
    """PROG_ARRAY: programs for tail_call, specs or lists of instructions."""


class MapOfMaps(ObjectMap):
    """ARRAY_OF_MAPS, HASH_OF_MAPS: a program that looks a key up gets a map."""

    def check_object(self, value: Any) -> None:
        """Refuse what is no map, or not of the inner map's shape."""
        if not isinstance(value, Map):
            self.refuse(Errno.EINVAL, f"{type(value).__name__} is no map")
        inner = self.spec.inner
        if inner is not None and (inner.type, inner.key.size, inner.value.size) != (
            value.type,
            value.key_size,
            value.value_size,
        ):
            self.refuse(Errno.EINVAL, f"map {value.name} has another shape than the inner map {inner.name}")


class SocketMap(ObjectMap):
    """SOCKMAP, SOCKHASH, REUSEPORT_SOCKARRAY: sockets by key."""

    def check_object(self, value: Any) -> None:
        """Refuse what is no socket."""
        if not isinstance(value, Sock):
            self.refuse(Errno.EINVAL, f"{type(value).__name__} is no socket")


class RedirectMap(ObjectMap):
    """DEVMAP, DEVMAP_HASH, CPUMAP, XSKMAP: where redirect_map can send a packet; a value may be any object."""


class CgroupArray(ObjectMap):
    """CGROUP_ARRAY: cgroups by index, as their ids."""


class StorageMap(Map):
    """SK_STORAGE, TASK_STORAGE, INODE_STORAGE, CGRP_STORAGE: a value of an object's own.

    The object is a `Sock` or a `KernelObject`; it is told apart by identity.
    """

    def set_up(self) -> None:
        """Make the map empty."""
        self._values: dict[int, tuple[object, bytearray]] = {}

    def value_of(self, owner: object) -> bytes | None:
        """The object's value, or None."""
        found = self.value_in_place(owner)
        return None if found is None else bytes(found)

    def set_value(self, owner: object, value: Key) -> None:
        """Give an object a value."""
        self._values[id(owner)] = (owner, bytearray(self.value_bytes(value)))

    def value_in_place(self, owner: object) -> bytearray | None:
        """The object's value, for a program."""
        found = self._values.get(id(owner))
        return None if found is None else found[1]

    def create(self, owner: object, value: bytes) -> bytearray:
        """Give an object its first value."""
        data = bytearray(value)
        self._values[id(owner)] = (owner, data)
        return data

    def discard(self, owner: object) -> None:
        """Remove an object's value. Raises `MapError`: ENOENT."""
        if self._values.pop(id(owner), None) is None:
            self.refuse(Errno.ENOENT, "the object has no value")

    def owners(self) -> list[object]:
        """The objects that have a value."""
        return [owner for owner, _ in self._values.values()]

    def __len__(self) -> int:
        return len(self._values)


class CgroupStorage(Map):
    """CGROUP_STORAGE, PERCPU_CGROUP_STORAGE: the value of the program's cgroup, for get_local_storage."""

    def set_up(self) -> None:
        """Make the value zero."""
        self.values = [bytearray(self.value_size) for _ in range(self.cpus)]

    def __len__(self) -> int:
        return 1
