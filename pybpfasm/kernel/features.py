"""Features of the running kernel, found by trying them.

Each is a row: a name as people know it, the Linux version it came in, and a probe. Versions are for messages and for
tests: distributions move features to older kernels. A probe's answer is kept while the process lives, if it was
conclusive. No probe attaches anything.
"""

import errno
import functools
import re
from collections.abc import Callable
from pathlib import Path
from sys import byteorder
from typing import Any

from pybpfasm import isa
from pybpfasm.btf import BtfBuilder, Int
from pybpfasm.errors import BpfError, KernelError, UnsupportedFeatureError
from pybpfasm.isa import Instruction
from pybpfasm.kernel import sys
from pybpfasm.kernel.descriptor import Descriptor
from pybpfasm.kernel.maps import KINDS, Map, load_btf, supports_map_type
from pybpfasm.kernel.permissions import missing_for
from pybpfasm.kernel.programs import Program
from pybpfasm.kernel.verifier import VerifierError
from pybpfasm.records import evolve, frozen
from pybpfasm.spec import MapSpec, ProgramSpec, Untyped
from pybpfasm.uapi import AttachFlag, AttachType, Command, Helper, MapCreateFlag, MapType, ProgramRunFlag, ProgramType

# What the verifier says of a helper that the kernel lacks, or lacks for this type of program.
_NO_SUCH_HELPER = re.compile(r"unknown func|invalid func|cannot use helper")


@frozen
class Feature:
    """A feature and the Linux version it came in, as in "5.15".

    `probe` answers with the kernel's own words of refusal, None if the kernel has the feature, or raises `KernelError`
    if it cannot tell (EPERM, say). `option` is what a kernel of that version may have been built without.
    """

    name: str
    since: str
    probe: Callable[[], str | None]
    option: str | None = None

    def supported(self) -> bool:
        """Whether this kernel has it."""
        return self.refusal() is None

    def error(self) -> UnsupportedFeatureError:
        """The error for a kernel that lacks it."""
        return UnsupportedFeatureError(self.name, self.since, self.option)

    def refusal(self) -> str | None:
        """What the verifier or the kernel says when asked for it; None if this kernel has it."""
        if self not in _answers:
            _answers[self] = self.probe()
        return _answers[self]


_answers: dict[Feature, str | None] = {}


def helper_in(program_type: ProgramType, attach_type: AttachType, helper: Helper, since: str) -> Feature:
    """That programs of a type can call a helper."""
    name = f"helper bpf_{helper.name.lower()} in {program_type.name.lower()} programs"
    return Feature(name, since, lambda: calling(program_type, attach_type, helper))


def program_kind(program_type: ProgramType, attach_type: AttachType, since: str) -> Feature:
    """That programs of a type can be loaded for a hook."""
    name = f"{program_type.name.lower()} programs for hook {attach_type.name.lower()}"
    return Feature(name, since, lambda: loading(program_type, attach_type, _RETURN_ONE))


_RETURN_ONE = (isa.mov_imm(0, 1), isa.exit_program())

# EINVAL and EOPNOTSUPP: a program type, an attach type, a map type or a command that the kernel does not know.
_REFUSALS = (errno.EINVAL, errno.EOPNOTSUPP)


def loading(program_type: ProgramType, attach_type: AttachType, instructions: tuple[Instruction, ...]) -> str | None:
    """Why a program of these instructions cannot be loaded for a hook; None if it can."""
    return loading_spec(ProgramSpec("probe", program_type, attach_type, "probe", instructions, {}))


def loading_spec(spec: ProgramSpec) -> str | None:
    """Why a program cannot be loaded; None if it can. Raises `KernelError` if the kernel does not say (EPERM, say)."""
    try:
        Program.load(spec).close()
    except VerifierError as error:
        return error.reason
    except KernelError as error:
        return _conclusive(error, spec.type)
    except BpfError as error:  # the kernel has no BTF, or not what is looked for in it
        return str(error)
    return None


def calling(program_type: ProgramType, attach_type: AttachType, helper: Helper) -> str | None:
    """Call it without arguments: a kernel that knows it complains of these, one that does not says so."""
    try:
        _load(program_type, attach_type, (isa.call(helper), *_RETURN_ONE)).close()
    except VerifierError as error:
        return error.reason if _NO_SUCH_HELPER.search(error.log) else None
    return None


def linking(
    program_type: ProgramType, attach_type: AttachType, link_type: int, no_target: int, **fields: Any
) -> str | None:
    """Link to a target that cannot be: a kernel that knows this kind of link misses the target, and nothing else."""
    try:
        program = _load(program_type, attach_type, _RETURN_ONE)
    except KernelError as error:
        return _refusal(error)
    with program:
        wanted = {"prog_fd": program.fd, "target_fd": _NO_TARGET, "attach_type": link_type, **fields}
        try:
            sys.bpf(Command.LINK_CREATE, sys.new("link_create", **wanted), "attach by a link")
        except KernelError as error:
            return None if error.errno == no_target else _refusal(error)
    raise AssertionError("the kernel linked a program to a target that does not exist")


