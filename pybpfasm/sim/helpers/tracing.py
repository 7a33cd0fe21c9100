"""Helpers of tracing: memory that may not be there, records for user space, functions' arguments, stacks, signals."""

from typing import TYPE_CHECKING

from pybpfasm.sim.contexts.tracing import Arguments, RegistersArm64, RegistersX86, Words
from pybpfasm.sim.errors import AccessError, SimError
from pybpfasm.sim.helpers.arguments import context_of, packet_of
from pybpfasm.sim.helpers.registry import helper
from pybpfasm.sim.linux_errno import Errno
from pybpfasm.sim.maps import Map, PerfEventArray, StackTraces
from pybpfasm.sim.registers import M32
from pybpfasm.sim.world import Event
from pybpfasm.uapi import Helper, PerfEventFlag, StackFlag

if TYPE_CHECKING:
    from pybpfasm.sim.machine import Machine

_WORD = 8


# --- memory -----------------------------------------------------------------------------------------------------------


@helper(
    Helper.PROBE_READ,
    Helper.PROBE_READ_KERNEL,
    Helper.PROBE_READ_USER,
    Helper.COPY_FROM_USER,
)
def probe_read(machine: "Machine", target: int, size: int, source: int) -> int:
    """Copy from anywhere; zeros and EFAULT if it cannot be read."""
    machine.memory.check_writable(target, size)
    try:
        data = machine.memory.read(source, size)
    except AccessError:
        machine.memory.write(target, bytes(size))
        return -Errno.EFAULT
    machine.memory.write(target, data)
    return 0


@helper(Helper.PROBE_READ_STR, Helper.PROBE_READ_KERNEL_STR, Helper.PROBE_READ_USER_STR)
def probe_read_str(machine: "Machine", target: int, size: int, source: int) -> int:
    """Copy a string from anywhere, cut to fit; its length with its zero, or EFAULT."""
    machine.memory.check_writable(target, size)
    if size == 0:
        return 0
    try:
        data = machine.memory.read_string(source, size)
    except AccessError:
        machine.memory.write(target, bytes(size))
        return -Errno.EFAULT
    data = data[: size - 1] + b"\0"
    machine.memory.write(target, data)
    return len(data)


@helper(Helper.PROBE_WRITE_USER)
def probe_write_user(machine: "Machine", target: int, source: int, size: int) -> int:
    """Write into memory of the task; EPERM if it cannot be written."""
    data = machine.memory.read(source, size)
    try:
        machine.memory.write(target, data)
    except AccessError:
        return -Errno.EPERM
    return 0


# --- records ----------------------------------------------------------------------------------------------------------


@helper(Helper.PERF_EVENT_OUTPUT, Helper.SKB_OUTPUT, Helper.XDP_OUTPUT)
def perf_event_output(machine: "Machine", context: int, map_: Map, flags: int, data: int, size: int) -> int:
    """Send a record to user space, by a CPU's ring; with the first bytes of the packet if `flags` asks for some."""
    del context
    record = machine.memory.read(data, size)
    if not isinstance(map_, PerfEventArray):
        raise SimError(f"map {map_.name} is of type {map_.type.name}, not PERF_EVENT_ARRAY")
    if flags & ~int(PerfEventFlag.INDEX_MASK | PerfEventFlag.CTXLEN_MASK):
        return -Errno.EINVAL
    index = flags & M32
    cpu = machine.world.cpu if index == PerfEventFlag.CURRENT_CPU else index
    if cpu >= map_.max_entries:
        return -Errno.E2BIG
    wanted = (flags & int(PerfEventFlag.CTXLEN_MASK)) >> 32
    if wanted:
        packet = packet_of(machine).data
        if wanted > len(packet):
            return -Errno.EFAULT
        record += packet[:wanted]
    map_.records.append((cpu, record))
    machine.observed.events.append(Event(map_.name, cpu, record))
    return 0


@helper(Helper.PERF_EVENT_READ)
def perf_event_read(machine: "Machine", map_: Map, flags: int) -> int:
    """A counter, as the test put it into the map's `counters`."""
    counter = _counter(machine, map_, flags)
    return -Errno.ENOENT if counter is None else counter[0]


@helper(Helper.PERF_EVENT_READ_VALUE)
def perf_event_read_value(machine: "Machine", map_: Map, flags: int, target: int, size: int) -> int:
    """A counter with the times that it was enabled and running."""
    machine.memory.check_writable(target, size)
    counter = _counter(machine, map_, flags)
    if size != 3 * _WORD or counter is None:
        machine.memory.write(target, bytes(size))
        return -Errno.EINVAL if counter is not None else -Errno.ENOENT
    order = machine.world.byteorder
    machine.memory.write(target, b"".join(value.to_bytes(_WORD, order) for value in counter))
    return 0


def _counter(machine: "Machine", map_: Map, flags: int) -> tuple[int, int, int] | None:
    if not isinstance(map_, PerfEventArray):
        raise SimError(f"map {map_.name} is of type {map_.type.name}, not PERF_EVENT_ARRAY")
    index = flags & M32
    return map_.counters.get(machine.world.cpu if index == PerfEventFlag.CURRENT_CPU else index)


