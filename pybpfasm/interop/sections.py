"""Section names: what kind of program they mean, and the other way round (libbpf's section_defs, src/libbpf.c).

A pattern that ends in `+` takes what follows a slash as the place to attach to: `kprobe/do_unlinkat`. The others are
whole names. For writing, the first row that fits is taken.
"""

from collections.abc import Iterator

import attrs

from pybpfasm.uapi import AttachType, ProgramLoadFlag, ProgramType

# What the kernel has where a program type has no attach type.
NO_ATTACH_TYPE = AttachType(0)

_SLEEPABLE = int(ProgramLoadFlag.SLEEPABLE)
_FRAGS = int(ProgramLoadFlag.XDP_HAS_FRAGS)

_A, _P = AttachType, ProgramType


@attrs.frozen
class SectionKind:
    """What a section's name says of the programs in it. `flags` are those of PROG_LOAD."""

    type: ProgramType
    attach_type: AttachType = NO_ATTACH_TYPE
    flags: int = 0
    attach_to: str | None = None


UNKNOWN = SectionKind(ProgramType.UNSPEC)

_TABLE: tuple[tuple[str, ProgramType, AttachType, int], ...] = (
    ("socket", _P.SOCKET_FILTER, NO_ATTACH_TYPE, 0),
    ("sk_reuseport/migrate", _P.SK_REUSEPORT, _A.SK_REUSEPORT_SELECT_OR_MIGRATE, 0),
    ("sk_reuseport", _P.SK_REUSEPORT, _A.SK_REUSEPORT_SELECT, 0),
    ("kprobe+", _P.KPROBE, NO_ATTACH_TYPE, 0),
    ("kretprobe+", _P.KPROBE, NO_ATTACH_TYPE, 0),
    ("uprobe+", _P.KPROBE, NO_ATTACH_TYPE, 0),
    ("uprobe.s+", _P.KPROBE, NO_ATTACH_TYPE, _SLEEPABLE),
    ("uretprobe+", _P.KPROBE, NO_ATTACH_TYPE, 0),
    ("uretprobe.s+", _P.KPROBE, NO_ATTACH_TYPE, _SLEEPABLE),
    ("ksyscall+", _P.KPROBE, NO_ATTACH_TYPE, 0),
    ("kretsyscall+", _P.KPROBE, NO_ATTACH_TYPE, 0),
    ("usdt+", _P.KPROBE, NO_ATTACH_TYPE, 0),
    ("usdt.s+", _P.KPROBE, NO_ATTACH_TYPE, _SLEEPABLE),
    ("kprobe.multi+", _P.KPROBE, _A.TRACE_KPROBE_MULTI, 0),
    ("kretprobe.multi+", _P.KPROBE, _A.TRACE_KPROBE_MULTI, 0),
    ("kprobe.session+", _P.KPROBE, _A.TRACE_KPROBE_SESSION, 0),
    ("uprobe.multi+", _P.KPROBE, _A.TRACE_UPROBE_MULTI, 0),
    ("uretprobe.multi+", _P.KPROBE, _A.TRACE_UPROBE_MULTI, 0),
    ("uprobe.session+", _P.KPROBE, _A.TRACE_UPROBE_SESSION, 0),
    ("uprobe.multi.s+", _P.KPROBE, _A.TRACE_UPROBE_MULTI, _SLEEPABLE),
    ("uretprobe.multi.s+", _P.KPROBE, _A.TRACE_UPROBE_MULTI, _SLEEPABLE),
    ("uprobe.session.s+", _P.KPROBE, _A.TRACE_UPROBE_SESSION, _SLEEPABLE),
    ("tcx/ingress", _P.SCHED_CLS, _A.TCX_INGRESS, 0),
    ("tcx/egress", _P.SCHED_CLS, _A.TCX_EGRESS, 0),
    ("tc/ingress", _P.SCHED_CLS, _A.TCX_INGRESS, 0),
    ("tc/egress", _P.SCHED_CLS, _A.TCX_EGRESS, 0),
    ("tc", _P.SCHED_CLS, NO_ATTACH_TYPE, 0),
    ("classifier", _P.SCHED_CLS, NO_ATTACH_TYPE, 0),
    ("action", _P.SCHED_ACT, NO_ATTACH_TYPE, 0),
    ("netkit/primary", _P.SCHED_CLS, _A.NETKIT_PRIMARY, 0),
    ("netkit/peer", _P.SCHED_CLS, _A.NETKIT_PEER, 0),
    ("tracepoint+", _P.TRACEPOINT, NO_ATTACH_TYPE, 0),
    ("tp+", _P.TRACEPOINT, NO_ATTACH_TYPE, 0),
    ("tracepoint.s+", _P.TRACEPOINT, NO_ATTACH_TYPE, _SLEEPABLE),
    ("tp.s+", _P.TRACEPOINT, NO_ATTACH_TYPE, _SLEEPABLE),
    ("raw_tracepoint+", _P.RAW_TRACEPOINT, NO_ATTACH_TYPE, 0),
    ("raw_tp+", _P.RAW_TRACEPOINT, NO_ATTACH_TYPE, 0),
    ("raw_tracepoint.s+", _P.RAW_TRACEPOINT, NO_ATTACH_TYPE, _SLEEPABLE),
    ("raw_tp.s+", _P.RAW_TRACEPOINT, NO_ATTACH_TYPE, _SLEEPABLE),
    ("raw_tracepoint.w+", _P.RAW_TRACEPOINT_WRITABLE, NO_ATTACH_TYPE, 0),
    ("raw_tp.w+", _P.RAW_TRACEPOINT_WRITABLE, NO_ATTACH_TYPE, 0),
    ("tp_btf+", _P.TRACING, _A.TRACE_RAW_TP, 0),
    ("tp_btf.s+", _P.TRACING, _A.TRACE_RAW_TP, _SLEEPABLE),
    ("fentry+", _P.TRACING, _A.TRACE_FENTRY, 0),
    ("fmod_ret+", _P.TRACING, _A.MODIFY_RETURN, 0),
    ("fexit+", _P.TRACING, _A.TRACE_FEXIT, 0),
    ("fsession+", _P.TRACING, _A.TRACE_FSESSION, 0),
    ("fentry.s+", _P.TRACING, _A.TRACE_FENTRY, _SLEEPABLE),
    ("fmod_ret.s+", _P.TRACING, _A.MODIFY_RETURN, _SLEEPABLE),
    ("fexit.s+", _P.TRACING, _A.TRACE_FEXIT, _SLEEPABLE),
    ("fsession.s+", _P.TRACING, _A.TRACE_FSESSION, _SLEEPABLE),
    ("fentry.multi+", _P.TRACING, _A.TRACE_FENTRY_MULTI, 0),
    ("fexit.multi+", _P.TRACING, _A.TRACE_FEXIT_MULTI, 0),
    ("fsession.multi+", _P.TRACING, _A.TRACE_FSESSION_MULTI, 0),
    ("fentry.multi.s+", _P.TRACING, _A.TRACE_FENTRY_MULTI, _SLEEPABLE),
    ("fexit.multi.s+", _P.TRACING, _A.TRACE_FEXIT_MULTI, _SLEEPABLE),
    ("fsession.multi.s+", _P.TRACING, _A.TRACE_FSESSION_MULTI, _SLEEPABLE),
    ("freplace+", _P.EXT, NO_ATTACH_TYPE, 0),
    ("lsm+", _P.LSM, _A.LSM_MAC, 0),
    ("lsm.s+", _P.LSM, _A.LSM_MAC, _SLEEPABLE),
    ("lsm_cgroup+", _P.LSM, _A.LSM_CGROUP, 0),
    ("iter+", _P.TRACING, _A.TRACE_ITER, 0),
    ("iter.s+", _P.TRACING, _A.TRACE_ITER, _SLEEPABLE),
    ("syscall", _P.SYSCALL, NO_ATTACH_TYPE, _SLEEPABLE),
    ("xdp", _P.XDP, _A.XDP, 0),
    ("xdp/devmap", _P.XDP, _A.XDP_DEVMAP, 0),
    ("xdp/cpumap", _P.XDP, _A.XDP_CPUMAP, 0),
    ("xdp.frags", _P.XDP, _A.XDP, _FRAGS),
    ("xdp.frags/devmap", _P.XDP, _A.XDP_DEVMAP, _FRAGS),
    ("xdp.frags/cpumap", _P.XDP, _A.XDP_CPUMAP, _FRAGS),
    ("perf_event", _P.PERF_EVENT, NO_ATTACH_TYPE, 0),
    ("lwt_in", _P.LWT_IN, NO_ATTACH_TYPE, 0),
    ("lwt_out", _P.LWT_OUT, NO_ATTACH_TYPE, 0),
    ("lwt_xmit", _P.LWT_XMIT, NO_ATTACH_TYPE, 0),
    ("lwt_seg6local", _P.LWT_SEG6LOCAL, NO_ATTACH_TYPE, 0),
    ("sockops", _P.SOCK_OPS, _A.CGROUP_SOCK_OPS, 0),
    ("sk_skb/stream_parser", _P.SK_SKB, _A.SK_SKB_STREAM_PARSER, 0),
    ("sk_skb/stream_verdict", _P.SK_SKB, _A.SK_SKB_STREAM_VERDICT, 0),
    ("sk_skb/verdict", _P.SK_SKB, _A.SK_SKB_VERDICT, 0),
    ("sk_skb", _P.SK_SKB, NO_ATTACH_TYPE, 0),
    ("sk_msg", _P.SK_MSG, _A.SK_MSG_VERDICT, 0),
    ("lirc_mode2", _P.LIRC_MODE2, _A.LIRC_MODE2, 0),
    ("flow_dissector", _P.FLOW_DISSECTOR, _A.FLOW_DISSECTOR, 0),
    ("cgroup_skb/ingress", _P.CGROUP_SKB, _A.CGROUP_INET_INGRESS, 0),
    ("cgroup_skb/egress", _P.CGROUP_SKB, _A.CGROUP_INET_EGRESS, 0),
    ("cgroup/skb", _P.CGROUP_SKB, NO_ATTACH_TYPE, 0),
    ("cgroup/sock_create", _P.CGROUP_SOCK, _A.CGROUP_INET_SOCK_CREATE, 0),
    ("cgroup/sock_release", _P.CGROUP_SOCK, _A.CGROUP_INET_SOCK_RELEASE, 0),
    ("cgroup/sock", _P.CGROUP_SOCK, _A.CGROUP_INET_SOCK_CREATE, 0),
    ("cgroup/post_bind4", _P.CGROUP_SOCK, _A.CGROUP_INET4_POST_BIND, 0),
    ("cgroup/post_bind6", _P.CGROUP_SOCK, _A.CGROUP_INET6_POST_BIND, 0),
    ("cgroup/bind4", _P.CGROUP_SOCK_ADDR, _A.CGROUP_INET4_BIND, 0),
    ("cgroup/bind6", _P.CGROUP_SOCK_ADDR, _A.CGROUP_INET6_BIND, 0),
    ("cgroup/connect4", _P.CGROUP_SOCK_ADDR, _A.CGROUP_INET4_CONNECT, 0),
    ("cgroup/connect6", _P.CGROUP_SOCK_ADDR, _A.CGROUP_INET6_CONNECT, 0),
    ("cgroup/connect_unix", _P.CGROUP_SOCK_ADDR, _A.CGROUP_UNIX_CONNECT, 0),
    ("cgroup/sendmsg4", _P.CGROUP_SOCK_ADDR, _A.CGROUP_UDP4_SENDMSG, 0),
    ("cgroup/sendmsg6", _P.CGROUP_SOCK_ADDR, _A.CGROUP_UDP6_SENDMSG, 0),
    ("cgroup/sendmsg_unix", _P.CGROUP_SOCK_ADDR, _A.CGROUP_UNIX_SENDMSG, 0),
    ("cgroup/recvmsg4", _P.CGROUP_SOCK_ADDR, _A.CGROUP_UDP4_RECVMSG, 0),
    ("cgroup/recvmsg6", _P.CGROUP_SOCK_ADDR, _A.CGROUP_UDP6_RECVMSG, 0),
    ("cgroup/recvmsg_unix", _P.CGROUP_SOCK_ADDR, _A.CGROUP_UNIX_RECVMSG, 0),
    ("cgroup/getpeername4", _P.CGROUP_SOCK_ADDR, _A.CGROUP_INET4_GETPEERNAME, 0),
    ("cgroup/getpeername6", _P.CGROUP_SOCK_ADDR, _A.CGROUP_INET6_GETPEERNAME, 0),
    ("cgroup/getpeername_unix", _P.CGROUP_SOCK_ADDR, _A.CGROUP_UNIX_GETPEERNAME, 0),
    ("cgroup/getsockname4", _P.CGROUP_SOCK_ADDR, _A.CGROUP_INET4_GETSOCKNAME, 0),
    ("cgroup/getsockname6", _P.CGROUP_SOCK_ADDR, _A.CGROUP_INET6_GETSOCKNAME, 0),
    ("cgroup/getsockname_unix", _P.CGROUP_SOCK_ADDR, _A.CGROUP_UNIX_GETSOCKNAME, 0),
    ("cgroup/sysctl", _P.CGROUP_SYSCTL, _A.CGROUP_SYSCTL, 0),
    ("cgroup/getsockopt", _P.CGROUP_SOCKOPT, _A.CGROUP_GETSOCKOPT, 0),
    ("cgroup/setsockopt", _P.CGROUP_SOCKOPT, _A.CGROUP_SETSOCKOPT, 0),
    ("cgroup/dev", _P.CGROUP_DEVICE, _A.CGROUP_DEVICE, 0),
    ("struct_ops+", _P.STRUCT_OPS, NO_ATTACH_TYPE, 0),
    ("struct_ops.s+", _P.STRUCT_OPS, NO_ATTACH_TYPE, _SLEEPABLE),
    ("sk_lookup", _P.SK_LOOKUP, _A.SK_LOOKUP, 0),
    ("netfilter", _P.NETFILTER, _A.NETFILTER, 0),
)

