"""A program run with given input, attached to nothing (BPF_PROG_TEST_RUN).

Which types of program can be run so, and what they take, differs: networking programs take a packet (Linux 4.12) and
parts of a context, `syscall` programs a context only, which is memory of their own (5.14).
"""

import attrs

from pybpfasm.kernel import sys
from pybpfasm.kernel.programs import Program
from pybpfasm.uapi import Command, ProgramType

# A packet may grow by that much.
_ROOM_BYTES = 256


@attrs.frozen
class Run:
    """What a run gave: the low 32 bits of r0, the packet and the context afterwards, nanoseconds for one run."""

    retval: int
    data: bytes
    context: bytes
    duration_ns: int


def run_program(program: Program, data: bytes = b"", context: bytes = b"", *, repeat: int = 0) -> Run:
    """Run a program on a packet and a context, `repeat` times.

    Raises `KernelError`: a type that cannot be run so, a packet too short (14 bytes for Ethernet), no memory.
    """
    data_in, data_out = sys.buffer(data), sys.buffer(len(data) + _ROOM_BYTES)
    context_in, context_out = sys.buffer(context), sys.buffer(len(context))
    attributes = sys.new("prog_test_run", prog_fd=program.fd, repeat=repeat)
    if data:
        attributes.data_in, attributes.data_size_in = sys.address(data_in), len(data)
        attributes.data_out, attributes.data_size_out = sys.address(data_out), len(data_out)
    if context:
        attributes.ctx_in, attributes.ctx_size_in = sys.address(context_in), len(context)
    is_syscall = program.spec.type == ProgramType.SYSCALL
    if context and not is_syscall:
        attributes.ctx_out, attributes.ctx_size_out = sys.address(context_out), len(context)
    sys.bpf(Command.PROG_TEST_RUN, attributes, f"run program {program.spec.name}")
    return Run(
        retval=attributes.retval,
        data=sys.contents(data_out)[: attributes.data_size_out],
        context=sys.contents(context_in if is_syscall else context_out)[: len(context)],
        duration_ns=attributes.duration,
    )
