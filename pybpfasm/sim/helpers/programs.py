"""Helpers that run other code, lock, or reach other CPUs: tail_call, loop, spin_lock, kptr_xchg, per_cpu_ptr."""

from typing import TYPE_CHECKING

from pybpfasm.sim.contexts.base import address_of
from pybpfasm.sim.errors import SimError
from pybpfasm.sim.helpers.registry import helper
from pybpfasm.sim.linux_errno import Errno
from pybpfasm.sim.maps import Map, ProgramArray
from pybpfasm.sim.registers import M32
from pybpfasm.uapi import Helper

if TYPE_CHECKING:
    from pybpfasm.sim.machine import Machine
    from pybpfasm.sim.program import Program

_MAX_LOOPS = 8 << 20  # BPF_MAX_LOOPS
_MAX_TAIL_CALLS = 33  # MAX_TAIL_CALL_CNT
_LOCK_BYTES = 4
_POINTER_BYTES = 8


def callee(machine: "Machine", context: int, array: int, index: int) -> "Program | None":
    """The program that a tail call goes to; None if there is none, or after 33 tail calls."""
    if machine.context_region is not None and context != machine.context_region.base:
        raise SimError("a tail call needs the context's address in r1")
    map_: Map = machine.map_at(array)
    if not isinstance(map_, ProgramArray):
        raise SimError(f"map {map_.name} is of type {map_.type.name}, not PROG_ARRAY")
    index &= M32
    if index >= map_.max_entries or machine.tail_calls >= _MAX_TAIL_CALLS:
        return None
    found = map_.get(index)
    return None if found is None else machine.links.program(machine.world, found, f"{map_.name}[{index}]")


@helper(Helper.LOOP)
def loop(machine: "Machine", count: int, callback: int, context: int, flags: int) -> int:
    """Call a function with 0, 1, … until it returns 1, or `count` times; how many times it was called."""
    if flags:
        return -Errno.EINVAL
    if count > _MAX_LOOPS:
        return -Errno.E2BIG
    for index in range(count):
        if machine.call_function(callback, index, context):
            return index + 1
    return count


@helper(Helper.SPIN_LOCK)
def spin_lock(machine: "Machine", lock: int) -> int:
    """Take a lock, of which a program can hold one."""
    machine.memory.load(lock, _LOCK_BYTES)
    machine.memory.check_writable(lock, _LOCK_BYTES)
    machine.lock = lock
    return 0


@helper(Helper.SPIN_UNLOCK)
def spin_unlock(machine: "Machine", lock: int) -> int:
    """Release the lock."""
    if machine.lock != lock:
        raise SimError("spin_unlock of a lock that the program does not hold")
    machine.lock = None
    return 0


@helper(Helper.KPTR_XCHG)
def kptr_xchg(machine: "Machine", target: int, pointer: int) -> int:
    """Exchange a pointer in a map's value; who takes one out has it."""
    old = machine.memory.load(target, _POINTER_BYTES)
    machine.memory.store(target, _POINTER_BYTES, pointer)
    machine.held.pop(pointer, None)
    if old:
        machine.held[old] = "a pointer of kptr_xchg: it must be released, or put into a map"
    return old


@helper(Helper.THIS_CPU_PTR)
def this_cpu_ptr(machine: "Machine", pointer: int) -> int:
    """The address of this CPU's value of a per-CPU variable."""
    return per_cpu_ptr(machine, pointer, machine.world.cpu)


@helper(Helper.PER_CPU_PTR)
def per_cpu_ptr(machine: "Machine", pointer: int, cpu: int) -> int:
    """The address of a CPU's value of a per-CPU variable; NULL if there is no such CPU."""
    region = machine.memory.region_at(pointer)
    if region is None or not isinstance(region.owner, list):
        raise SimError(f"{pointer:#x} is not the address of a per-CPU variable")
    if cpu >= len(region.owner):
        return 0
    return address_of(region.owner[cpu], machine.memory, f"{region.name}[{cpu}]")
