"""Features of the running kernel, found by trying them.

Each is a row: a name as people know it, the Linux version it came in, and a probe. Versions are for messages and for
tests: distributions move features to older kernels. A probe's answer is kept while the process lives, if it was
conclusive. No probe attaches anything.
"""

import errno
import re
from collections.abc import Callable
from pathlib import Path

import attrs

from pybpfasm import isa
from pybpfasm.errors import KernelError
from pybpfasm.isa import Instruction
from pybpfasm.kernel import sys
from pybpfasm.kernel.descriptor import Descriptor
from pybpfasm.kernel.programs import Program
from pybpfasm.kernel.verifier import VerifierError
from pybpfasm.spec import ProgramSpec
from pybpfasm.uapi import AttachType, Command, Helper, MapType, ProgramType

# What the verifier says of a helper that the kernel lacks, or lacks for this type of program.
_NO_SUCH_HELPER = re.compile(r"unknown func|invalid func|cannot use helper")


@attrs.frozen
class Feature:
    """A feature and the Linux version it came in, as in "5.15".

    `probe` answers with the kernel's own words of refusal, None if the kernel has the feature, or raises `KernelError`
    if it cannot tell (EPERM, say).
    """

    name: str
    since: str
    probe: Callable[[], str | None]

    def supported(self) -> bool:
        """Whether this kernel has it."""
        return self.refusal() is None

    def refusal(self) -> str | None:
        """What the verifier or the kernel says when asked for it; None if this kernel has it."""
        if self not in _answers:
            _answers[self] = self.probe()
        return _answers[self]


_answers: dict[Feature, str | None] = {}


def helper_in(program_type: ProgramType, attach_type: AttachType, helper: Helper, since: str) -> Feature:
    """That programs of a type can call a helper."""
    name = f"helper bpf_{helper.name.lower()} in {program_type.name.lower()} programs"
    return Feature(name, since, lambda: _calling(program_type, attach_type, helper))


def program_kind(program_type: ProgramType, attach_type: AttachType, since: str) -> Feature:
    """That programs of a type can be loaded for a hook."""
    name = f"{program_type.name.lower()} programs for hook {attach_type.name.lower()}"
    return Feature(name, since, lambda: _loading(program_type, attach_type, _RETURN_ONE))


_RETURN_ONE = (isa.mov_imm(0, 1), isa.exit_program())

# EINVAL and EOPNOTSUPP: a program type, an attach type, a map type or a command that the kernel does not know.
_REFUSALS = (errno.EINVAL, errno.EOPNOTSUPP)


def _loading(program_type: ProgramType, attach_type: AttachType, instructions: tuple[Instruction, ...]) -> str | None:
    try:
        _load(program_type, attach_type, instructions).close()
    except VerifierError as error:
        return error.reason
    except KernelError as error:
        return _refusal(error)
    return None


def _calling(program_type: ProgramType, attach_type: AttachType, helper: Helper) -> str | None:
    """Call it without arguments: a kernel that knows it complains of these, one that does not says so."""
    try:
        _load(program_type, attach_type, (isa.call(helper), *_RETURN_ONE)).close()
    except VerifierError as error:
        return error.reason if _NO_SUCH_HELPER.search(error.log) else None
    return None


def _linking(program_type: ProgramType, attach_type: AttachType, link_type: int, no_target: int) -> str | None:
    """Link to a target that cannot be: a kernel that knows this kind of link misses the target, and nothing else."""
    with _load(program_type, attach_type, _RETURN_ONE) as program:
        attributes = sys.new("link_create", prog_fd=program.fd, target_fd=_NO_TARGET, attach_type=link_type)
        try:
            sys.bpf(Command.LINK_CREATE, attributes, "attach by a link")
        except KernelError as error:
            return None if error.errno == no_target else _refusal(error)
    raise AssertionError("the kernel linked a program to a target that does not exist")


# Neither a file descriptor nor the index of a network device.
_NO_TARGET = 0x7FFFFFFF


def _creating_ring_buffer() -> str | None:
    attributes = sys.new("map_create", map_type=MapType.RINGBUF, max_entries=1 << 16, map_name=b"probe")
    try:
        Descriptor(sys.bpf(Command.MAP_CREATE, attributes, "create a ring buffer")).close()
    except KernelError as error:
        return _refusal(error)
    return None


