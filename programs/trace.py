"""What `python -m merbridge trace` shows: hooks of its own, which run behind the datapath's and change nothing.

They are attached as long as somebody looks. What the datapath's hooks have done, these find out from what they left:
the call's destination, the socket's state, the verdict so far.
"""

from enum import IntEnum
from typing import Annotated

import pybpfasm as bpf
from programs.callers import AF_INET, AF_INET6, ANY, PASS, V4_MAPPED, caller_of, is_same
from programs.connect import IPPROTO_TCP
from programs.maps import IN_MESH, ZTUNNEL, Address, Call, Counter, Endpoint, Ztunnel, settings, socket_state
from programs.slots import COOKIE, call_slot
from programs.sockops import PASSIVE_ESTABLISHED_CB
from pybpfasm import Length, PerCpuArray, RingBuf, SockAddr, SockOps, Struct, get_current_comm, htons, ntohl, u32, u64
from pybpfasm import helpers as h

# Whether the kernel tells what the hooks before have decided: bpf_get_retval, Linux 6.1 for these hooks.
SEES_REFUSALS = True

COMM_BYTES = 16


class Verdict(IntEnum):
    """What became of a connection: it went to ztunnel, was refused, went where it was meant to; it came to ztunnel."""

    REDIRECTED = 0
    REFUSED = 1
    LEFT_ALONE = 2
    ARRIVED = 3


class Event(Struct):
    """One connection. `at` is by CLOCK_MONOTONIC, in nanoseconds.

    `netns_cookie` is that of who dials, or of ztunnel where it arrives. `instead` is where it went, the port 0 where
    that is the same; `source` is known where it arrives. No process is known there.
    """

    at: u64
    netns_cookie: u64
    source: Endpoint
    dialled: Endpoint
    instead: Endpoint
    pid: u32
    verdict: u32
    flags: u32
    comm: Annotated[bytes, Length(COMM_BYTES)]


trace_events = RingBuf(max_entries=1 << 20)
trace_lost = PerCpuArray[u32, Counter](max_entries=1)


@bpf.inline
def clear(end: Endpoint) -> None:
    """Make it no end at all."""
    end.ip = Address(w0=ANY, w1=ANY, w2=ANY, w3=ANY)
    end.port = htons(0)
    end.family = 0


@bpf.inline
def lose() -> None:
    """Count an event for which there is no room."""
    lost = trace_lost.lookup(0)
    if lost is not None:
        lost.count += 1


@bpf.inline
def tell(ctx: SockAddr, verdict: int, flags: int, dialled: Endpoint, instead: Endpoint | None) -> None:
    """Tell of a call."""
    event = trace_events.reserve(Event)
    if event is None:
        lose()
        return
    event.at = h.ktime_get_ns()
    event.netns_cookie = h.get_netns_cookie(ctx)
    clear(event.source)
    event.dialled = dialled
    if instead is None:
        clear(event.instead)
    else:
        event.instead = instead
    event.pid = h.get_current_pid_tgid() >> 32
    event.verdict = verdict
    event.flags = flags
    get_current_comm(event.comm)
    trace_events.submit(event)


@bpf.inline
def kept(ctx: SockAddr) -> Call | None:
    """What `connect4` or `connect6` has kept of this socket's call, or of an earlier one."""
    cookie = h.get_socket_cookie(ctx)
    slot = call_slot(cookie)
    if slot is not None and slot.owner & COOKIE == cookie:
        return slot.call
    state = socket_state.get(ctx.sk)
    if state is None:
        return None
    return state.call


@bpf.inline
def called(ctx: SockAddr, to: Endpoint) -> None:
    """Tell what became of a call; `to` is where it goes now."""
    caller = caller_of(ctx)
    if caller is None:
        return
    if SEES_REFUSALS and h.get_retval() < 0:
        tell(ctx, Verdict.REFUSED, caller.flags, to, None)
        return
    call = kept(ctx)
    if call is not None and call.ztunnel.port == to.port and is_same(call.ztunnel.ip, to.ip):
        tell(ctx, Verdict.REDIRECTED, caller.flags, call.original, call.ztunnel)
    elif caller.flags & IN_MESH != 0:
        tell(ctx, Verdict.LEFT_ALONE, caller.flags, to, None)


@bpf.connect4
def trace4(ctx: SockAddr) -> int:
    """A call of an AF_INET socket."""
    if ctx.protocol == IPPROTO_TCP:
        ip = Address(w0=ANY, w1=ANY, w2=V4_MAPPED, w3=ctx.user_ip4)
        called(ctx, Endpoint(ip=ip, port=ctx.user_port, family=AF_INET))
    return PASS


@bpf.connect6
def trace6(ctx: SockAddr) -> int:
    """A call of an AF_INET6 socket."""
    if ctx.protocol == IPPROTO_TCP:
        ip = Address(w0=ctx.user_ip6[0], w1=ctx.user_ip6[1], w2=ctx.user_ip6[2], w3=ctx.user_ip6[3])
        called(ctx, Endpoint(ip=ip, port=ctx.user_port, family=AF_INET6))
    return PASS


@bpf.inline
def is_for_itself(ctx: SockOps, ztunnel: Ztunnel) -> bool:
    """Whether a socket of ztunnel's has ztunnel's own address."""
    if ctx.local_ip6[2] == V4_MAPPED and ctx.local_ip6[1] == ANY and ctx.local_ip6[0] == ANY:
        return ctx.local_ip6[3] == ztunnel.ip4
    own = Address(w0=ctx.local_ip6[0], w1=ctx.local_ip6[1], w2=ctx.local_ip6[2], w3=ctx.local_ip6[3])
    return is_same(own, ztunnel.ip6)


@bpf.inline
def accepted(ctx: SockOps) -> None:
    """Tell of a connection that came to ztunnel, though it was for a pod."""
    ztunnel = settings.lookup(ZTUNNEL)
    if ztunnel is None:
        return
    if h.get_netns_cookie(ctx) != ztunnel.netns_cookie or is_for_itself(ctx, ztunnel):
        return
    event = trace_events.reserve(Event)
    if event is None:
        lose()
        return
    event.at = h.ktime_get_ns()
    event.netns_cookie = ztunnel.netns_cookie
    event.source.ip = Address(w0=ctx.remote_ip6[0], w1=ctx.remote_ip6[1], w2=ctx.remote_ip6[2], w3=ctx.remote_ip6[3])
    event.source.port = htons(ntohl(ctx.remote_port))
    event.source.family = 0
    event.dialled.ip = Address(w0=ctx.local_ip6[0], w1=ctx.local_ip6[1], w2=ctx.local_ip6[2], w3=ctx.local_ip6[3])
    event.dialled.port = htons(ctx.local_port)
    event.dialled.family = 0
    clear(event.instead)
    event.pid = 0
    event.verdict = Verdict.ARRIVED
    event.flags = 0
    event.comm = b""
    trace_events.submit(event)


@bpf.sock_ops
def trace_sockops(ctx: SockOps) -> int:
    """An event of a TCP socket."""
    if ctx.op == PASSIVE_ESTABLISHED_CB:
        accepted(ctx)
    return 1