def attaching(program_type: ProgramType, attach_type: AttachType) -> str | None:
    """Attach without a link to a target that cannot be; None if the kernel misses that and nothing else."""
    try:
        program = _load(program_type, attach_type, _RETURN_ONE)
    except VerifierError as error:
        return error.reason
    except KernelError as error:
        return _conclusive(error, program_type)
    with program:
        wanted = sys.new("prog_attach", target_fd=_NO_TARGET, attach_bpf_fd=program.fd, attach_type=attach_type)
        try:
            sys.bpf(Command.PROG_ATTACH, wanted, "attach without a link")
        except KernelError as error:
            return None if error.errno == errno.EBADF else _refusal(error)
    raise AssertionError("the kernel attached a program to a target that does not exist")


# Neither a file descriptor nor the index of a network device.
_NO_TARGET = 0x7FFFFFFF


def _creating_ring_buffer() -> str | None:
    attributes = sys.new("map_create", map_type=MapType.RINGBUF, max_entries=1 << 16, map_name=b"probe")
    try:
        Descriptor(sys.bpf(Command.MAP_CREATE, attributes, "create a ring buffer")).close()
    except KernelError as error:
        return _refusal(error)
    return None


def _storing_with_a_file() -> str | None:
    spec = MapSpec("probe", MapType.INODE_STORAGE, Untyped(4), Untyped(8), 0, int(MapCreateFlag.NO_PREALLOC))
    try:
        with Map.create(spec) as storage, open("/proc/self/status", "rb") as file:
            storage.update(file.fileno().to_bytes(4, byteorder), bytes(8))
    except UnsupportedFeatureError as error:
        return str(error)
    except KernelError as error:
        if error.errno == errno.EBADF:  # the kernel's word for a file without a place for it
            return str(error)
        raise
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
NETNS_COOKIE_IN_SK_MSG = helper_in(ProgramType.SK_MSG, AttachType.SK_MSG_VERDICT, Helper.GET_NETNS_COOKIE, "5.15")
NETNS_COOKIE_IN_SOCKOPT = helper_in(
    ProgramType.CGROUP_SOCKOPT, AttachType.CGROUP_GETSOCKOPT, Helper.GET_NETNS_COOKIE, "5.15"
)
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
    lambda: loading(
        ProgramType.CGROUP_SOCK_ADDR,
        AttachType.CGROUP_INET4_CONNECT,
        (isa.store_imm(4, 1, USER_PORT, 0), *_RETURN_ONE),
    ),
)

CGROUP_LINK = Feature(
    "cgroup links",
    "5.7",
    lambda: linking(
        ProgramType.CGROUP_SOCK_ADDR, AttachType.CGROUP_INET4_CONNECT, AttachType.CGROUP_INET4_CONNECT, errno.EBADF
    ),
)
SOCKMAP_LINK = Feature(
    "links of sk_msg programs to maps of sockets",
    "6.10",
    lambda: linking(ProgramType.SK_MSG, AttachType.SK_MSG_VERDICT, AttachType.SK_MSG_VERDICT, errno.EBADF),
)

TCX_INGRESS = AttachType.TCX_INGRESS
_UNSPECIFIED = AttachType(0)  # programs of this type are not bound to a hook when they are loaded

TCX_LINK = Feature("tcx links", "6.6", lambda: linking(ProgramType.SCHED_CLS, _UNSPECIFIED, TCX_INGRESS, errno.ENODEV))

NETNS_LINK = Feature(
    "links to network namespaces",
    "5.9",
    lambda: linking(ProgramType.SK_LOOKUP, AttachType.SK_LOOKUP, AttachType.SK_LOOKUP, errno.EBADF),
)
# The loopback interface, number 1 of every namespace, has no card that XDP_FLAGS_HW_MODE could mean.
XDP_LINK = Feature(
    "XDP links",
    "5.9",
    lambda: linking(ProgramType.XDP, AttachType.XDP, AttachType.XDP, errno.EOPNOTSUPP, target_fd=1, flags=1 << 3),
)
SK_SKB_VERDICT = Feature(
    "verdicts of sk_skb programs without a stream parser",
    "5.13",
    lambda: attaching(ProgramType.SK_SKB, AttachType.SK_SKB_VERDICT),
)
CGROUP_ORDER = Feature(
    "an order of programs at a cgroup",
    "6.17",
    lambda: linking(
        ProgramType.CGROUP_SOCK_ADDR,
        AttachType.CGROUP_INET4_CONNECT,
        AttachType.CGROUP_INET4_CONNECT,
        errno.EBADF,
        flags=AttachFlag.BEFORE,
    ),
)
NETKIT_LINK = Feature(
    "netkit links",
    "6.7",
    lambda: linking(ProgramType.SCHED_CLS, _UNSPECIFIED, AttachType.NETKIT_PRIMARY, errno.ENODEV),
    "CONFIG_NETKIT",
)
NETFILTER_LINK = Feature(
    "netfilter links",
    "6.4",
    lambda: linking(
        ProgramType.NETFILTER,
        AttachType.NETFILTER,
        AttachType.NETFILTER,
        errno.EAFNOSUPPORT,
        target_fd=0,
        netfilter={"pf": 0xFF},
    ),
    "CONFIG_NETFILTER_BPF_LINK",
)

