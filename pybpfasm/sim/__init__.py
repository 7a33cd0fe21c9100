"""The interpreter: a BPF program as Python runs it, for unit tests without root, without a kernel, on any system.

from pybpfasm import isa, sim

assert sim.run([isa.mov_imm(0, 42), isa.exit_program()]).ret == 42
"""

from pybpfasm.sim.contexts import (
    Arguments,
    Bytes,
    Context,
    Device,
    PerfEvent,
    RegistersArm64,
    RegistersX86,
    SkBuff,
    SkLookup,
    SkMsg,
    SkReuseport,
    Sock,
    SockAddr,
    SockOps,
    Sockopt,
    Sysctl,
    TcpSock,
    Tracepoint,
    Xdp,
)
from pybpfasm.sim.coverage import Coverage, Missing
from pybpfasm.sim.errors import (
    AccessError,
    MapError,
    MissingHelperError,
    SimError,
    StepLimitError,
    UninitialisedError,
)
from pybpfasm.sim.machine import Machine
from pybpfasm.sim.maps import Map, create_map, create_maps
from pybpfasm.sim.running import Result, run, step
from pybpfasm.sim.tracing import TraceEntry
from pybpfasm.sim.world import Action, Event, FibAnswer, KernelObject, Observed, Redirect, World

__all__ = [
    "AccessError",
    "Action",
    "Arguments",
    "Bytes",
    "Context",
    "Coverage",
    "Device",
    "Event",
    "FibAnswer",
    "KernelObject",
    "Machine",
    "Map",
    "MapError",
    "Missing",
    "MissingHelperError",
    "Observed",
    "PerfEvent",
    "Redirect",
    "RegistersArm64",
    "RegistersX86",
    "Result",
    "SimError",
    "SkBuff",
    "SkLookup",
    "SkMsg",
    "SkReuseport",
    "Sock",
    "SockAddr",
    "SockOps",
    "Sockopt",
    "StepLimitError",
    "Sysctl",
    "TcpSock",
    "TraceEntry",
    "Tracepoint",
    "UninitialisedError",
    "World",
    "Xdp",
    "create_map",
    "create_maps",
    "run",
    "step",
]
