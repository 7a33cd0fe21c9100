"""The running kernel: maps, programs and links as objects that own file descriptors, and pins that outlive them.

Everything works from Linux 5.10 on; where something came later its docstring has the version. What the kernel refuses
is a `KernelError` that says what, why and, where it is a matter of privilege, which capability is missing.
"""

from pybpfasm.lazy import lazy_attributes

TYPE_CHECKING = False  # as typing has it
if TYPE_CHECKING:
    from pybpfasm.kernel.collection import Collection
    from pybpfasm.kernel.descriptor import Descriptor
    from pybpfasm.kernel.events import PerfBuffer, Poller, RingBuffer, UserRingBuffer
    from pybpfasm.kernel.info import MapInfo, ProgramInfo, program_info
    from pybpfasm.kernel.link_info import LinkInfo
    from pybpfasm.kernel.links import Link, attach_cgroup, attach_sockmap
    from pybpfasm.kernel.maps import Map, MapFullError, ShapeError, TypedMap
    from pybpfasm.kernel.pins import ensure_bpffs, is_bpffs, open_pin
    from pybpfasm.kernel.programs import Program, ProgramStats
    from pybpfasm.kernel.runs import Run
    from pybpfasm.kernel.stats import enable_stats
    from pybpfasm.kernel.target import Target, named_target, running_target
    from pybpfasm.kernel.verifier import VerifierError

if not TYPE_CHECKING:
    # Each brings its own along: who loads a program has no need of links, nor of what reads events.
    __getattr__ = lazy_attributes(
        __name__,
        {
            "collection": "Collection",
            "descriptor": "Descriptor",
            "events": "PerfBuffer Poller RingBuffer UserRingBuffer",
            "info": "MapInfo ProgramInfo program_info",
            "link_info": "LinkInfo",
            "links": "Link attach_cgroup attach_sockmap",
            "maps": "Map MapFullError ShapeError TypedMap",
            "pins": "ensure_bpffs is_bpffs open_pin",
            "programs": "Program ProgramStats",
            "runs": "Run",
            "stats": "enable_stats",
            "target": "Target named_target running_target",
            "verifier": "VerifierError",
        },
    )

__all__ = [
    "Collection",
    "Descriptor",
    "Link",
    "LinkInfo",
    "Map",
    "MapFullError",
    "MapInfo",
    "PerfBuffer",
    "Poller",
    "Program",
    "ProgramInfo",
    "ProgramStats",
    "RingBuffer",
    "Run",
    "ShapeError",
    "Target",
    "TypedMap",
    "UserRingBuffer",
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
