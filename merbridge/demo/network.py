"""The network between pods: a bridge in a network namespace of its own, away from the machine's own network."""

import contextlib
import ipaddress
import itertools
import os
from collections.abc import Iterator
from typing import Any

from merbridge.demo.namespaces import in_namespace, new_namespace
from merbridge.errors import MerbridgeError

_IP6 = ipaddress.IPv6Network("fd00::/64")

# include/uapi/linux/if_addr.h: the address is there at once.
_IFA_F_NODAD = 2


class Network:
    """A bridge in a network namespace of its own, with an address that is the pods' default gateway.

    In a dual-stack network each IPv4 address has an IPv6 one beside it, see `ip6_of`.
    """

    def __init__(self, name: str, subnet: str, *, dual_stack: bool = False) -> None:
        """Create namespace and bridge; `subnet` as in 10.244.77.0/24."""
        self.name = name
        self.subnet = ipaddress.IPv4Network(subnet)
        self.dual_stack = dual_stack
        self.gateway = str(self.subnet[1])
        # From one end to the other, again and again: an address that was given up comes back late.
        self._next = itertools.cycle(str(address) for address in itertools.islice(self.subnet.hosts(), 1, None))
        self._used: set[str] = set()
        self._numbers = itertools.count()
        self.namespace_fd = new_namespace(ip6=dual_stack)
        try:
            in_namespace(self.namespace_fd, self._create_bridge)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let go of the namespace; the kernel removes it with the bridge when its last process has ended."""
        os.close(self.namespace_fd)

    def reserve(self, address: str | None) -> str:
        """The address asked for, or the next free one; raises ValueError when it is taken or not of this subnet."""
        chosen = address or self._next_free()
        if ipaddress.IPv4Address(chosen) not in self.subnet or chosen in self._used | {self.gateway}:
            raise ValueError(f"{chosen} is not a free address of network {self.name}, {self.subnet}")
        self._used.add(chosen)
        return chosen

    def _next_free(self) -> str:
        for _ in range(self.subnet.num_addresses):
            if (address := next(self._next)) not in self._used:
                return address
        raise ValueError(f"network {self.name}, {self.subnet}, has no free address left")

    def release(self, address: str) -> None:
        """Let another pod ask for this address."""
        self._used.discard(address)

    def ip6_of(self, address: str) -> str | None:
        """The IPv6 address beside one of the network's: fd00::a.b.c.d, written as IPv6 is; None without any."""
        return str(_IP6[int(ipaddress.IPv4Address(address))]) if self.dual_stack else None

    def attach(self, namespace_fd: int, address: str) -> str:
        """Give a pod's namespace an eth0 with this address, connected to the bridge; returns the bridge's port."""
        port = f"veth{next(self._numbers)}"
        in_namespace(self.namespace_fd, lambda: self._create_port(port, namespace_fd))
        in_namespace(namespace_fd, lambda: self._configure_pod(address))
        return port

    def detach(self, port: str) -> None:
        """Remove a port, and with it the eth0 at its other end."""
        in_namespace(self.namespace_fd, lambda: self._remove_port(port))

    def _create_bridge(self) -> None:
        with _netlink("create a bridge in a new network namespace (kernel module bridge)") as netlink:
            netlink.link("set", index=1, state="up")
            netlink.link("add", ifname="br0", kind="bridge")
            (bridge,) = netlink.link_lookup(ifname="br0")
            netlink.addr("add", index=bridge, address=self.gateway, prefixlen=self.subnet.prefixlen)
            self._add_ip6(netlink, bridge, self.gateway)
            netlink.link("set", index=bridge, state="up")

    def _create_port(self, port: str, namespace_fd: int) -> None:
        with _netlink("connect a pod to the bridge (kernel module veth)") as netlink:
            netlink.link("add", ifname=port, kind="veth", peer={"ifname": "eth0", "net_ns_fd": namespace_fd})
            (index,) = netlink.link_lookup(ifname=port)
            (bridge,) = netlink.link_lookup(ifname="br0")
            netlink.link("set", index=index, master=bridge, state="up")

    def _configure_pod(self, address: str) -> None:
        with _netlink("configure a pod's eth0") as netlink:
            (index,) = netlink.link_lookup(ifname="eth0")
            netlink.link("set", index=1, state="up")
            netlink.addr("add", index=index, address=address, prefixlen=self.subnet.prefixlen)
            self._add_ip6(netlink, index, address)
            netlink.link("set", index=index, state="up")
            netlink.route("add", dst="default", gateway=self.gateway)
            if self.dual_stack:
                netlink.route("add", dst="::/0", gateway=self.ip6_of(self.gateway))

    def _add_ip6(self, netlink: Any, index: int, address: str) -> None:
        ip6 = self.ip6_of(address)
        if ip6 is not None:
            netlink.addr("add", index=index, address=ip6, prefixlen=_IP6.prefixlen, flags=_IFA_F_NODAD)

    def _remove_port(self, port: str) -> None:
        with _netlink("remove a pod's port from the bridge") as netlink:
            for index in netlink.link_lookup(ifname=port):
                netlink.link("del", index=index)


@contextlib.contextmanager
def _netlink(attempted: str) -> Iterator[Any]:
    """An IPRoute of the calling thread's namespace; failures become one line that says what was attempted."""
    # Imported late: 0.2 s that a caller who makes no node should not pay.
    from pyroute2 import IPRoute
    from pyroute2.netlink.exceptions import NetlinkError

    try:
        with IPRoute() as netlink:
            yield netlink
    except NetlinkError as error:
        raise MerbridgeError(f"cannot {attempted}: {error}") from None
