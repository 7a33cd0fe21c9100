"""The running kernel: maps, programs and links as objects that own file descriptors, and pins that outlive them."""

from typing import TYPE_CHECKING

from pybpfasm.kernel.descriptor import Descriptor
from pybpfasm.kernel.info import LinkInfo, MapInfo, ProgramInfo, program_info
from pybpfasm.kernel.links import Link, attach_cgroup, attach_sockmap
from pybpfasm.kernel.maps import Map, MapFullError, ShapeError, TypedMap
from pybpfasm.kernel.pins import ensure_bpffs, is_bpffs, open_pin
from pybpfasm.kernel.programs import Program, ProgramStats
from pybpfasm.kernel.runs import Run
from pybpfasm.kernel.stats import enable_stats
from pybpfasm.kernel.verifier import VerifierError
from pybpfasm.lazy import lazy_attributes

if TYPE_CHECKING:
    from pybpfasm.kernel.target import Target, named_target, running_target

if not TYPE_CHECKING:
    # It brings all probes along.
    __getattr__ = lazy_attributes(__name__, {"target": "Target named_target running_target"})

__all__ = [
    "Descriptor",
    "Link",
    "LinkInfo",
    "Map",
    "MapFullError",
    "MapInfo",
    "Program",
    "ProgramInfo",
    "ProgramStats",
    "Run",
    "ShapeError",
    "Target",
    "TypedMap",
    "VerifierError",
    "attach_cgroup",
    "attach_sockmap",
    "enable_stats",
    "ensure_bpffs",
    "is_bpffs",
    "named_target",
    "open_pin",
    "program_info",
    "running_target",
]
