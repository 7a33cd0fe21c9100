"""The running kernel: maps, programs and links as objects that own file descriptors, and pins that outlive them."""

from pybpfasm.kernel.info import LinkInfo, MapInfo, ProgramInfo
from pybpfasm.kernel.links import Link, attach_cgroup, attach_sockmap
from pybpfasm.kernel.maps import Map, MapFullError, ShapeError, TypedMap
from pybpfasm.kernel.pins import ensure_bpffs, is_bpffs
from pybpfasm.kernel.programs import Program
from pybpfasm.kernel.sys import raise_memlock_limit
from pybpfasm.kernel.verifier import VerifierError

__all__ = [
    "Link",
    "LinkInfo",
    "Map",
    "MapFullError",
    "MapInfo",
    "Program",
    "ProgramInfo",
    "ShapeError",
    "TypedMap",
    "VerifierError",
    "attach_cgroup",
    "attach_sockmap",
    "ensure_bpffs",
    "is_bpffs",
    "raise_memlock_limit",
]