# An event, a path or a function that cannot be: a kernel that knows the kind of link says so.
PERF_LINK = Feature(
    "links to perf events",
    "5.15",
    lambda: linking(ProgramType.TRACEPOINT, _UNSPECIFIED, AttachType.PERF_EVENT, errno.EBADF),
)


def _linking_many_kprobes() -> str | None:
    name = sys.buffer(b"pybpfasm: no such function\0")
    names = sys.buffer(sys.address(name).to_bytes(8, byteorder))
    hook, fields = AttachType.TRACE_KPROBE_MULTI, {"syms": sys.address(names), "cnt": 1}
    return linking(ProgramType.KPROBE, hook, hook, errno.ESRCH, target_fd=0, kprobe_multi=fields)


def _linking_many_uprobes() -> str | None:
    path, offsets = sys.buffer(b"/\0"), sys.buffer(8)
    hook = AttachType.TRACE_UPROBE_MULTI
    fields = {"path": sys.address(path), "offsets": sys.address(offsets), "cnt": 1}
    return linking(ProgramType.KPROBE, hook, hook, errno.EBADF, target_fd=0, uprobe_multi=fields)


def _having_event_source(name: str) -> str | None:
    place = Path("/sys/bus/event_source/devices") / name
    return None if place.exists() else f"{place} does not exist"


def loading_for(program_type: ProgramType, attach_type: AttachType, attach_to: str, flags: int = 0) -> str | None:
    """Why a program that is attached by BTF cannot be loaded; None if it can."""
    return loading_spec(
        ProgramSpec("probe", program_type, attach_type, "probe", _RETURN_ZERO, {}, attach_to=attach_to, flags=flags)
    )


def _running(program_type: ProgramType, attach_type: AttachType, **arguments: Any) -> str | None:
    """Run a program that does nothing but return 1, which drops a packet."""
    try:
        with _load(program_type, attach_type, _RETURN_ONE) as program:
            program.run(**arguments)
    except KernelError as error:
        return str(error) if error.errno == _ENOTSUPP else _refusal(error)
    return None


def _conclusive(error: KernelError, program_type: ProgramType) -> str:
    """The refusal of something named by BTF: not there, or, with all capabilities, forbidden (lockdown does so)."""
    if error.errno == errno.ENOENT or (error.errno == errno.EPERM and not missing_for(program_type)):
        return str(error)
    return _refusal(error)


def _loading_extension() -> str | None:
    """Extend a program by its one function, of which the verifier says that it cannot be; an old kernel says EINVAL."""
    spec = ProgramSpec("probe", ProgramType.XDP, _UNSPECIFIED, "xdp_md", _RETURN_ZERO, {})
    with Program.load(spec) as target:
        other = evolve(spec, type=ProgramType.EXT, attach_to="probe")
        try:
            Program.load(other, target=target).close()
        except VerifierError as error:
            return None if re.search("static|not a global function", error.log) else error.reason
        except KernelError as error:
            return _conclusive(error, ProgramType.EXT)
    return None


_RETURN_ZERO = (isa.mov_imm(0, 0), isa.exit_program())

