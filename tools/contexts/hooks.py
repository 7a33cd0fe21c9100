"""The hooks whose context is a struct of uapi linux/bpf.h, and those structs as the running kernel has them."""

import attrs

from pybpfasm.btf import Kind, NotFoundError, kernel_btf, kinds
from pybpfasm.uapi import AttachType, ProgramType

_P, _A = ProgramType, AttachType
_NO_HOOK = AttachType(0)

# Of each program type the struct, and the hooks that the verifier tells apart.
HOOKS: dict[ProgramType, tuple[str, tuple[AttachType, ...]]] = {
    _P.SOCKET_FILTER: ("__sk_buff", (_NO_HOOK,)),
    _P.SCHED_CLS: ("__sk_buff", (_NO_HOOK,)),
    _P.XDP: ("xdp_md", (_A.XDP, _A.XDP_DEVMAP, _A.XDP_CPUMAP)),
    _P.PERF_EVENT: ("bpf_perf_event_data", (_NO_HOOK,)),
    _P.CGROUP_SKB: ("__sk_buff", (_A.CGROUP_INET_INGRESS, _A.CGROUP_INET_EGRESS)),
    _P.CGROUP_SOCK: (
        "bpf_sock",
        (
            _A.CGROUP_INET_SOCK_CREATE,
            _A.CGROUP_INET_SOCK_RELEASE,
            _A.CGROUP_INET4_POST_BIND,
            _A.CGROUP_INET6_POST_BIND,
        ),
    ),
    _P.LWT_IN: ("__sk_buff", (_NO_HOOK,)),
    _P.LWT_OUT: ("__sk_buff", (_NO_HOOK,)),
    _P.LWT_XMIT: ("__sk_buff", (_NO_HOOK,)),
    _P.LWT_SEG6LOCAL: ("__sk_buff", (_NO_HOOK,)),
    _P.SOCK_OPS: ("bpf_sock_ops", (_A.CGROUP_SOCK_OPS,)),
    _P.SK_SKB: ("__sk_buff", (_A.SK_SKB_STREAM_PARSER, _A.SK_SKB_STREAM_VERDICT, _A.SK_SKB_VERDICT)),
    _P.CGROUP_DEVICE: ("bpf_cgroup_dev_ctx", (_A.CGROUP_DEVICE,)),
    _P.SK_MSG: ("sk_msg_md", (_A.SK_MSG_VERDICT,)),
    _P.CGROUP_SOCK_ADDR: (
        "bpf_sock_addr",
        (
            _A.CGROUP_INET4_BIND,
            _A.CGROUP_INET6_BIND,
            _A.CGROUP_INET4_CONNECT,
            _A.CGROUP_INET6_CONNECT,
            _A.CGROUP_UNIX_CONNECT,
            _A.CGROUP_UDP4_SENDMSG,
            _A.CGROUP_UDP6_SENDMSG,
            _A.CGROUP_UNIX_SENDMSG,
            _A.CGROUP_UDP4_RECVMSG,
            _A.CGROUP_UDP6_RECVMSG,
            _A.CGROUP_UNIX_RECVMSG,
            _A.CGROUP_INET4_GETPEERNAME,
            _A.CGROUP_INET6_GETPEERNAME,
            _A.CGROUP_UNIX_GETPEERNAME,
            _A.CGROUP_INET4_GETSOCKNAME,
            _A.CGROUP_INET6_GETSOCKNAME,
            _A.CGROUP_UNIX_GETSOCKNAME,
        ),
    ),
    _P.LIRC_MODE2: ("lirc_mode2", (_A.LIRC_MODE2,)),
    _P.SK_REUSEPORT: ("sk_reuseport_md", (_A.SK_REUSEPORT_SELECT, _A.SK_REUSEPORT_SELECT_OR_MIGRATE)),
    _P.FLOW_DISSECTOR: ("__sk_buff", (_A.FLOW_DISSECTOR,)),
    _P.CGROUP_SYSCTL: ("bpf_sysctl", (_A.CGROUP_SYSCTL,)),
    _P.CGROUP_SOCKOPT: ("bpf_sockopt", (_A.CGROUP_GETSOCKOPT, _A.CGROUP_SETSOCKOPT)),
    _P.SK_LOOKUP: ("bpf_sk_lookup", (_A.SK_LOOKUP,)),
    _P.NETFILTER: ("bpf_nf_ctx", (_A.NETFILTER,)),
}

STRUCTS = tuple(dict.fromkeys([*(struct for struct, _ in HOOKS.values()), "bpf_tcp_sock", "bpf_flow_keys"]))


@attrs.frozen
class Member:
    """A field of a struct: where it starts and how many bytes an element has; `count` is 0 for what is no array."""

    name: str
    offset: int
    width: int
    count: int
    pointer: bool


def hook_name(program_type: ProgramType, hook: AttachType) -> str:
    """How the tables name a hook: by its attach type, or by the program type where there is only one hook."""
    return hook.name.lower() if hook else program_type.name.lower()


def members(struct: str) -> list[Member] | None:
    """The fields of a struct in the running kernel, those of anonymous members, too; None if it has no such struct."""
    if struct == "lirc_mode2":
        return [Member("sample", 0, 4, 0, pointer=False)]  # its context is a number (drivers/media/rc/bpf-lirc.c)
    types = kernel_btf()
    try:
        found = types.find(struct, Kind.STRUCT)
    except NotFoundError:
        return None
    return list(_members(found, 0))


def _members(type_id: int, base: int) -> list[Member]:
    types = kernel_btf()
    record = types.type(types.strip(type_id))
    assert isinstance(record, kinds.Struct | kinds.Union)  # noqa: S101 - as it was asked for
    made: list[Member] = []
    for member in record.members:
        offset = base + member.bit_offset // 8
        stripped = types.strip(member.type_id)
        inner = types.type(stripped)
        if not member.name and isinstance(inner, kinds.Struct | kinds.Union):
            made.extend(_members(stripped, offset))
        elif not member.name:
            continue  # unused bits that align a pointer
        elif isinstance(inner, kinds.Array):
            made.append(Member(member.name, offset, types.size_of(inner.type_id), inner.count, pointer=False))
        else:
            made.append(Member(member.name, offset, types.size_of(stripped), 0, isinstance(inner, kinds.Ptr)))
    return made
