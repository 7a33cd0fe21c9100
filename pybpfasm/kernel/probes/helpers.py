"""The helpers that programs of a type can call, each tried in a program that calls it without arguments.

A kernel that has the helper complains of the arguments, or takes the call; one that lacks it, or does not let this type
of program have it, says so (check_helper_call of kernel/bpf/verifier.c).
"""

import re
from functools import cache

from pybpfasm import isa
from pybpfasm.errors import BpfError
from pybpfasm.kernel.probes.program_types import PROGRAM_TYPES
from pybpfasm.kernel.probes.sample_programs import SAMPLES, sample_program
from pybpfasm.kernel.programs import Program
from pybpfasm.kernel.verifier import VerifierError
from pybpfasm.uapi import AttachType, Helper, ProgramType

# "program of this type cannot use helper" since 6.10; "unknown func" and "invalid func" before, and for numbers beyond.
_NOT_THERE = re.compile(r"unknown func|invalid func|cannot use helper|helper call is not allowed|might sleep")

# BPF_LOG_STATS of linux/bpf_verifier.h (Linux 5.2): the reason of a refusal, without instructions.
_REASON_ALONE = 4

# A load with one of these has the kernel warn in its log, or enables a trace event for good (kernel/trace/bpf_trace.c).
_NOISY = frozenset((Helper.TRACE_PRINTK, Helper.TRACE_VPRINTK, Helper.PROBE_WRITE_USER))


@cache
def find_helpers(
    program_type: ProgramType, hook: AttachType | None = None, *, noisy: bool = False
) -> frozenset[Helper]:
    """The helpers that programs of a type, for its usual hook or another, can call; none if there is no such type.

    Three leave traces when they are tried, and are only with `noisy`: trace_printk, trace_vprintk, probe_write_user.
    The answer is for this process: some helpers take CAP_PERFMON or CAP_SYS_ADMIN, which it may lack. A sleepable
    program may call more. The answer is kept.
    Raises `BpfError` for extensions, which have the helpers of what they extend, `KernelError` if the kernel does not
    say (EPERM).
    """
    if program_type not in SAMPLES:
        raise BpfError(f"programs of type {program_type.name.lower()} have no helpers of their own: name another type")
    if not PROGRAM_TYPES[program_type].supported():
        return frozenset()
    wanted = (each for each in Helper if each != Helper.UNSPEC and (noisy or each not in _NOISY))
    return frozenset(each for each in wanted if _can_call(program_type, hook, each))


def _can_call(program_type: ProgramType, hook: AttachType | None, helper: Helper) -> bool:
    try:
        Program.load(sample_program(program_type, hook, (isa.call(helper),)), log_level=_REASON_ALONE).close()
    except VerifierError as error:
        return not _NOT_THERE.search(error.log)
    return True