KPROBES = Feature("kprobes", "4.17", lambda: _having_event_source("kprobe"), "CONFIG_KPROBES")
KPROBE_MULTI = Feature("links to many kprobes", "5.18", _linking_many_kprobes, "CONFIG_FPROBE")
UPROBES = Feature("uprobes", "4.17", lambda: _having_event_source("uprobe"), "CONFIG_UPROBES")
UPROBE_MULTI = Feature("links to many uprobes", "6.6", _linking_many_uprobes, "CONFIG_UPROBES")
FENTRY = Feature(
    "fentry and fexit programs",
    "5.5",
    lambda: loading_for(ProgramType.TRACING, AttachType.TRACE_FENTRY, "bpf_fentry_test1"),
    "CONFIG_DEBUG_INFO_BTF",
)
FMOD_RET = Feature(
    "fmod_ret programs",
    "5.7",
    lambda: loading_for(ProgramType.TRACING, AttachType.MODIFY_RETURN, "security_file_open"),
    "CONFIG_DEBUG_INFO_BTF",
)
LSM = Feature(
    "LSM programs",
    "5.7",
    lambda: loading_for(ProgramType.LSM, AttachType.LSM_MAC, "file_open"),
    "CONFIG_BPF_LSM",
)
LSM_CGROUP = Feature(
    "LSM programs for cgroups",
    "6.0",
    lambda: loading_for(ProgramType.LSM, AttachType.LSM_CGROUP, "socket_bind"),
    "CONFIG_BPF_LSM",
)
EXTENSION = Feature("programs that extend others", "5.6", _loading_extension, "CONFIG_DEBUG_INFO_BTF")
_LIVE = ProgramRunFlag.XDP_LIVE_FRAMES  # older kernels ignore the flag for XDP, but not the batch's size
RAW_TRACEPOINT_RUN = Feature(
    "runs of raw tracepoint programs",
    "5.10",
    lambda: _running(ProgramType.RAW_TRACEPOINT, _UNSPECIFIED, context=bytes(8)),
)
XDP_LIVE_FRAMES = Feature(
    "runs of XDP programs with live frames",
    "5.18",
    lambda: _running(ProgramType.XDP, AttachType.XDP, data=bytes(64), flags=_LIVE, batch_size=1),
)
KERNEL_VARIABLES = Feature(
    "variables of the kernel",
    "5.10",
    lambda: loading(ProgramType.SCHED_CLS, _UNSPECIFIED, (isa.load_kernel_variable(1, "runqueues"), *_RETURN_ONE)),
    "CONFIG_KALLSYMS_ALL",
)
KFUNCS = Feature(
    "kernel functions that any program can call",
    "6.2",
    lambda: loading(
        ProgramType.XDP, AttachType.XDP, (isa.call_kfunc("bpf_cast_to_kern_ctx"), isa.mov_imm(0, 1), isa.exit_program())
    ),
    "CONFIG_DEBUG_INFO_BTF",
)
ITERATORS = Feature(
    "iterators",
    "5.8",
    lambda: loading_for(ProgramType.TRACING, AttachType.TRACE_ITER, "task"),
    "CONFIG_DEBUG_INFO_BTF",
)
STRUCT_OPS = Feature(
    "struct_ops programs",
    "5.6",
    lambda: loading_for(ProgramType.STRUCT_OPS, _UNSPECIFIED, "tcp_congestion_ops.ssthresh"),
    "CONFIG_BPF_JIT",
)


def _creating_struct_ops_with_link() -> str | None:
    """Ask for a struct that is none of struct_ops: a kernel that knows the flag looks for it (ENOTSUPP)."""
    flags, types = MapCreateFlag.LINK, BtfBuilder()
    types.type_id(Int("int", 4, signed=True))
    with load_btf(types.encode(), "a probe's types") as held:
        attributes = sys.new(
            "map_create",
            map_type=MapType.STRUCT_OPS,
            key_size=4,
            value_size=64,
            max_entries=1,
            map_flags=flags,
            btf_fd=held.fd,
            btf_vmlinux_value_type_id=1,
        )
        try:
            Descriptor(sys.bpf(Command.MAP_CREATE, attributes, "create a struct_ops map")).close()
        except KernelError as error:
            return None if error.errno == _ENOTSUPP else _refusal(error)
    return None


# The kernel's own ENOTSUPP (include/linux/errno.h).
_ENOTSUPP = 524

STRUCT_OPS_LINK = Feature("links to struct_ops", "6.4", _creating_struct_ops_with_link, "CONFIG_BPF_JIT")

# Of some of these, too: CONFIG_BPF_LSM has inode storage, CONFIG_XDP_SOCKETS XSKMAP, CONFIG_NET most that hold sockets.
MAP_TYPES = {
    type_: Feature(f"maps of type {kind.title}", kind.since, functools.partial(supports_map_type, type_))
    for type_, kind in KINDS.items()
}

# Since 5.10, but Debian turned the BPF security module on later, without which files have no place for storage.
INODE_STORAGE_ENTRIES = Feature("entries of inode storage", "6.1", _storing_with_a_file)

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
    NETNS_COOKIE_IN_SK_MSG,
    NETNS_COOKIE_IN_SOCKOPT,
    LOOP,
    STORE_IMMEDIATE_TO_CONTEXT,
    TCX_LINK,
    SOCKMAP_LINK,
    NETNS_LINK,
    XDP_LINK,
    SK_SKB_VERDICT,
    CGROUP_ORDER,
    PERF_LINK,
)
