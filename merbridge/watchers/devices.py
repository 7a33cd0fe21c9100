"""A pod's network device, as the host has it: where packets to the pod pass, and what they bear."""

import errno
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Any

import attrs

from merbridge.errors import MerbridgeError
from merbridge.watchers.netns import Netns, NetnsGoneError, held_netns, in_netns_of


@attrs.frozen
class Device:
    """Both ends of a pod's veth pair.

    `index` is the host's end's, in the host's network namespace, `inside` the pod's in its own; `netns_id` is what the
    host calls the pod's namespace. `mac` is the pod's, `gateway` the one that the pod sends to: None where that is as
    many as there are on a bridge.
    """

    index: int
    inside: int
    netns_id: int
    mac: bytes
    gateway: bytes | None


def find_devices(pods: Iterable[Netns], host: Netns, proc: Path) -> dict[int, Device]:
    """The devices by which pods have their addresses, by the cookies of their namespaces.

    One is left out that has none whose other end is the host's, or whose process has ended. Raises `NetnsGoneError`
    when the host's process has, `MerbridgeError` without the privilege.
    """
    return in_netns_of(host, proc, lambda: dict(_found(pods, proc)))


@contextmanager
def netlink(attempted: str) -> Iterator[Any]:
    """Requests to the calling thread's network namespace; failures become one line that says what was attempted."""
    # Late: 0.2 s that a command which needs none should not pay.
    from pyroute2 import IPRoute
    from pyroute2.netlink.exceptions import NetlinkError

    try:
        with IPRoute() as requests:
            yield requests
    except NetlinkError as error:
        raise MerbridgeError(f"cannot {attempted}: {error}") from None


@attrs.frozen
class _Veth:
    """One end of a pair; `netns_id` is what this end's namespace calls the other's, None for its own."""

    index: int
    peer: int
    mac: bytes
    netns_id: int | None
    on_bridge: bool


def _found(pods: Iterable[Netns], proc: Path) -> Iterator[tuple[int, Device]]:
    with netlink("look at the host's network devices") as requests:
        ends: dict[int, list[_Veth]] = defaultdict(list)
        for veth in filter(None, map(_veth, requests.get_links())):
            if veth.netns_id is not None:
                ends[veth.netns_id].append(veth)
        for pod in pods:
            with suppress(NetnsGoneError):
                device = _device(requests, pod, proc, ends)
                if device is not None:
                    yield pod.cookie, device


def _device(requests: Any, pod: Netns, proc: Path, ends: Mapping[int, list[_Veth]]) -> Device | None:
    with held_netns(pod.pid, proc) as descriptor:
        if os.fstat(descriptor).st_ino != pod.inode:
            raise NetnsGoneError(f"process {pod.pid} left its network namespace")
        netns_id = requests.get_netnsid(fd=descriptor)["nsid"]
    own = ends.get(netns_id, [])
    if len(own) > 1:
        having = in_netns_of(pod, proc, lambda: _indices(pod.addresses))
        own = [end for end in own if end.peer in having]
    for end in own:
        inside = _veth_at(requests, end.peer, netns_id)
        if inside is not None and inside.peer == end.index:
            return Device(end.index, inside.index, netns_id, inside.mac, None if end.on_bridge else end.mac)
    return None


def _veth_at(requests: Any, index: int, netns_id: int) -> _Veth | None:
    from pyroute2.netlink.exceptions import NetlinkError

    try:
        # IFLA_IF_NETNSID: asked of another namespace, from here.
        return next(filter(None, map(_veth, requests.link("get", index=index, if_netnsid=netns_id))), None)
    except NetlinkError as error:
        if error.code not in (errno.ENODEV, errno.EINVAL):  # the device is gone, or the namespace
            raise
        return None


def _veth(link: Any) -> _Veth | None:
    about = link.get_attr("IFLA_LINKINFO")
    peer = link.get_attr("IFLA_LINK")
    if about is None or about.get_attr("IFLA_INFO_KIND") != "veth" or not peer:
        return None
    mac = bytes.fromhex(link.get_attr("IFLA_ADDRESS").replace(":", ""))
    on_bridge = link.get_attr("IFLA_MASTER") is not None
    return _Veth(link["index"], peer, mac, link.get_attr("IFLA_LINK_NETNSID"), on_bridge)


def _indices(addresses: frozenset[IPv4Address | IPv6Address]) -> set[int]:
    """The calling thread's namespace's devices that have one of these addresses."""
    with netlink("look at a pod's network devices") as requests:
        return {each["index"] for each in requests.get_addr() if _address(each) in addresses}


def _address(message: Any) -> IPv4Address | IPv6Address | None:
    text = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
    return ip_address(text) if text else None
