"""For each type of program, one that does nothing: the plainest that a kernel with that type takes.

What the kernel looks at before the verifier does (bpf_prog_load of kernel/bpf/syscall.c): an attach type where the type
of program has several, a function of the kernel where programs are attached by BTF, a flag.
"""

from collections.abc import Iterable

from pybpfasm import isa
from pybpfasm.isa import Instruction
from pybpfasm.records import frozen
from pybpfasm.spec import ProgramSpec
from pybpfasm.uapi import AttachType, ProgramLoadFlag, ProgramType

NO_HOOK = AttachType(0)


@frozen
class Sample:
    """How to load a program of a type. `returns` is what it may return, `option` what a kernel may be built without."""

    since: str
    hook: AttachType = NO_HOOK
    attach_to: str | None = None
    returns: int = 0
    flags: int = 0
    option: str | None = None


SAMPLES: dict[ProgramType, Sample] = {
    ProgramType.SOCKET_FILTER: Sample("3.19"),
    ProgramType.KPROBE: Sample("4.1", option="CONFIG_BPF_EVENTS"),
    ProgramType.SCHED_CLS: Sample("4.1"),
    ProgramType.SCHED_ACT: Sample("4.1"),
    ProgramType.TRACEPOINT: Sample("4.7", option="CONFIG_BPF_EVENTS"),
    ProgramType.XDP: Sample("4.8", AttachType.XDP),
    ProgramType.PERF_EVENT: Sample("4.9", option="CONFIG_BPF_EVENTS"),
    ProgramType.CGROUP_SKB: Sample("4.10", AttachType.CGROUP_INET_INGRESS, returns=1),
    ProgramType.CGROUP_SOCK: Sample("4.10", AttachType.CGROUP_INET_SOCK_CREATE, returns=1),
    ProgramType.LWT_IN: Sample("4.10"),
    ProgramType.LWT_OUT: Sample("4.10"),
    ProgramType.LWT_XMIT: Sample("4.10"),
    ProgramType.SOCK_OPS: Sample("4.13", AttachType.CGROUP_SOCK_OPS, returns=1),
    ProgramType.SK_SKB: Sample("4.14", option="CONFIG_NET_SOCK_MSG"),
    ProgramType.CGROUP_DEVICE: Sample("4.15", AttachType.CGROUP_DEVICE, returns=1),
    ProgramType.SK_MSG: Sample("4.17", AttachType.SK_MSG_VERDICT, returns=1, option="CONFIG_NET_SOCK_MSG"),
    ProgramType.RAW_TRACEPOINT: Sample("4.17", option="CONFIG_BPF_EVENTS"),
    ProgramType.CGROUP_SOCK_ADDR: Sample("4.17", AttachType.CGROUP_INET4_CONNECT, returns=1),
    ProgramType.LWT_SEG6LOCAL: Sample("4.18"),
    ProgramType.LIRC_MODE2: Sample("4.18", AttachType.LIRC_MODE2, option="CONFIG_BPF_LIRC_MODE2"),
    ProgramType.SK_REUSEPORT: Sample("4.19", AttachType.SK_REUSEPORT_SELECT, returns=1),
    ProgramType.FLOW_DISSECTOR: Sample("4.20", AttachType.FLOW_DISSECTOR),
    ProgramType.CGROUP_SYSCTL: Sample("5.2", AttachType.CGROUP_SYSCTL, returns=1),
    ProgramType.RAW_TRACEPOINT_WRITABLE: Sample("5.2", option="CONFIG_BPF_EVENTS"),
    ProgramType.CGROUP_SOCKOPT: Sample("5.3", AttachType.CGROUP_GETSOCKOPT, returns=1),
    ProgramType.TRACING: Sample("5.5", AttachType.TRACE_FENTRY, "bpf_fentry_test1", option="CONFIG_DEBUG_INFO_BTF"),
    ProgramType.STRUCT_OPS: Sample("5.6", attach_to="tcp_congestion_ops.ssthresh", option="CONFIG_DEBUG_INFO_BTF"),
    ProgramType.LSM: Sample("5.7", AttachType.LSM_MAC, "file_open", option="CONFIG_BPF_LSM"),
    ProgramType.SK_LOOKUP: Sample("5.9", AttachType.SK_LOOKUP, returns=1),
    ProgramType.SYSCALL: Sample("5.14", flags=int(ProgramLoadFlag.SLEEPABLE)),
    ProgramType.NETFILTER: Sample("6.4", AttachType.NETFILTER, returns=1, option="CONFIG_NETFILTER_BPF_LINK"),
}


def sample_program(
    program_type: ProgramType, hook: AttachType | None = None, first: Iterable[Instruction] = ()
) -> ProgramSpec:
    """The spec of the plainest program of a type, for its usual hook or another; `first` is what it does before.

    Extensions (ext) have none: they need a program to extend.
    """
    sample = SAMPLES[program_type]
    code = (*first, isa.mov_imm(0, sample.returns), isa.exit_program())
    chosen = sample.hook if hook is None else hook
    return ProgramSpec("probe", program_type, chosen, "probe", code, {}, attach_to=sample.attach_to, flags=sample.flags)
