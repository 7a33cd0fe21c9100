"""Raw tracepoints: a tracepoint's arguments as the kernel has them, for programs of that type (Linux 4.17)."""

import errno

from pybpfasm.errors import BpfError
from pybpfasm.kernel import sys
from pybpfasm.kernel.links.attempt import attempting
from pybpfasm.kernel.links.base import Link
from pybpfasm.kernel.programs import Program
from pybpfasm.uapi import Command, ProgramType

_KINDS = (ProgramType.RAW_TRACEPOINT, ProgramType.RAW_TRACEPOINT_WRITABLE)


def attach_raw_tracepoint(program: Program, name: str | None = None, *, cookie: int = 0) -> Link:
    """Attach to the tracepoint of that name, without its category: `sched_switch`; else to the spec's `attach_to`.

    Programs of one tracepoint run beside each other, on all CPUs. `cookie` is what bpf_get_attach_cookie gives
    (Linux 6.10). Programs of type tracing (tp_btf) are for `attach_tracing`.
    Raises `KernelError`: ENOENT if this kernel has no such tracepoint; `BpfError` for a program of another type.
    """
    if program.spec.type not in _KINDS:
        kind = program.spec.type.name.lower()
        raise BpfError(f"cannot attach program {program.spec.name} to a raw tracepoint: it is of type {kind}")
    chosen = name or program.spec.attach_to
    if chosen is None:
        raise BpfError(f"program {program.spec.name} does not say to which tracepoint it is attached: name one")
    attempted = f"attach program {program.spec.name} to raw tracepoint {chosen}"
    causes = {errno.ENOENT: "this kernel has no tracepoint of that name (without its category: sched_switch)"}
    held = sys.buffer(chosen.encode() + b"\0")
    request = sys.new("raw_tracepoint_open", name=sys.address(held), prog_fd=program.fd, cookie=cookie)
    with attempting(attempted, causes):
        return Link(sys.bpf(Command.RAW_TRACEPOINT_OPEN, request, attempted))
