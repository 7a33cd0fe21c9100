"""Maps in the kernel: made, opened, read and written; as bytes (`Map`) or as Python values (`TypedMap` and others)."""

from pybpfasm.kernel.maps.codecs import Codec, codec_of
from pybpfasm.kernel.maps.cpus import count_cpus, possible_cpus
from pybpfasm.kernel.maps.create import load_btf, supports_map_type
from pybpfasm.kernel.maps.errors import MapFullError, MapOperationError, ShapeError
from pybpfasm.kernel.maps.kinds import KINDS, Kind, Operation, Shape, kind_of
from pybpfasm.kernel.maps.map import Map
from pybpfasm.kernel.maps.memory import MappedArena, MappedArray
from pybpfasm.kernel.maps.names import NAME_BYTES, object_name
from pybpfasm.kernel.maps.typed import BloomFilter, PerCpuMap, TypedMap, TypedQueue

__all__ = [
    "KINDS",
    "NAME_BYTES",
    "BloomFilter",
    "Codec",
    "Kind",
    "Map",
    "MapFullError",
    "MapOperationError",
    "MappedArena",
    "MappedArray",
    "Operation",
    "PerCpuMap",
    "Shape",
    "ShapeError",
    "TypedMap",
    "TypedQueue",
    "codec_of",
    "count_cpus",
    "kind_of",
    "load_btf",
    "object_name",
    "possible_cpus",
    "supports_map_type",
]