def _describing_its_types() -> str | None:
    """A file, since reading the BTF itself is another matter."""
    place = Path("/sys/kernel/btf/vmlinux")
    return None if place.exists() else f"{place} does not exist"


def _refusal(error: KernelError) -> str:
    if error.errno in _REFUSALS:
        return str(error)
    raise error


def _load(program_type: ProgramType, attach_type: AttachType, instructions: tuple[Instruction, ...]) -> Program:
    spec = ProgramSpec("probe", program_type, attach_type, "probe", instructions, maps={})
    return Program.load(spec, {})


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
SK_STORAGE_IN_SK_MSG = helper_in(ProgramType.SK_MSG, AttachType.SK_MSG_VERDICT, Helper.SK_STORAGE_GET, "5.8")

CONNECT4 = program_kind(ProgramType.CGROUP_SOCK_ADDR, AttachType.CGROUP_INET4_CONNECT, "4.17")
CONNECT6 = program_kind(ProgramType.CGROUP_SOCK_ADDR, AttachType.CGROUP_INET6_CONNECT, "4.17")
GETPEERNAME4 = program_kind(ProgramType.CGROUP_SOCK_ADDR, AttachType.CGROUP_INET4_GETPEERNAME, "5.8")
GETSOCKOPT = program_kind(ProgramType.CGROUP_SOCKOPT, AttachType.CGROUP_GETSOCKOPT, "5.3")
SOCK_OPS = program_kind(ProgramType.SOCK_OPS, AttachType.CGROUP_SOCK_OPS, "4.13")
SK_MSG = program_kind(ProgramType.SK_MSG, AttachType.SK_MSG_VERDICT, "4.17")
SK_LOOKUP = program_kind(ProgramType.SK_LOOKUP, AttachType.SK_LOOKUP, "5.9")
LOOP = helper_in(ProgramType.CGROUP_SOCK_ADDR, AttachType.CGROUP_INET4_CONNECT, Helper.LOOP, "5.17")
KERNEL_BTF = Feature("the kernel's own BTF", "5.4", _describing_its_types)
RING_BUFFER = Feature("ring buffers", "5.8", _creating_ring_buffer)

# Offset of user_port in struct bpf_sock_addr.
USER_PORT = 24

STORE_IMMEDIATE_TO_CONTEXT = Feature(
    "storing an immediate to the context",
    "6.4",
    lambda: _loading(
        ProgramType.CGROUP_SOCK_ADDR,
        AttachType.CGROUP_INET4_CONNECT,
        (isa.store_imm(4, 1, USER_PORT, 0), *_RETURN_ONE),
    ),
)

CGROUP_LINK = Feature(
    "cgroup links",
    "5.7",
    lambda: _linking(
        ProgramType.CGROUP_SOCK_ADDR, AttachType.CGROUP_INET4_CONNECT, AttachType.CGROUP_INET4_CONNECT, errno.EBADF
    ),
)
SOCKMAP_LINK = Feature(
    "links of sk_msg programs to maps of sockets",
    "6.10",
    lambda: _linking(ProgramType.SK_MSG, AttachType.SK_MSG_VERDICT, AttachType.SK_MSG_VERDICT, errno.EBADF),
)

TCX_INGRESS = AttachType.TCX_INGRESS
_UNSPECIFIED = AttachType(0)  # programs of this type are not bound to a hook when they are loaded

TCX_LINK = Feature("tcx links", "6.6", lambda: _linking(ProgramType.SCHED_CLS, _UNSPECIFIED, TCX_INGRESS, errno.ENODEV))

# Features of kernels as distributions build them. Others may lack what a kernel can be built without, as
# CONFIG_CGROUP_BPF, CONFIG_DEBUG_INFO_BTF or CONFIG_NET_XGRESS.
FEATURES = (
    CONNECT4,
    CONNECT6,
    GETPEERNAME4,
    GETSOCKOPT,
    SOCK_OPS,
    SK_MSG,
    SK_LOOKUP,
    CGROUP_LINK,
    KERNEL_BTF,
    RING_BUFFER,
    CGROUP_ID_IN_SOCK_ADDR,
    NETNS_COOKIE_IN_SOCK_ADDR,
    SK_STORAGE_IN_SK_MSG,
    SK_STORAGE_IN_SOCK_ADDR,
    NETNS_COOKIE_IN_SOCK_OPS,
    LOOP,
    STORE_IMMEDIATE_TO_CONTEXT,
    TCX_LINK,
    SOCKMAP_LINK,
)
