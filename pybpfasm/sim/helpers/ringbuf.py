"""Helpers of ring buffers (kernel/bpf/ringbuf.c)."""

from typing import TYPE_CHECKING

from pybpfasm.sim.errors import SimError
from pybpfasm.sim.helpers.registry import helper
from pybpfasm.sim.linux_errno import Errno
from pybpfasm.sim.maps import RingBuffer
from pybpfasm.sim.memory import Region
from pybpfasm.sim.world import Event
from pybpfasm.uapi import Helper, RingbufFlag, RingbufQuery

if TYPE_CHECKING:
    from pybpfasm.sim.machine import Machine

_WAKEUPS = int(RingbufFlag.NO_WAKEUP | RingbufFlag.FORCE_WAKEUP)


def _ring(machine: "Machine", address: int) -> RingBuffer:
    found = machine.map_at(address)
    if not isinstance(found, RingBuffer):
        raise SimError(f"map {found.name} is of type {found.type.name}, not RINGBUF")
    return found


@helper(Helper.RINGBUF_OUTPUT)
def ringbuf_output(machine: "Machine", ring: int, data: int, size: int, flags: int) -> int:
    """Copy a record into the ring buffer; EAGAIN if there is no room."""
    found = _ring(machine, ring)
    content = machine.memory.read(data, size)
    if flags & ~_WAKEUPS:
        return -Errno.EINVAL
    record = found.reserve(size)
    if record is None:
        return -Errno.EAGAIN
    record[:] = content
    found.commit(record, discard=False)
    machine.observed.events.append(Event(found.name, machine.world.cpu, content))
    return 0


@helper(Helper.RINGBUF_RESERVE)
def ringbuf_reserve(machine: "Machine", ring: int, size: int, flags: int) -> int:
    """The address of a record to be written, then submitted or discarded; NULL if there is no room."""
    found = _ring(machine, ring)
    record = None if flags else found.reserve(size)
    if record is None:
        return 0
    region = Region(f"record of {found.name}", record)
    # The record's bytes are what a former one left there; here a program must write what it submits.
    address = machine.memory.show((found, record), region)
    machine.held[address] = f"a record of {found.name}: ringbuf_submit or ringbuf_discard is missing"
    return address


@helper(Helper.RINGBUF_SUBMIT)
def ringbuf_submit(machine: "Machine", record: int, flags: int) -> None:
    """Hand a record over to user space; its address is dead then."""
    _finish(machine, record, flags, "ringbuf_submit")


@helper(Helper.RINGBUF_DISCARD)
def ringbuf_discard(machine: "Machine", record: int, flags: int) -> None:
    """Drop a record; its address is dead then."""
    _finish(machine, record, flags, "ringbuf_discard")


def _finish(machine: "Machine", address: int, flags: int, name: str) -> None:
    del flags
    if address not in machine.held or not address:
        raise SimError(f"{name} of {address:#x}: it is not the begin of a reserved record")
    region = machine.memory.region_at(address)
    if region is None or not isinstance(region.owner, tuple):
        raise SimError(f"{name} of {address:#x}: it is no record")
    ring, record = region.owner
    del machine.held[address]
    discard = name == "ringbuf_discard"
    ring.commit(record, discard=discard)
    machine.memory.end(region, f"{name} has given the record away")
    if not discard:
        machine.observed.events.append(Event(ring.name, machine.world.cpu, bytes(record)))


@helper(Helper.RINGBUF_QUERY)
def ringbuf_query(machine: "Machine", ring: int, flags: int) -> int:
    """What is asked of the ring buffer: bytes used, its size, or positions (here the bytes used, and 0)."""
    found = _ring(machine, ring)
    if flags == RingbufQuery.RING_SIZE:
        return found.max_entries
    if flags in (RingbufQuery.AVAIL_DATA, RingbufQuery.PROD_POS):
        return found.used
    return 0
