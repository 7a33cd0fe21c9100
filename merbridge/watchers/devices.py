"""A pod's network device, as the host has it: where packets to the pod pass, and what they bear."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Any

import attrs

from merbridge.errors import MerbridgeError
from merbridge.watchers.netns import Netns, in_netns_of


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


def find_device(pod: Netns, host: Netns, proc: Path) -> Device | None:
    """The device by which a pod has its addresses; None if it is no veth whose other end is the host's.

    Raises `NetnsGoneError` when the pod ends meanwhile, `MerbridgeError` without the privilege.
    """
    inside = in_netns_of(pod, proc, lambda: _veths(pod.addresses))
    if not inside:
        return None
    return in_netns_of(host, proc, lambda: next(_matching(inside), None))


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
    index: int
    peer: int
    mac: bytes
    netns_id: int | None
    on_bridge: bool


def _veths(addresses: frozenset[IPv4Address | IPv6Address]) -> list[_Veth]:
    """The calling thread's namespace's devices that have one of these addresses."""
    with netlink("look at a pod's network devices") as requests:
        having = {each["index"] for each in requests.get_addr() if _address(each) in addresses}
        return [veth for link in requests.get_links() if (veth := _veth(link)) and veth.index in having]


def _address(message: Any) -> IPv4Address | IPv6Address | None:
    text = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
    return ip_address(text) if text else None


def _veth(link: Any) -> _Veth | None:
    about = link.get_attr("IFLA_LINKINFO")
    peer = link.get_attr("IFLA_LINK")
    if about is None or about.get_attr("IFLA_INFO_KIND") != "veth" or not peer:
        return None
    mac = bytes.fromhex(link.get_attr("IFLA_ADDRESS").replace(":", ""))
    on_bridge = link.get_attr("IFLA_MASTER") is not None
    return _Veth(link["index"], peer, mac, link.get_attr("IFLA_LINK_NETNSID"), on_bridge)


def _matching(inside: list[_Veth]) -> Iterator[Device]:
    """The pairs of those veths and the calling thread's namespace's ends."""
    with netlink("look at the host's network devices") as requests:
        for own in inside:
            host = _veth_at(requests, own.peer)
            if host is None or host.peer != own.index or host.netns_id is None:
                continue
            yield Device(host.index, own.index, host.netns_id, own.mac, None if host.on_bridge else host.mac)


def _veth_at(requests: Any, index: int) -> _Veth | None:
    from pyroute2.netlink.exceptions import NetlinkError

    try:
        return next(filter(None, map(_veth, requests.get_links(index))), None)
    except NetlinkError as error:
        if error.code != errno.ENODEV:
            raise
        return None
