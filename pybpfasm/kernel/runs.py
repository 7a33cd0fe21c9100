"""A program run with given input, attached to nothing (BPF_PROG_RUN, formerly BPF_PROG_TEST_RUN).

Which types of program can be run so, and what they take, differs:

    type                    data          context                    since
    socket_filter, sched_*, a packet      a `struct __sk_buff`       4.12, context 5.2
    cgroup_skb, lwt_*, xdp                or `struct xdp_md`         4.12, context 5.15
    flow_dissector          a packet      flow keys                  5.1
    sk_lookup               -             a `struct bpf_sk_lookup`   5.14
    raw_tracepoint          -             its arguments, 8 bytes each 5.10, on a CPU with RUN_ON_CPU
    syscall                 -             memory of its own          5.14
    tracing (fentry, fexit) -             -; it runs around functions of the kernel's own test  5.7
    netfilter               a packet      a `struct nf_hook_state`   6.4

With XDP_LIVE_FRAMES (5.18) packets are really redirected or passed on, `repeat` of them in batches of `batch_size`;
nothing comes back then.
"""

import errno
from typing import TYPE_CHECKING, Any

from pybpfasm.errors import KernelError
from pybpfasm.kernel import sys
from pybpfasm.records import frozen
from pybpfasm.spec import ProgramSpec
from pybpfasm.uapi import Command, ProgramRunFlag, ProgramType

if TYPE_CHECKING:
    from pybpfasm.kernel.programs import Program

# A packet may grow by that much: more than an XDP frame's headroom and tailroom.
_ROOM_BYTES = 4096

# The kernel takes a context, and gives none back, for these; for syscall programs it writes where it read.
_CONTEXT_STAYS = (ProgramType.SYSCALL, ProgramType.RAW_TRACEPOINT)

_NO_FLAGS = ProgramRunFlag(0)


@frozen
class Run:
    """What a run gave: the low 32 bits of r0, the packet and the context afterwards, nanoseconds for one run."""

    retval: int
    data: bytes
    context: bytes
    duration_ns: int


def run_program(
    program: "Program",
    data: bytes = b"",
    context: bytes = b"",
    *,
    repeat: int = 0,
    flags: ProgramRunFlag = _NO_FLAGS,
    cpu: int = 0,
    batch_size: int = 0,
) -> Run:
    """Run a program on a packet and a context, `repeat` times; the packet goes into each run as the last left it.

    Raises `KernelError`: a type that cannot be run so (ENOTSUPP or EINVAL), a packet too short (14 bytes for Ethernet),
    a packet that grew by more than 4 KiB (ENOSPC), a signal in the middle of many runs (EINTR), no memory.
    """
    return run(program.fd, program.spec, data, context, repeat=repeat, flags=flags, cpu=cpu, batch_size=batch_size)


def run(
    fd: int,
    spec: ProgramSpec,
    data: bytes,
    context: bytes,
    *,
    repeat: int = 0,
    flags: ProgramRunFlag = _NO_FLAGS,
    cpu: int = 0,
    batch_size: int = 0,
) -> Run:
    """The same for the program behind a descriptor."""
    live = bool(flags & ProgramRunFlag.XDP_LIVE_FRAMES)
    data_in, data_out = sys.buffer(data), sys.buffer(len(data) + _ROOM_BYTES)
    context_in, context_out = sys.buffer(context), sys.buffer(len(context))
    attributes = sys.new("prog_test_run", prog_fd=fd, repeat=repeat, flags=flags, cpu=cpu, batch_size=batch_size)
    if data:
        attributes.data_in, attributes.data_size_in = sys.address(data_in), len(data)
    if data and not live:
        attributes.data_out, attributes.data_size_out = sys.address(data_out), len(data_out)
    if context:
        attributes.ctx_in, attributes.ctx_size_in = sys.address(context_in), len(context)
    context_stays = live or spec.type in _CONTEXT_STAYS
    if context and not context_stays:
        attributes.ctx_out, attributes.ctx_size_out = sys.address(context_out), len(context)
    _run(spec, attributes)
    return Run(
        retval=attributes.retval,
        data=b"" if live else sys.contents(data_out)[: attributes.data_size_out],
        context=sys.contents(context_in if context_stays else context_out)[: len(context)],
        duration_ns=attributes.duration,
    )


# The kernel's own ENOTSUPP (include/linux/errno.h): this type cannot be run by itself.
_ENOTSUPP = 524


def _run(spec: ProgramSpec, attributes: Any) -> None:
    attempted = f"run program {spec.name}"
    kind = spec.type.name.lower()
    causes = {
        _ENOTSUPP: f"programs of type {kind} cannot be run by themselves",
        errno.EINVAL: f"a packet, context, flag or repetition that a program of type {kind} does not take",
        errno.EINTR: "a signal came in the middle of its runs: some are done",
        errno.ENOSPC: f"the packet grew by more than {_ROOM_BYTES} bytes",
    }
    try:
        sys.bpf(Command.PROG_RUN, attributes, attempted)
    except KernelError as error:
        number = error.errno or 0
        raise (sys.failure(number, attempted, causes[number]) if number in causes else error) from None
