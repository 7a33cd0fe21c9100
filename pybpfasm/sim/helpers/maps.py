"""Helpers of maps, and the local storage of sockets, tasks, inodes and cgroups."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from pybpfasm.sim.contexts.base import address_of
from pybpfasm.sim.contexts.sockets import Sock
from pybpfasm.sim.errors import SimError
from pybpfasm.sim.helpers.arguments import hold_socket, owner_at, socket_at
from pybpfasm.sim.helpers.registry import helper
from pybpfasm.sim.linked import map_address, value_address
from pybpfasm.sim.linux_errno import Errno
from pybpfasm.sim.maps import BloomFilter, CgroupStorage, Map, MapOfMaps, ObjectMap, SocketMap, StorageMap
from pybpfasm.sim.memory import Region
from pybpfasm.sim.registers import M32
from pybpfasm.uapi import Helper, LocalStorageFlag

if TYPE_CHECKING:
    from pybpfasm.sim.machine import Machine


def _cpu(machine: "Machine", map_: Map) -> int:
    return machine.world.cpu % map_.cpus


def _key(machine: "Machine", map_: Map, address: int) -> bytes:
    return machine.memory.read(address, map_.key_size)


@helper(Helper.MAP_LOOKUP_ELEM)
def map_lookup_elem(machine: "Machine", map_: Map, key: int) -> int:
    """The value's address, or NULL; of a map of maps, the inner map's; of a map of sockets, a socket to be released."""
    wanted = _key(machine, map_, key)
    if isinstance(map_, ObjectMap):
        return _object(machine, map_, wanted)
    values = map_.find(wanted)
    return 0 if values is None else value_address(machine, map_, values[_cpu(machine, map_)])


def _object(machine: "Machine", map_: ObjectMap, key: bytes) -> int:
    found = map_.get(key)
    if found is None:
        return 0
    if isinstance(map_, MapOfMaps):
        return map_address(machine, found)
    if isinstance(map_, SocketMap):
        return hold_socket(machine, found, "map_lookup_elem")
    if isinstance(found, int):
        found = map_.value_bytes(found)
    return address_of(found, machine.memory, f"value of {map_.name}")


@helper(Helper.MAP_LOOKUP_PERCPU_ELEM)
def map_lookup_percpu_elem(machine: "Machine", map_: Map, key: int, cpu: int) -> int:
    """The address of the value of another CPU, or NULL."""
    values = map_.find(_key(machine, map_, key))
    if values is None or cpu >= len(values):
        return 0
    return value_address(machine, map_, values[cpu])


@helper(Helper.MAP_UPDATE_ELEM)
def map_update_elem(machine: "Machine", map_: Map, key: int, value: int, flags: int) -> int:
    """Set the value at a key; of a per-CPU map, that of this CPU."""
    wanted = _key(machine, map_, key)
    if isinstance(map_, SocketMap):
        map_.set(wanted, socket_at(machine, value), flags)
        return 0
    if isinstance(map_, ObjectMap):
        raise SimError(f"map {map_.name} is of type {map_.type.name}: only user space updates it")
    data = machine.memory.read(value, map_.value_size)
    map_.put(wanted, [data] * map_.cpus, flags, [_cpu(machine, map_)])
    return 0


@helper(Helper.MAP_DELETE_ELEM)
def map_delete_elem(machine: "Machine", map_: Map, key: int) -> int:
    """Remove the entry at a key."""
    map_.remove(_key(machine, map_, key))
    return 0


@helper(Helper.MAP_PUSH_ELEM)
def map_push_elem(machine: "Machine", map_: Map, value: int, flags: int) -> int:
    """Add a value to a queue, a stack or a bloom filter."""
    map_.push(machine.memory.read(value, map_.value_size), flags)
    return 0


@helper(Helper.MAP_POP_ELEM)
def map_pop_elem(machine: "Machine", map_: Map, value: int) -> int:
    """Take the next value."""
    return _taken(machine, map_, value, map_.pop)


@helper(Helper.MAP_PEEK_ELEM)
def map_peek_elem(machine: "Machine", map_: Map, value: int) -> int:
    """Look at the next value, or ask a bloom filter."""
    if not isinstance(map_, BloomFilter):
        return _taken(machine, map_, value, lambda: map_.peek(b""))
    map_.peek(machine.memory.read(value, map_.value_size))
    return 0


def _taken(machine: "Machine", map_: Map, address: int, take: Callable[[], bytes]) -> int:
    """Write the value that there is; zeros if there is none (kernel/bpf/queue_stack_maps.c, queue_map_get)."""
    machine.memory.check_writable(address, map_.value_size)
    machine.memory.write(address, bytes(map_.value_size))
    machine.memory.write(address, take())
    return 0


@helper(Helper.FOR_EACH_MAP_ELEM)
def for_each_map_elem(machine: "Machine", map_: Map, callback: int, context: int, flags: int) -> int:
    """Call a function with each entry, until it returns 1; how many it was called with."""
    if flags:
        return -Errno.EINVAL
    count = 0
    for key, values in map_.entries():
        key_region = Region(f"key of {map_.name}", bytearray(key), writable=False)
        key_address = machine.memory.add(key_region)
        value = value_address(machine, map_, values[_cpu(machine, map_)])
        count += 1
        result = machine.call_function(callback, map_address(machine, map_), key_address, value, context)
        machine.memory.end(key_region, "the call that it was the key of is over")
        if result & M32:
            break
    return count


# --- local storage ----------------------------------------------------------------------------------------------------


def _storage(map_: Map) -> StorageMap:
    if not isinstance(map_, StorageMap):
        raise SimError(f"map {map_.name} is of type {map_.type.name}, not a local storage")
    return map_


@helper(Helper.SK_STORAGE_GET, Helper.TASK_STORAGE_GET, Helper.INODE_STORAGE_GET, Helper.CGRP_STORAGE_GET)
def storage_get(machine: "Machine", map_: Map, owner: int, value: int, flags: int) -> int:
    """The address of an object's value, or NULL; with CREATE it is made, from `value` or of zeros."""
    storage = _storage(map_)
    if flags & ~int(LocalStorageFlag.CREATE):
        return 0
    found = _owner(machine, map_, owner)
    if found is None:
        return 0
    data = storage.value_in_place(found)
    if data is None:
        if not flags & LocalStorageFlag.CREATE:
            return 0
        first = machine.memory.read(value, map_.value_size) if value else bytes(map_.value_size)
        data = storage.create(found, first)
    return value_address(machine, map_, data)


@helper(Helper.SK_STORAGE_DELETE, Helper.TASK_STORAGE_DELETE, Helper.INODE_STORAGE_DELETE, Helper.CGRP_STORAGE_DELETE)
def storage_delete(machine: "Machine", map_: Map, owner: int) -> int:
    """Remove an object's value."""
    found = _owner(machine, map_, owner)
    if found is None:
        return -Errno.EINVAL
    _storage(map_).discard(found)
    return 0


def _owner(machine: "Machine", map_: Map, address: int) -> object | None:
    found = owner_at(machine, address)
    if map_.type.name == "SK_STORAGE" and found is not None and not isinstance(found, Sock):
        raise SimError(f"map {map_.name} is sockets' storage, {address:#x} is none")
    return found


@helper(Helper.GET_LOCAL_STORAGE)
def get_local_storage(machine: "Machine", map_: int, flags: int) -> int:
    """The address of the value of the cgroup that the program is attached to."""
    found = machine.map_at(map_)
    if not isinstance(found, CgroupStorage) or flags:
        raise SimError(f"get_local_storage needs a cgroup storage and flags 0, not {found.type.name} and {flags:#x}")
    return value_address(machine, found, found.values[_cpu(machine, found)])
