"""Helpers of the kernel, by number: `HELPERS`. A file a family; `registry` says how they are called."""

from pybpfasm.sim.helpers import (
    checksums,
    clock,
    header_options,
    maps,
    messages,
    packets,
    printing,
    programs,
    ringbuf,
    sockets,
    strings,
    sysctl,
    tracing,
    xdp,
)
from pybpfasm.sim.helpers.registry import HELPERS

# Each enters its helpers into the table when it is loaded.
FAMILIES = (
    checksums,
    clock,
    header_options,
    maps,
    messages,
    packets,
    printing,
    programs,
    ringbuf,
    sockets,
    strings,
    sysctl,
    tracing,
    xdp,
)

__all__ = ["FAMILIES", "HELPERS"]
