"""Who is calling, and which calls stay in a pod: what the hooks of connections and of datagrams share."""

import pybpfasm as bpf
from programs.count import count
from programs.maps import IN_MESH, IS_HOST, Address, Count, PodInfo, cgroup_info_map, netns_info_map
from pybpfasm import SockAddr, be32, htonl, ntohl
from pybpfasm import helpers as h

# Whether calls go where they were meant to go while no ztunnel is known.
FAIL_OPEN = False

PASS = 1
REFUSE = 0

AF_INET = 2
AF_INET6 = 10
LOOPBACK_NET = 127
ANY = htonl(0)
V4_MAPPED = htonl(0xFFFF)  # the third word of ::ffff:a.b.c.d, behind two of zero


@bpf.inline
def caller_of(ctx: SockAddr) -> PodInfo | None:
    """Who is calling: an enrolled pod, or the host; None if it is somebody else.

    By network namespace, which is known as soon as a pod's sandbox is, else by cgroup.
    """
    caller = netns_info_map.lookup(h.get_netns_cookie(ctx))
    if caller is None:
        caller = cgroup_info_map.lookup(h.get_current_cgroup_id())
        if caller is None:
            return None
    if caller.flags & (IN_MESH | IS_HOST) == 0:
        return None
    return caller


@bpf.inline
def stays_in_pod(to: be32, pod: PodInfo) -> bool:
    """Whether an IPv4 destination is the pod itself; to connect to 0.0.0.0 is to connect to 127.0.0.1."""
    return ntohl(to) >> 24 == LOOPBACK_NET or to == pod.ip4 or to == ANY


@bpf.inline
def is_same(one: Address, other: Address) -> bool:
    """Whether two addresses are equal; they differ in their last words mostly."""
    return one.w3 == other.w3 and one.w2 == other.w2 and one.w1 == other.w1 and one.w0 == other.w0


@bpf.inline
def is_v4_mapped(address: Address) -> bool:
    """Whether it is ::ffff:a.b.c.d."""
    return address.w0 == ANY and address.w1 == ANY and address.w2 == V4_MAPPED


@bpf.inline
def stays_in_pod6(to: Address, pod: PodInfo) -> bool:
    """Whether an IPv6 destination is the pod itself; to connect to :: is to connect to ::1."""
    if to.w0 == ANY and to.w1 == ANY:
        return to.w2 == ANY and ntohl(to.w3) <= 1
    return is_same(to, pod.ip6)


@bpf.inline
def without_ztunnel() -> int:
    """What becomes of a call while no ztunnel is known."""
    if FAIL_OPEN:
        count(Count.PASSED_NO_ZTUNNEL)
        return PASS
    count(Count.REFUSED_NO_ZTUNNEL)
    return REFUSE


@bpf.inline
def set_ip4(address: Address, ip4: be32) -> None:
    """Make it ::ffff:a.b.c.d."""
    address.w0 = ANY
    address.w1 = ANY
    address.w2 = V4_MAPPED
    address.w3 = ip4
