"""Features of the running kernel, found by trying them.

Each is a row: a name as people know it, the Linux version it came in, and a probe. Versions are for messages only:
distributions move features to older kernels. A probe's answer is kept while the process lives, if it was conclusive.
"""

import errno
import re
from collections.abc import Callable

import attrs

from pybpfasm import isa
from pybpfasm.errors import KernelError
from pybpfasm.isa import Instruction
from pybpfasm.kernel.programs import Program
from pybpfasm.kernel.verifier import VerifierError
from pybpfasm.spec import ProgramSpec
from pybpfasm.uapi import AttachType, Helper, ProgramType

# What the verifier says of a helper that the kernel lacks, or lacks for this type of program.
_NO_SUCH_HELPER = re.compile(r"unknown func|invalid func|cannot use helper")


@attrs.frozen
class Feature:
    """A feature. `probe` answers yes or no, or raises `KernelError` if it cannot tell (EPERM, say)."""

    name: str
    since: str
    probe: Callable[[], bool]

    def supported(self) -> bool:
        """Whether this kernel has it."""
        if self not in _answers:
            _answers[self] = self.probe()
        return _answers[self]


_answers: dict[Feature, bool] = {}


def helper_in(program_type: ProgramType, attach_type: AttachType, helper: Helper, since: str) -> Feature:
    """That programs of a type can call a helper."""
    name = f"helper bpf_{helper.name.lower()} in {program_type.name.lower()} programs"
    return Feature(name, since, lambda: _can_call(program_type, attach_type, helper))


def program_kind(program_type: ProgramType, attach_type: AttachType, since: str) -> Feature:
    """That programs of a type can be loaded for a hook."""
    name = f"{program_type.name.lower()} programs for hook {attach_type.name.lower()}"
    return Feature(name, since, lambda: _loads(program_type, attach_type, _RETURN_ONE))


_RETURN_ONE = (isa.mov_imm(0, 1), isa.exit_program())


def _loads(program_type: ProgramType, attach_type: AttachType, instructions: tuple[Instruction, ...]) -> bool:
    try:
        _try(program_type, attach_type, instructions)
    except VerifierError:
        return False
    except KernelError as error:
        if error.errno in _REFUSALS:
            return False
        raise
    return True


def _can_call(program_type: ProgramType, attach_type: AttachType, helper: Helper) -> bool:
    """Call it without arguments: a kernel that knows it complains of these, one that does not says so."""
    try:
        _try(program_type, attach_type, (isa.call(helper), *_RETURN_ONE))
    except VerifierError as error:
        return not _NO_SUCH_HELPER.search(error.log)
    return True


# EINVAL and EOPNOTSUPP: a program type, an attach type or a command that the kernel does not know.
_REFUSALS = (errno.EINVAL, errno.EOPNOTSUPP)


def _try(program_type: ProgramType, attach_type: AttachType, instructions: tuple[Instruction, ...]) -> None:
    spec = ProgramSpec("probe", program_type, attach_type, "probe", instructions, maps={})
    Program.load(spec, {}).close()


NETNS_COOKIE_IN_SOCK_ADDR = helper_in(
    ProgramType.CGROUP_SOCK_ADDR, AttachType.CGROUP_INET4_CONNECT, Helper.GET_NETNS_COOKIE, "5.7"
)
NETNS_COOKIE_IN_SOCK_OPS = helper_in(ProgramType.SOCK_OPS, AttachType.CGROUP_SOCK_OPS, Helper.GET_NETNS_COOKIE, "5.15")
CGROUP_ID_IN_SOCK_ADDR = helper_in(
    ProgramType.CGROUP_SOCK_ADDR, AttachType.CGROUP_INET4_CONNECT, Helper.GET_CURRENT_CGROUP_ID, "5.7"
)
SK_STORAGE_IN_SOCK_ADDR = helper_in(
    ProgramType.CGROUP_SOCK_ADDR, AttachType.CGROUP_INET4_CONNECT, Helper.SK_STORAGE_GET, "5.8"
)
SK_STORAGE_IN_SK_MSG = helper_in(ProgramType.SK_MSG, AttachType.SK_MSG_VERDICT, Helper.SK_STORAGE_GET, "5.7")
