"""Helpers of cgroup/sysctl programs (kernel/bpf/cgroup.c)."""

from typing import TYPE_CHECKING

from pybpfasm.sim.contexts.tracing import Sysctl
from pybpfasm.sim.helpers.arguments import context_of
from pybpfasm.sim.helpers.registry import helper
from pybpfasm.sim.linux_errno import Errno
from pybpfasm.uapi import Helper, SysctlNameFlag

if TYPE_CHECKING:
    from pybpfasm.sim.machine import Machine


def _copy(machine: "Machine", target: int, size: int, data: bytes) -> int:
    if not target or not size:
        return -Errno.EINVAL
    machine.memory.check_writable(target, size)
    if len(data) >= size:
        machine.memory.write(target, data[: size - 1] + b"\0")
        return -Errno.E2BIG
    machine.memory.write(target, data.ljust(size, b"\0"))
    return len(data)


@helper(Helper.SYSCTL_GET_NAME)
def sysctl_get_name(machine: "Machine", context: int, target: int, size: int, flags: int) -> int:
    """The name with its path below /proc/sys, or without; its length, or E2BIG if it was cut."""
    name = context_of(machine, context, Sysctl).name
    if flags & SysctlNameFlag.BASE_NAME:
        name = name.rpartition("/")[2]
    return _copy(machine, target, size, name.encode())


@helper(Helper.SYSCTL_GET_CURRENT_VALUE)
def sysctl_get_current_value(machine: "Machine", context: int, target: int, size: int) -> int:
    """The value that the file has; its length."""
    return _copy(machine, target, size, context_of(machine, context, Sysctl).current_value)


@helper(Helper.SYSCTL_GET_NEW_VALUE)
def sysctl_get_new_value(machine: "Machine", context: int, target: int, size: int) -> int:
    """The value that is about to be written; EINVAL while reading."""
    found = context_of(machine, context, Sysctl)
    return _copy(machine, target, size, found.new_value) if found.write else -Errno.EINVAL


@helper(Helper.SYSCTL_SET_NEW_VALUE)
def sysctl_set_new_value(machine: "Machine", context: int, source: int, size: int) -> int:
    """Write another value instead."""
    found = context_of(machine, context, Sysctl)
    if not found.write or not size:
        return -Errno.EINVAL
    found.new_value = machine.memory.read(source, size)
    return 0
