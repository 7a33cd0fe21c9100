"""Programs that see the kernel, or a process, at work: what they are handed, and their decorators.

The parameters of such a program are those of the function that it looks at, in their order, as many as are wanted:
`@fentry("tcp_connect") def connecting(sk: sock) -> int`. By name, behind a `*`, come `result`, what the function has
returned, and `ctx`, the context, which some helpers want.
"""

import platform
from collections.abc import Callable
from typing import Any, TypeVar, overload

from pybpfasm.lang.context_fields import Context, context_field
from pybpfasm.lang.kernel_structs import KernelStruct
from pybpfasm.lang.maps import only_in_program
from pybpfasm.lang.programs import Calling, Program, ProgramKind
from pybpfasm.lang.types import Struct, u64
from pybpfasm.uapi import AttachType, ProgramLoadFlag, ProgramType

K = TypeVar("K", bound=KernelStruct)

Decorator = Callable[[Callable[..., int]], Program[Any]]

# Where the registers lie: struct pt_regs of arch/x86/include/uapi/asm/ptrace.h, struct user_pt_regs of arm64's.
_ARM = platform.machine() in ("aarch64", "arm64")
ARGUMENTS_AT = tuple(range(0, 64, 8)) if _ARM else (112, 104, 96, 88, 72, 64)
RESULT_AT = 0 if _ARM else 80
_STACK_AT, _INSTRUCTION_AT = (248, 256) if _ARM else (152, 128)
_REGISTERS_SIZE = 272 if _ARM else 168

_ANY = range(-(1 << 31), 1 << 32)
_NONE = AttachType(0)


class TracingContext(Context):
    """The context of programs that are attached by BTF or to a raw tracepoint, for helpers that want it."""

    uapi = "bpf_raw_tracepoint_args"


class PtRegs(Context):
    """struct pt_regs: the registers at a probe."""

    uapi = "bpf_user_pt_regs_t"

    sp: u64 = context_field(_STACK_AT, width=8)
    ip: u64 = context_field(_INSTRUCTION_AT, width=8)

    @overload
    def argument(self, index: int) -> int: ...
    @overload
    def argument(self, index: int, as_type: type[K]) -> K: ...
    def argument(self, index: int, as_type: type[KernelStruct] | None = None) -> Any:
        """The function's argument, from 0 on, that its caller has in a register."""
        only_in_program("argument")

    @overload
    def result(self) -> int: ...
    @overload
    def result(self, as_type: type[K]) -> K: ...
    def result(self, as_type: type[KernelStruct] | None = None) -> Any:
        """What the function has returned."""
        only_in_program("result")


class PerfEventData(PtRegs):
    """struct bpf_perf_event_data: the registers at an event, how many events it stands for, and its address."""

    uapi = "bpf_perf_event_data"

    sample_period: u64 = context_field(_REGISTERS_SIZE, width=8)
    addr: u64 = context_field(_REGISTERS_SIZE + 8, width=8)


class TracepointEvent(Struct, Context):
    """A tracepoint's record: the fields of one are those of a struct that derives from this.

    What all records begin with, 8 bytes, the kernel does not show to programs.
    """

    uapi = "trace_entry"

    common: u64


class SyscallArguments(Struct, Context):
    """What BPF_PROG_TEST_RUN hands to a program of type syscall: the fields of a struct that derives from this.

    The program may change it; who runs it gets it back.
    """

    uapi = "syscall"


def data_loc(record: TracepointEvent, location: int) -> int:
    """The address of a text of a tracepoint's record whose place a field tells, `__data_loc char[] filename`.

    The field is a u32, the address is for `probe_read_kernel_str`.
    """
    del record, location
    only_in_program("data_loc")


def kprobe(function: str) -> Decorator:
    """At the entry of a function of the kernel, `kprobe("tcp_connect")`, or inside, `"tcp_connect+0x10"`."""
    return _probe("kprobe", function)


def kretprobe(function: str) -> Decorator:
    """When a function of the kernel returns."""
    return _probe("kretprobe", function)


def uprobe(place: str, *, sleepable: bool = False) -> Decorator:
    """At the entry of a function of a file that is run: `uprobe("/bin/bash:readline")`."""
    return _probe("uprobe", place, sleepable=sleepable)


def uretprobe(place: str, *, sleepable: bool = False) -> Decorator:
    """When such a function returns."""
    return _probe("uretprobe", place, sleepable=sleepable)


def tracepoint(name: str) -> Decorator:
    """At a tracepoint, `tracepoint("sched/sched_switch")`. The one parameter is a struct, its record."""
    return _decorator(
        ProgramKind(ProgramType.TRACEPOINT, _NONE, TracepointEvent, _ANY, Calling.RECORD, f"tracepoint/{name}")
    )


