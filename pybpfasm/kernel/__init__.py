"""The running kernel: maps, programs and links as objects that own file descriptors, and pins that outlive them."""

from pybpfasm.kernel.descriptor import Descriptor
from pybpfasm.kernel.info import LinkInfo, MapInfo, ProgramInfo, program_info
from pybpfasm.kernel.links import Link, attach_cgroup, attach_sockmap
from pybpfasm.kernel.maps import Map, MapFullError, ShapeError, TypedMap
from pybpfasm.kernel.pins import ensure_bpffs, is_bpffs, open_pin
from pybpfasm.kernel.programs import Program
from pybpfasm.kernel.verifier import VerifierError

__all__ = [
    "Descriptor",
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
    "open_pin",
    "program_info",
]