# --- functions --------------------------------------------------------------------------------------------------------


@helper(Helper.GET_FUNC_IP)
def get_func_ip(machine: "Machine", context: int) -> int:
    """The address of the traced function: the registers' instruction pointer, or 0."""
    found = context_of(machine, context, Words)
    if isinstance(found, RegistersX86):
        return int(found.ip)
    return int(found.pc) if isinstance(found, RegistersArm64) else 0


@helper(Helper.GET_FUNC_ARG)
def get_func_arg(machine: "Machine", context: int, index: int, target: int) -> int:
    """An argument of the traced function."""
    found = context_of(machine, context, Arguments)
    machine.memory.check_writable(target, _WORD)
    if index >= len(found.values):
        return -Errno.EINVAL
    machine.memory.write(target, machine.memory.read(context + index * _WORD, _WORD))
    return 0


@helper(Helper.GET_FUNC_RET)
def get_func_ret(machine: "Machine", context: int, target: int) -> int:
    """The traced function's return value; EOPNOTSUPP where it has not returned yet."""
    found = context_of(machine, context, Arguments)
    machine.memory.check_writable(target, _WORD)
    if found.returned is None:
        return -Errno.EOPNOTSUPP
    machine.memory.write(target, machine.memory.read(context + len(found.values) * _WORD, _WORD))
    return 0


@helper(Helper.GET_FUNC_ARG_CNT)
def get_func_arg_cnt(machine: "Machine", context: int) -> int:
    """How many arguments the traced function has."""
    return len(context_of(machine, context, Arguments).values)


@helper(Helper.OVERRIDE_RETURN)
def override_return(machine: "Machine", context: int, value: int) -> int:
    """The traced function is not to run, and to return a value."""
    context_of(machine, context, RegistersX86, RegistersArm64)
    machine.observed.act("override_return", value=value)
    return 0


@helper(Helper.GET_RETVAL)
def get_retval(machine: "Machine") -> int:
    """What the system call will return: what set_retval said last, else the context's `retval`, else 0."""
    for action in reversed(machine.observed.actions):
        if action.helper == "set_retval":
            return int(action.arguments["value"])
    return int(getattr(machine.context, "retval", 0))


@helper(Helper.SET_RETVAL)
def set_retval(machine: "Machine", value: int) -> int:
    """The system call is to return a value."""
    machine.observed.act("set_retval", value=value)
    return 0


@helper(Helper.SEND_SIGNAL)
def send_signal(machine: "Machine", number: int) -> int:
    """Send a signal to the current process."""
    return _signal(machine, "send_signal", number)


@helper(Helper.SEND_SIGNAL_THREAD)
def send_signal_thread(machine: "Machine", number: int) -> int:
    """Send a signal to the current thread."""
    return _signal(machine, "send_signal_thread", number)


def _signal(machine: "Machine", name: str, number: int) -> int:
    if number > 64:  # _NSIG
        return -Errno.EINVAL
    machine.observed.act(name, signal=number)
    return 0


# --- stacks -----------------------------------------------------------------------------------------------------------


def _canned(machine: "Machine", flags: int) -> list[int]:
    stack = machine.world.user_stack if flags & StackFlag.USER_STACK else machine.world.stack
    return stack[flags & StackFlag.SKIP_FIELD_MASK :]


@helper(Helper.GET_STACK)
def get_stack(machine: "Machine", context: int, target: int, size: int, flags: int) -> int:
    """The world's canned stack, as addresses of 8 bytes; how many bytes it takes."""
    del context
    machine.memory.check_writable(target, size)
    if flags & ~int(StackFlag.SKIP_FIELD_MASK | StackFlag.USER_STACK) or size % _WORD:
        machine.memory.write(target, bytes(size))
        return -Errno.EINVAL
    order = machine.world.byteorder
    data = b"".join(address.to_bytes(_WORD, order) for address in _canned(machine, flags))[:size]
    machine.memory.write(target, data.ljust(size, b"\0"))
    return len(data)


@helper(Helper.GET_TASK_STACK)
def get_task_stack(machine: "Machine", task: int, target: int, size: int, flags: int) -> int:
    """The same for a task's stack."""
    return get_stack(machine, task, target, size, flags)


@helper(Helper.GET_STACKID)
def get_stackid(machine: "Machine", context: int, map_: Map, flags: int) -> int:
    """Keep the world's canned stack in a map; its id."""
    del context
    if not isinstance(map_, StackTraces):
        raise SimError(f"map {map_.name} is of type {map_.type.name}, not STACK_TRACE")
    known = StackFlag.SKIP_FIELD_MASK | StackFlag.USER_STACK | StackFlag.FAST_STACK_CMP | StackFlag.REUSE_STACKID
    if flags & ~int(known):
        return -Errno.EINVAL
    stack = _canned(machine, flags)[: map_.value_size // _WORD]
    return map_.store(tuple(stack)) if stack else -Errno.EFAULT