_KINDS = {pattern: SectionKind(type_, attach, flags) for pattern, type_, attach, flags in _TABLE}

# The struct that r1 points to, by type (libbpf's global_ctx_map); none for the types whose argument has no one type.
_CONTEXTS = {
    _P.CGROUP_DEVICE: "bpf_cgroup_dev_ctx",
    _P.CGROUP_SKB: "__sk_buff",
    _P.CGROUP_SOCK: "bpf_sock",
    _P.CGROUP_SOCKOPT: "bpf_sockopt",
    _P.CGROUP_SOCK_ADDR: "bpf_sock_addr",
    _P.CGROUP_SYSCTL: "bpf_sysctl",
    _P.FLOW_DISSECTOR: "__sk_buff",
    _P.KPROBE: "bpf_user_pt_regs_t",
    _P.LWT_IN: "__sk_buff",
    _P.LWT_OUT: "__sk_buff",
    _P.LWT_SEG6LOCAL: "__sk_buff",
    _P.LWT_XMIT: "__sk_buff",
    _P.NETFILTER: "bpf_nf_ctx",
    _P.PERF_EVENT: "bpf_perf_event_data",
    _P.RAW_TRACEPOINT: "bpf_raw_tracepoint_args",
    _P.RAW_TRACEPOINT_WRITABLE: "bpf_raw_tracepoint_args",
    _P.SCHED_ACT: "__sk_buff",
    _P.SCHED_CLS: "__sk_buff",
    _P.SK_LOOKUP: "bpf_sk_lookup",
    _P.SK_MSG: "sk_msg_md",
    _P.SK_REUSEPORT: "sk_reuseport_md",
    _P.SK_SKB: "__sk_buff",
    _P.SOCKET_FILTER: "__sk_buff",
    _P.SOCK_OPS: "bpf_sock_ops",
    _P.XDP: "xdp_md",
}


def section_kind(name: str) -> SectionKind:
    """What programs a section holds, by its name; `UNKNOWN` for a name that libbpf does not know.

    A `?` in front, by which libbpf leaves the loading to its user, changes nothing.
    """
    name = name.removeprefix("?")
    if name in _KINDS:
        return _KINDS[name]
    prefix, slash, place = name.partition("/")
    kind = _KINDS.get(prefix + "+", UNKNOWN)
    return attrs.evolve(kind, attach_to=place) if slash and kind is not UNKNOWN else kind


def section_name(kind: SectionKind) -> str | None:
    """A name of a section for such programs; None if there is none."""
    return next(_names(kind), None)


def _names(kind: SectionKind) -> Iterator[str]:
    for pattern, type_, attach_type, flags in _TABLE:
        if (type_, attach_type, flags) != (kind.type, kind.attach_type, kind.flags):
            continue
        if kind.attach_to is None:
            yield pattern.removesuffix("+")
        elif pattern.endswith("+"):
            yield pattern[:-1] + "/" + kind.attach_to


def context_name(type_: ProgramType) -> str:
    """The struct (or typedef) that r1 of such programs points to; empty if the type does not tell."""
    return _CONTEXTS.get(type_, "")