def raw_tp(name: str) -> Decorator:
    """At a tracepoint, with its own arguments: `raw_tp("sched_switch")`."""
    return _decorator(
        ProgramKind(ProgramType.RAW_TRACEPOINT, _NONE, TracingContext, _ANY, Calling.RAW, f"raw_tp/{name}")
    )


def tp_btf(name: str, *, sleepable: bool = False) -> Decorator:
    """The same, attached by BTF: what the arguments point to can be read at once. Return 0."""
    return _by_btf("tp_btf", name, AttachType.TRACE_RAW_TP, range(1), sleepable=sleepable)


def fentry(function: str, *, sleepable: bool = False) -> Decorator:
    """At the entry of a function of the kernel, or of a module: `fentry("tcp_connect")`. Return 0."""
    return _by_btf("fentry", function, AttachType.TRACE_FENTRY, range(1), sleepable=sleepable)


def fexit(function: str, *, sleepable: bool = False) -> Decorator:
    """When a function of the kernel returns, with its arguments and its `result`. Return 0."""
    return _by_btf("fexit", function, AttachType.TRACE_FEXIT, range(1), sleepable=sleepable)


def fmod_ret(function: str, *, sleepable: bool = False) -> Decorator:
    """Before a function that may be kept from running; what is returned, if it is not 0, is the function's result."""
    return _by_btf("fmod_ret", function, AttachType.MODIFY_RETURN, _ANY, sleepable=sleepable)


def lsm(hook: str, *, sleepable: bool = False) -> Decorator:
    """At a hook of the Linux security modules, `lsm("file_open")`. Return 0 to go on, a negative errno to refuse."""
    return _by_btf("lsm", hook, AttachType.LSM_MAC, range(-4095, 1), sleepable=sleepable, type_=ProgramType.LSM)


def iterate(kind: str, *, sleepable: bool = False) -> Decorator:
    """Once for each thing of a kind, `iterate("task")`, whose text user space reads. Return 0; 1 is once more."""
    return _by_btf("iter", kind, AttachType.TRACE_ITER, range(2), sleepable=sleepable)


def perf_event(function: Callable[[PerfEventData], int]) -> Program[PerfEventData]:
    """perf_event: runs on an overflow of a perf event, such as a tick of a CPU's clock. Return 0."""
    return Program(ProgramKind(ProgramType.PERF_EVENT, _NONE, PerfEventData, _ANY), function)


def netfilter(function: Callable[..., int]) -> Program[Any]:
    """netfilter: runs on packets at a hook of netfilter (Linux 6.4). Return NF_DROP (0) or NF_ACCEPT (1).

    Its parameters are the fields of struct bpf_nf_ctx: `state: nf_hook_state` and `skb: sk_buff`, as KernelStructs.
    """
    kind = ProgramKind(ProgramType.NETFILTER, AttachType.NETFILTER, TracingContext, range(2), Calling.TYPED)
    return Program(kind, function)


def syscall(function: Callable[..., int]) -> Program[Any]:
    """syscall: runs when user space says so, by BPF_PROG_TEST_RUN, and may sleep (Linux 5.14).

    Its one parameter is a SyscallArguments.
    """
    sleepable = _flags(sleepable=True)
    kind = ProgramKind(ProgramType.SYSCALL, _NONE, SyscallArguments, _ANY, Calling.RECORD, "syscall", sleepable)
    return Program(kind, function)


def struct_ops(member: str, *, sleepable: bool = False) -> Decorator:
    """A function of a struct of functions that the kernel calls: `struct_ops("tcp_congestion_ops.ssthresh")`."""
    type_ = ProgramType.STRUCT_OPS
    return _by_btf("struct_ops", member, _NONE, _ANY, sleepable=sleepable, type_=type_)


def _probe(section: str, place: str, *, sleepable: bool = False) -> Decorator:
    full = f"{section}{'.s' * sleepable}/{place}"
    return _decorator(
        ProgramKind(ProgramType.KPROBE, _NONE, PtRegs, _ANY, Calling.REGISTERS, full, _flags(sleepable=sleepable))
    )


def _by_btf(
    section: str,
    name: str,
    attach_type: AttachType,
    returns: range,
    *,
    sleepable: bool,
    type_: ProgramType = ProgramType.TRACING,
) -> Decorator:
    full, flags = f"{section}{'.s' * sleepable}/{name}", _flags(sleepable=sleepable)
    return _decorator(ProgramKind(type_, attach_type, TracingContext, returns, Calling.TYPED, full, flags))


def _flags(*, sleepable: bool) -> int:
    return int(ProgramLoadFlag.SLEEPABLE) if sleepable else 0


def _decorator(kind: ProgramKind) -> Decorator:
    return lambda function: Program(kind, function)
