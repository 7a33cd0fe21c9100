"""What a program is given, by program type: fill one in, run, and read it again.

The default for a program type, and what that type may do with its context (net/core/filter.c, …_is_valid_access).
"""

from collections.abc import Callable

from pybpfasm.sim.contexts.base import Context, Rules
from pybpfasm.sim.contexts.packets import SkBuff, Xdp
from pybpfasm.sim.contexts.sockets import (
    SkLookup,
    SkMsg,
    SkReuseport,
    Sock,
    SockAddr,
    SockOps,
    Sockopt,
    TcpSock,
)
from pybpfasm.sim.contexts.tracing import (
    Arguments,
    Bytes,
    Device,
    PerfEvent,
    RegistersArm64,
    RegistersX86,
    Sysctl,
    Tracepoint,
)
from pybpfasm.uapi import AttachType, ProgramType

__all__ = [
    "Arguments",
    "Bytes",
    "Context",
    "Device",
    "PerfEvent",
    "RegistersArm64",
    "RegistersX86",
    "Rules",
    "SkBuff",
    "SkLookup",
    "SkMsg",
    "SkReuseport",
    "Sock",
    "SockAddr",
    "SockOps",
    "Sockopt",
    "Sysctl",
    "TcpSock",
    "Tracepoint",
    "Xdp",
    "context_types",
    "default_context",
    "rules_of",
]

_P = ProgramType
_A = AttachType

# The first is the default; a test may give any of them.
_CONTEXTS: dict[ProgramType, tuple[type[Context], ...]] = {
    **dict.fromkeys(
        (
            _P.SOCKET_FILTER,
            _P.SCHED_CLS,
            _P.SCHED_ACT,
            _P.CGROUP_SKB,
            _P.LWT_IN,
            _P.LWT_OUT,
            _P.LWT_XMIT,
            _P.LWT_SEG6LOCAL,
            _P.SK_SKB,
            _P.FLOW_DISSECTOR,
        ),
        (SkBuff,),
    ),
    _P.XDP: (Xdp,),
    _P.KPROBE: (RegistersX86, RegistersArm64, Arguments),
    _P.TRACEPOINT: (Tracepoint,),
    _P.PERF_EVENT: (PerfEvent,),
    _P.CGROUP_SOCK: (Sock,),
    _P.SOCK_OPS: (SockOps,),
    _P.CGROUP_DEVICE: (Device,),
    _P.SK_MSG: (SkMsg,),
    _P.RAW_TRACEPOINT: (Arguments,),
    _P.CGROUP_SOCK_ADDR: (SockAddr,),
    _P.SK_REUSEPORT: (SkReuseport,),
    _P.CGROUP_SYSCTL: (Sysctl,),
    _P.RAW_TRACEPOINT_WRITABLE: (Arguments,),
    _P.CGROUP_SOCKOPT: (Sockopt,),
    _P.TRACING: (Arguments,),
    _P.LSM: (Arguments,),
    _P.STRUCT_OPS: (Arguments,),
    _P.SK_LOOKUP: (SkLookup,),
    _P.SYSCALL: (Bytes,),
}

_SK_FIELDS = frozenset(["family", "remote_ip4", "local_ip4", "remote_ip6", "local_ip6", "remote_port", "local_port"])
_NO_FLOW_KEYS = frozenset({"flow_keys"})
_DATA = frozenset({"data", "data_end"})


def _hides(names: str, writable: str, more: frozenset[str] = frozenset()) -> Rules:
    return Rules(_NO_FLOW_KEYS | frozenset(names.split()) | more, frozenset(writable.split()))


