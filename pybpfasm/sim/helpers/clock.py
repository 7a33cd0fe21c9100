"""Helpers that ask for time, CPU, randomness and the current task."""

from typing import TYPE_CHECKING

from pybpfasm.sim.contexts.base import address_of
from pybpfasm.sim.helpers.registry import helper
from pybpfasm.sim.linux_errno import Errno
from pybpfasm.sim.maps import CgroupArray, Map
from pybpfasm.uapi import Helper

if TYPE_CHECKING:
    from pybpfasm.sim.machine import Machine

_COARSE_NS = 1_000_000  # a tick at 1000 Hz
_TAI_OFFSET_NS = 37_000_000_000  # TAI is 37 s ahead of UTC since 2017


@helper(Helper.KTIME_GET_NS)
def ktime_get_ns(machine: "Machine") -> int:
    """Nanoseconds since boot, without time suspended."""
    return machine.world.now_ns()


@helper(Helper.KTIME_GET_BOOT_NS)
def ktime_get_boot_ns(machine: "Machine") -> int:
    """Nanoseconds since boot, with time suspended."""
    return machine.world.now_ns() + machine.world.suspended_ns


@helper(Helper.KTIME_GET_COARSE_NS)
def ktime_get_coarse_ns(machine: "Machine") -> int:
    """Nanoseconds since boot as of the last tick."""
    return machine.world.now_ns() // _COARSE_NS * _COARSE_NS


@helper(Helper.KTIME_GET_TAI_NS)
def ktime_get_tai_ns(machine: "Machine") -> int:
    """Nanoseconds of International Atomic Time since 1970."""
    return machine.world.now_ns() + machine.world.realtime_offset_ns + _TAI_OFFSET_NS


@helper(Helper.JIFFIES64)
def jiffies64(machine: "Machine") -> int:
    """Ticks, as the kernel counts them."""
    return machine.world.jiffies()


@helper(Helper.GET_PRANDOM_U32)
def get_prandom_u32(machine: "Machine") -> int:
    """A pseudo-random number of 32 bits."""
    return machine.world.random_u32()


@helper(Helper.GET_SMP_PROCESSOR_ID)
def get_smp_processor_id(machine: "Machine") -> int:
    """The CPU that the program runs on."""
    return machine.world.cpu


@helper(Helper.GET_NUMA_NODE_ID)
def get_numa_node_id(machine: "Machine") -> int:
    """The NUMA node of that CPU."""
    return machine.world.numa_node


@helper(Helper.GET_CURRENT_PID_TGID)
def get_current_pid_tgid(machine: "Machine") -> int:
    """The thread group in the upper half, the thread in the lower."""
    return machine.world.tgid << 32 | machine.world.pid


@helper(Helper.GET_CURRENT_UID_GID)
def get_current_uid_gid(machine: "Machine") -> int:
    """The group in the upper half, the user in the lower."""
    return machine.world.gid << 32 | machine.world.uid


@helper(Helper.GET_CURRENT_COMM)
def get_current_comm(machine: "Machine", buffer: int, size: int) -> int:
    """The task's name, cut to fit and padded with zeros."""
    if size == 0:
        return -Errno.EINVAL
    name = machine.world.comm.encode()[: min(size, 16) - 1]
    machine.memory.check_writable(buffer, size)
    machine.memory.write(buffer, name.ljust(size, b"\0"))
    return 0


@helper(Helper.GET_CURRENT_TASK, Helper.GET_CURRENT_TASK_BTF)
def get_current_task(machine: "Machine") -> int:
    """The address of the current task."""
    return address_of(machine.world.task, machine.memory, "task")


@helper(Helper.GET_NS_CURRENT_PID_TGID)
def get_ns_current_pid_tgid(machine: "Machine", device: int, inode: int, info: int, size: int) -> int:
    """The thread and thread group as a PID namespace numbers them; here all namespaces number them the same."""
    del device, inode
    if size != 8:
        return -Errno.EINVAL
    order = machine.world.byteorder
    machine.memory.write(info, machine.world.pid.to_bytes(4, order) + machine.world.tgid.to_bytes(4, order))
    return 0


@helper(Helper.GET_CURRENT_CGROUP_ID)
def get_current_cgroup_id(machine: "Machine") -> int:
    """The id of the task's cgroup."""
    return machine.world.cgroup_id


def ancestor(machine: "Machine", level: int) -> int:
    """The id of the cgroup's ancestor at a level, 0 being the root; 0 if there is none."""
    ids = machine.world.ancestor_cgroup_ids or [machine.world.cgroup_id]
    return ids[level] if 0 <= level < len(ids) else 0


@helper(Helper.GET_CURRENT_ANCESTOR_CGROUP_ID)
def get_current_ancestor_cgroup_id(machine: "Machine", level: int) -> int:
    """The id of the task's cgroup's ancestor at a level."""
    return ancestor(machine, level)


@helper(Helper.CURRENT_TASK_UNDER_CGROUP)
def current_task_under_cgroup(machine: "Machine", map_: Map, index: int) -> int:
    """Whether the task is in the cgroup at an index, or below it."""
    if not isinstance(map_, CgroupArray) or index >= map_.max_entries:
        return -Errno.E2BIG
    found = map_.get(index)
    if found is None:
        return -Errno.EAGAIN
    return int(found in (machine.world.cgroup_id, *machine.world.ancestor_cgroup_ids))
