"""Maps of the interpreter: made from specs, filled and read by tests, used by programs.

maps = create_maps(collection)
maps["ports"].update(80, 1)
"""

from collections.abc import Mapping

from pybpfasm.sim.errors import SimError
from pybpfasm.sim.maps.base import Map
from pybpfasm.sim.maps.entries import ArrayMap, HashMap, LpmTrie, LruHashMap
from pybpfasm.sim.maps.objects import (
    CgroupArray,
    CgroupStorage,
    MapOfMaps,
    ObjectMap,
    ProgramArray,
    RedirectMap,
    SocketMap,
    StorageMap,
)
from pybpfasm.sim.maps.queues import BloomFilter, PerfEventArray, QueueMap, RingBuffer, StackMap, StackTraces
from pybpfasm.sim.memory import BYTE_ORDERS, ByteOrder
from pybpfasm.spec import CollectionSpec, MapSpec, ProgramSpec
from pybpfasm.uapi import MapType

__all__ = [
    "ArrayMap",
    "BloomFilter",
    "CgroupArray",
    "CgroupStorage",
    "HashMap",
    "LpmTrie",
    "LruHashMap",
    "Map",
    "MapOfMaps",
    "ObjectMap",
    "PerfEventArray",
    "ProgramArray",
    "QueueMap",
    "RedirectMap",
    "RingBuffer",
    "SocketMap",
    "StackMap",
    "StackTraces",
    "StorageMap",
    "create_map",
    "create_maps",
]

_CLASSES: dict[MapType, type[Map]] = {
    MapType.HASH: HashMap,
    MapType.PERCPU_HASH: HashMap,
    MapType.LRU_HASH: LruHashMap,
    MapType.LRU_PERCPU_HASH: LruHashMap,
    MapType.ARRAY: ArrayMap,
    MapType.PERCPU_ARRAY: ArrayMap,
    MapType.LPM_TRIE: LpmTrie,
    MapType.QUEUE: QueueMap,
    MapType.STACK: StackMap,
    MapType.BLOOM_FILTER: BloomFilter,
    MapType.RINGBUF: RingBuffer,
    MapType.PERF_EVENT_ARRAY: PerfEventArray,
    MapType.STACK_TRACE: StackTraces,
    MapType.PROG_ARRAY: ProgramArray,
    MapType.ARRAY_OF_MAPS: MapOfMaps,
    MapType.HASH_OF_MAPS: MapOfMaps,
    MapType.SOCKMAP: SocketMap,
    MapType.SOCKHASH: SocketMap,
    MapType.REUSEPORT_SOCKARRAY: SocketMap,
    MapType.DEVMAP: RedirectMap,
    MapType.DEVMAP_HASH: RedirectMap,
    MapType.CPUMAP: RedirectMap,
    MapType.XSKMAP: RedirectMap,
    MapType.CGROUP_ARRAY: CgroupArray,
    MapType.SK_STORAGE: StorageMap,
    MapType.TASK_STORAGE: StorageMap,
    MapType.INODE_STORAGE: StorageMap,
    MapType.CGRP_STORAGE: StorageMap,
    MapType.CGROUP_STORAGE: CgroupStorage,
    MapType.PERCPU_CGROUP_STORAGE: CgroupStorage,
}


def create_map(spec: MapSpec, *, cpus: int = 4, byteorder: ByteOrder = "little") -> Map:
    """An empty map of the spec's shape. Raises `SimError` for a type that is not simulated."""
    if cpus < 1 or byteorder not in BYTE_ORDERS:
        raise SimError(f"map {spec.name}: cpus is {cpus} and byteorder {byteorder!r}: 1 at least, 'little' or 'big'")
    found = _CLASSES.get(spec.type)
    if found is None:
        raise SimError(f"map {spec.name} is of type {spec.type.name}, which is not simulated")
    return found(spec, cpus=cpus, order=byteorder)


def create_maps(
    spec: ProgramSpec | CollectionSpec | Mapping[str, MapSpec], *, cpus: int = 4, byteorder: ByteOrder = "little"
) -> dict[str, Map]:
    """An empty map for each of a program's or a collection's, by name."""
    specs = spec.maps if isinstance(spec, ProgramSpec | CollectionSpec) else spec
    return {name: create_map(each, cpus=cpus, byteorder=byteorder) for name, each in specs.items()}
