"""Addresses that stand for maps, their values, and per-CPU variables."""

from typing import TYPE_CHECKING, Any

from pybpfasm.sim.maps import Map
from pybpfasm.sim.memory import Region

if TYPE_CHECKING:
    from pybpfasm.sim.machine import Machine


def map_address(machine: "Machine", found: Map) -> int:
    """The address that stands for a map."""
    region = machine.memory.shown(found)
    if region is not None:
        return region.base
    region = Region(f"map {found.name}", bytearray(), readable=False, writable=False)
    return machine.memory.show(found, region)


def value_address(machine: "Machine", found: Map, value: bytearray) -> int:
    """The address of a map's value; programs read and write it in place."""
    return machine.memory.address_of(
        value, f"value of {found.name}", writable=found.program_can_write, readable=found.program_can_read
    )


def per_cpu_address(machine: "Machine", name: str, values: list[Any]) -> int:
    """The address that stands for a per-CPU variable: per_cpu_ptr and this_cpu_ptr make a real one of it."""
    region = machine.memory.shown(values)
    if region is not None:
        return region.base
    return machine.memory.show(values, Region(f"per-CPU {name}", bytearray(), readable=False, writable=False))
