"""In ztunnel's network namespace: a packet with `ROUTE_MARK` is for ztunnel, whatever address it bears.

A rule for the mark, and a table in which every address is local. All else is routed as before; above all, nobody is
answered by ARP for another's address.
"""

import errno
import socket
from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from merbridge.errors import MerbridgeError
from merbridge.watchers.devices import netlink
from merbridge.watchers.netns import NetnsGoneError, in_netns_of, read_netns
from merbridge.watchers.processes import NetnsId, netns_id
from programs.inbound import ROUTE_MARK

# The number of the table, and the rule's priority: before the main table's, behind that of local addresses.
TABLE = 15006

_FAMILIES = {4: (socket.AF_INET, "0.0.0.0/0"), 6: (socket.AF_INET6, "::/0")}
_LOOPBACK = 1
_RTN_LOCAL, _RT_SCOPE_HOST = 2, 254


def route_to_self(versions: Iterable[int]) -> None:
    """Make it so in the calling thread's namespace, for packets of these IP versions. Raises `MerbridgeError`."""
    with netlink("route what arrives for pods to ztunnel") as requests:
        for version in versions:
            family, everything = _FAMILIES[version]
            place = {"table": TABLE, "family": family}
            _unless_there(
                requests.route, "add", dst=everything, oif=_LOOPBACK, type=_RTN_LOCAL, scope=_RT_SCOPE_HOST, **place
            )
            _unless_there(requests.rule, "add", priority=TABLE, fwmark=ROUTE_MARK, **place)


def forget_routes_of(cookies: Collection[int], proc: Path) -> int:
    """Take rules and tables away from the namespaces with these cookies that processes are in; from how many."""
    seen: set[NetnsId] = set()
    changed = 0
    for pid in sorted(int(entry.name) for entry in proc.iterdir() if entry.name.isdecimal()) if cookies else ():
        # A process that may not be looked at, or has ended, is no ztunnel's of ours.
        with suppress(MerbridgeError, NetnsGoneError):
            identity = netns_id(pid, proc)
            if identity is None or identity in seen:
                continue
            seen.add(identity)
            netns = read_netns(pid, proc)
            changed += netns.cookie in cookies and in_netns_of(netns, proc, forget_routes)
    return changed


def forget_routes() -> bool:
    """Take rules and tables away from the calling thread's namespace; whether there were any."""
    found = False
    with netlink("remove routes of ztunnel's") as requests:
        for family, _ in _FAMILIES.values():
            for rule in requests.get_rules(family=family):
                if rule.get_attr("FRA_TABLE") == TABLE and rule.get_attr("FRA_PRIORITY") == TABLE:
                    found = True
                    requests.rule("del", priority=TABLE, table=TABLE, family=family)
                    requests.flush_routes(table=TABLE, family=family)
    return found


def _unless_there(request: Any, command: str, **arguments: Any) -> None:
    from pyroute2.netlink.exceptions import NetlinkError

    try:
        request(command, **arguments)
    except NetlinkError as error:
        if error.code != errno.EEXIST:
            raise
