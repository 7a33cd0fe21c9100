"""The load itself (BPF_PROG_LOAD), with a log that grows until it fits.

    without a log, which is quicker ── ok ──> the program
        │ refused
    with a log of instructions ── it did not fit ──> with a larger one ── still not
        │                                                  │
        └──> VerifierError <── Linux 6.4: its end is kept ─┴─ before: once more, with a log of the reason alone

A load that a signal interrupts (EAGAIN) is tried again by `sys.bpf`.
"""

import errno
from typing import Any

from pybpfasm.errors import KernelError
from pybpfasm.kernel import sys
from pybpfasm.spec import ProgramSpec
from pybpfasm.uapi import Command

_FIRST_LOG_BYTES = 1 << 16
# A log of a million instructions has 50 MB; nobody reads that, and what matters is at its end.
_LARGEST_LOG_BYTES = (1 << 24) - 1

# BPF_LOG_STATS of linux/bpf_verifier.h (Linux 5.2): errors and statistics, but no instructions.
_REASON_ALONE = 4

# The kernel's own ENOTSUPP (include/linux/errno.h), which user space has no name for.
_ENOTSUPP = 524

# EFAULT: the verifier found a fault of its own, which hides that the log did not fit (bpf_check of verifier.c).
_REJECTIONS = (
    errno.EINVAL,
    errno.EACCES,
    errno.E2BIG,
    errno.ENOSPC,
    errno.EPERM,
    errno.EFAULT,
    errno.ENOENT,
    errno.EOPNOTSUPP,
    errno.ERANGE,
    errno.ELOOP,
    _ENOTSUPP,
)


def load_program(spec: ProgramSpec, attributes: Any, log_level: int) -> tuple[int, str]:
    """The descriptor of the loaded program, and the log if one is asked for. Raises `VerifierError`, `KernelError`."""
    attempted = f"load program {spec.name}"
    if log_level:
        return _with_log(spec, attributes, log_level, attempted)
    try:
        return sys.bpf(Command.PROG_LOAD, attributes, attempted), ""
    except KernelError as error:
        if error.errno not in _REJECTIONS:
            raise
    fd, _ = _with_log(spec, attributes, 1, attempted)
    return fd, ""


def _with_log(spec: ProgramSpec, attributes: Any, log_level: int, attempted: str) -> tuple[int, str]:
    size = _FIRST_LOG_BYTES
    while True:
        log = sys.buffer(size)
        attributes.log_level, attributes.log_size, attributes.log_buf = log_level, size, sys.address(log)
        attributes.log_true_size = 0
        try:
            return sys.bpf(Command.PROG_LOAD, attributes, attempted), _text(log)
        except KernelError as error:
            overflowed = _overflowed(error, log, attributes.log_true_size)
            if overflowed and size < _LARGEST_LOG_BYTES:
                size = _next_size(size, attributes.log_true_size)
            elif overflowed and not attributes.log_true_size and log_level != _REASON_ALONE:
                log_level, size = _REASON_ALONE, _FIRST_LOG_BYTES
            else:
                raise _failure(spec, error, _text(log), attempted) from None


def _overflowed(error: KernelError, log: Any, true_size: int) -> bool:
    """Whether the log did not fit. The kernel says so by ENOSPC, unless it has EFAULT to say."""
    if error.errno == errno.EFAULT:
        # Kernels before 6.4 do not tell the true size; a buffer filled to its last byte has been too small.
        return true_size > len(log) or log[len(log) - 2] != 0
    return error.errno == errno.ENOSPC


def _next_size(size: int, true_size: int) -> int:
    """The size that the kernel asks for (log_true_size, Linux 6.4), else a good deal more."""
    return min(true_size if true_size > size else size * 16, _LARGEST_LOG_BYTES)


def _failure(spec: ProgramSpec, error: KernelError, log: str, attempted: str) -> Exception:
    if log.strip():
        from pybpfasm.kernel.verifier import rejection  # what no program that is taken needs

        return rejection(spec, log, str(error))
    number = error.errno or 0
    if number == errno.EPERM:
        from pybpfasm.kernel.permissions import program_denial

        return KernelError(number, f"cannot {attempted}: {program_denial(spec.type)} (EPERM)")
    if number == errno.EINVAL:
        kind = f"programs of type {spec.type.name.lower()}"
        cause = f"the verifier was not asked: this kernel does not know {kind}, their attach type, or a flag"
        return sys.failure(number, attempted, cause)
    return error


def _text(log: Any) -> str:
    return sys.contents(log).split(b"\0", 1)[0].decode(errors="replace")
