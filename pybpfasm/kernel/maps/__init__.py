"""Maps in the kernel: made, opened, read and written; as bytes (`Map`) or as Python values (`TypedMap` and others)."""

from pybpfasm.lazy import lazy_attributes

TYPE_CHECKING = False  # as typing has it
if TYPE_CHECKING:
    from pybpfasm.kernel.maps.codecs import Codec, codec_of
    from pybpfasm.kernel.maps.cpus import count_cpus, possible_cpus
    from pybpfasm.kernel.maps.create import load_btf, supports_map_type
    from pybpfasm.kernel.maps.errors import MapFullError, MapOperationError, ShapeError
    from pybpfasm.kernel.maps.kinds import KINDS, Kind, Operation, Shape, kind_of
    from pybpfasm.kernel.maps.map import Map
    from pybpfasm.kernel.maps.memory import MappedArena, MappedArray
    from pybpfasm.kernel.maps.names import NAME_BYTES, object_name
    from pybpfasm.kernel.maps.typed import BloomFilter, PerCpuMap, TypedMap, TypedQueue

if not TYPE_CHECKING:
    __getattr__ = lazy_attributes(
        __name__,
        {
            "codecs": "Codec codec_of",
            "cpus": "count_cpus possible_cpus",
            "create": "load_btf supports_map_type",
            "errors": "MapFullError MapOperationError ShapeError",
            "kinds": "KINDS Kind Operation Shape kind_of",
            "map": "Map",
            "memory": "MappedArena MappedArray",
            "names": "NAME_BYTES object_name",
            "typed": "BloomFilter PerCpuMap TypedMap TypedQueue",
        },
    )

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