_TC = _hides("", "mark tc_index priority tc_classid cb tstamp queue_mapping", _SK_FIELDS)
_LWT = _hides("tc_classid data_meta tstamp wire_len hwtstamp tstamp_type", "mark priority cb", _SK_FIELDS)
_SKB_RULES = {
    _P.SOCKET_FILTER: _hides(
        "tc_classid data data_meta data_end tstamp wire_len hwtstamp tstamp_type", "cb", _SK_FIELDS
    ),
    _P.SCHED_CLS: _TC,
    _P.SCHED_ACT: _TC,
    _P.CGROUP_SKB: _hides("tc_classid data_meta wire_len tstamp_type", "mark priority cb tstamp"),
    _P.SK_SKB: _hides("tc_classid data_meta tstamp wire_len hwtstamp tstamp_type mark", "tc_index priority"),
    **dict.fromkeys((_P.LWT_IN, _P.LWT_OUT, _P.LWT_XMIT, _P.LWT_SEG6LOCAL), _LWT),
    _P.FLOW_DISSECTOR: Rules(
        frozenset(field.name for field in SkBuff.fields) - _DATA - _NO_FLOW_KEYS,
        frozenset(),
    ),
}

# Which hooks see which address of bpf_sock_addr.
_IP4_HOOKS = frozenset(
    {
        _A.CGROUP_INET4_BIND,
        _A.CGROUP_INET4_CONNECT,
        _A.CGROUP_INET4_GETPEERNAME,
        _A.CGROUP_INET4_GETSOCKNAME,
        _A.CGROUP_UDP4_SENDMSG,
        _A.CGROUP_UDP4_RECVMSG,
    }
)
_SOCK_HOOKS = (_A.CGROUP_INET_SOCK_CREATE, _A.CGROUP_INET_SOCK_RELEASE)


def context_types(program_type: ProgramType) -> tuple[type[Context], ...]:
    """The contexts that a program of this type takes; none if it is not simulated."""
    return _CONTEXTS.get(program_type, ())


def default_context(program_type: ProgramType) -> Context | None:
    """A context with nothing filled in; None for a program type without one."""
    possible = context_types(program_type)
    return possible[0]() if possible else None


def rules_of(program_type: ProgramType, attach_type: AttachType) -> Rules:
    """What a program of this type, at this hook, may do with its context."""
    special = _BY_HOOK.get(program_type)
    if special is not None:
        return special(attach_type)
    return _SKB_RULES.get(program_type, Rules())


def _sock_addr(attach_type: AttachType) -> Rules:
    hidden = {"user_ip6", "msg_src_ip6"} if attach_type in _IP4_HOOKS else {"user_ip4", "msg_src_ip4"}
    if attach_type != _A.CGROUP_UDP4_SENDMSG:
        hidden.add("msg_src_ip4")
    if attach_type != _A.CGROUP_UDP6_SENDMSG:
        hidden.add("msg_src_ip6")
    return Rules(frozenset(hidden))


def _sockopt(attach_type: AttachType) -> Rules:
    if attach_type == _A.CGROUP_SETSOCKOPT:
        return Rules(frozenset({"retval"}), frozenset({"level", "optname", "optlen"}))
    return Rules(frozenset(), frozenset({"optlen", "retval"}))


def _cgroup_sock(attach_type: AttachType) -> Rules:
    if attach_type in _SOCK_HOOKS:
        return Rules(frozenset({"src_ip4", "src_ip6", "src_port"}))
    hidden = {"bound_dev_if", "mark", "priority"}
    hidden.add("src_ip6" if attach_type == _A.CGROUP_INET4_POST_BIND else "src_ip4")
    return Rules(frozenset(hidden), frozenset())


def _xdp(attach_type: AttachType) -> Rules:
    return Rules(frozenset() if attach_type == _A.XDP_DEVMAP else frozenset({"egress_ifindex"}))


_BY_HOOK: dict[ProgramType, Callable[[AttachType], Rules]] = {
    _P.CGROUP_SOCK_ADDR: _sock_addr,
    _P.CGROUP_SOCKOPT: _sockopt,
    _P.CGROUP_SOCK: _cgroup_sock,
    _P.XDP: _xdp,
}
