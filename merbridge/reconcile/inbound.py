"""What arrives for enrolled pods: whose device is where, and programs at the devices, made so again and again."""

import time
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from pathlib import Path

import attrs

from merbridge.datapath.addresses import as_address
from merbridge.datapath.datapath import Datapath
from merbridge.datapath.device_links import DeviceLinks, Spot
from merbridge.datapath.routes import forget_routes_of, route_to_self
from merbridge.errors import MerbridgeError
from merbridge.model import IpAddress
from merbridge.reconcile.apply import Changes, make_equal, same
from merbridge.reconcile.desired import Desired, Interior
from merbridge.watchers import Netns
from merbridge.watchers.devices import Device, find_devices
from merbridge.watchers.netns import NetnsGoneError, in_netns_of
from programs.maps import (
    BEFORE,
    IN_MESH,
    IS_HOST,
    IS_ZTUNNEL,
    KEEP_GATEWAY,
    MAY_CALL,
    SERVING,
    Address,
    Place,
    places,
    ztunnels,
)
from pybpfasm.errors import BpfError

# A device that was not found is looked for again after the first time, twice as long each time up to the second.
_FIRST_WAIT, _LONGEST_WAIT = 0.2, 60.0

# Somebody may take ztunnel's rule and table away.
_LOOK_AT_ROUTES_SECONDS = 10.0

_Places = dict[Address, Place]

_CALLER = Place(netns_cookie=0, flags=MAY_CALL, ifindex=0, netns_id=0, mac=bytes(6), gateway=bytes(6))
_HOST = Place(netns_cookie=0, flags=IS_HOST, ifindex=0, netns_id=0, mac=bytes(6), gateway=bytes(6))


@attrs.define
class _Sought:
    """A pod's device, as far as it is known; `next_look` is by the monotonic clock."""

    device: Device | None = None
    wait: float = _FIRST_WAIT
    next_look: float = 0.0


@attrs.define
class _Look:
    """What one reconciliation gathers: `kept` are the names of what is to stay attached.

    `callers` are the addresses of enrolled pods.
    """

    host: Netns
    callers: frozenset[IpAddress]
    kept: set[str] = attrs.field(factory=set)
    problems: list[str] = attrs.field(factory=list)
    changes: Changes = attrs.field(factory=Changes)


class Inbound:
    """Captures what arrives for enrolled pods. It knows the devices from one look to the next."""

    def __init__(self, datapath: Datapath, links: DeviceLinks, proc: Path) -> None:
        self._datapath = datapath
        self._links = links
        self._proc = proc
        self._sought: dict[int, _Sought] = {}
        self._routed: dict[int, float] = {}  # when to look again
        self._ranked: Mapping[int, Place] = {}
        self._placed: Mapping[Address, Place] = {}
        self._settled: tuple[Desired, Netns, list[Interior]] | None = None

    def end(self, host: Netns) -> None:
        """Capture nothing any more, and leave nothing behind of what did."""
        known = self._datapath.map(places).read_all().values()
        self._links.drop_all(host)
        make_equal(self._datapath, places, {}, Changes(), "")
        make_equal(self._datapath, ztunnels, {}, Changes(), "")
        forget_routes_of({place.netns_cookie for place in known if place.flags & IS_ZTUNNEL}, self._proc)

    def reconcile(self, wanted: Desired, host: Netns) -> list[str]:
        """Make it so; lines on what could not be done.

        Ztunnel's side comes first, so that whoever is sent there is expected.
        """
        if self._settled is not None and self._settled[0] is wanted and self._settled[1] == host:
            look = _Look(host, wanted.callers)
            if self._is_as_it_was(wanted, self._settled[2], look):
                return look.changes.problems
        self._settled = None
        look = _Look(host, wanted.callers)
        written = self._datapath.written.get("places")
        known = self._datapath.map(places).read_all() if written is None else written.placed
        known = {key: place for key, place in known.items() if place.ifindex}
        # A pod that was captured and is not any more keeps its program: it may have connections by way of ztunnel.
        pods = [
            each for each in wanted.interiors if each.captured or not known.keys().isdisjoint(_keys(each.addresses))
        ]
        self._look_for((*pods, *wanted.ztunnels), host)
        ready = [each for each in wanted.ztunnels if self._device(each) is not None]
        if written is None:
            # No program of this agent's may meet a map that is empty, or as another version has left it.
            found = [each for each in pods if self._device(each) is not None or each.netns is None]
            make_equal(self._datapath, places, self._places(found, ready, known, look), look.changes, "--max-pods")
        for ztunnel in wanted.ztunnels:
            self._prepare(ztunnel, look)
        self._ranked = same(self._ranked, self._ranks(ready, wanted))
        make_equal(self._datapath, ztunnels, self._ranked, look.changes, "")
        # Whoever has an entry is captured: `status` goes by that.
        wanted_pods = len(pods)
        pods = [each for each in pods if self._attach(each, ("from_pod", "to_pod"), look)]
        self._placed = same(self._placed, self._places(pods, ready, known, look))
        make_equal(self._datapath, places, self._placed, look.changes, "--max-pods")
        self._links.drop_all_but(look.kept)
        self._forget_all_but({each.cookie for each in (*wanted.interiors, *wanted.ztunnels)})
        if not look.problems and len(pods) == wanted_pods:
            self._settled = (wanted, host, pods)
        return [*dict.fromkeys(look.problems), *look.changes.problems]

    def _is_as_it_was(self, wanted: Desired, pods: Iterable[Interior], look: _Look) -> bool:
        """Whether all is attached and in the maps as the last time, where the same was wanted."""
        for ztunnel in wanted.ztunnels:
            self._prepare(ztunnel, look)
        make_equal(self._datapath, ztunnels, self._ranked, look.changes, "")
        attached = [self._attach(each, ("from_pod", "to_pod"), look) for each in pods]
        make_equal(self._datapath, places, self._placed, look.changes, "--max-pods")
        return all(attached) and not look.problems

    def _look_for(self, pods: Iterable[Interior], host: Netns) -> None:
        """Look for the devices that are not known, unless it was tried a moment ago."""
        now = time.monotonic()
        wanted: list[Netns] = []
        for pod in pods:
            sought = self._sought.setdefault(pod.cookie, _Sought())
            if sought.device is None and pod.netns is not None and now >= sought.next_look:
                sought.next_look, sought.wait = now + sought.wait, min(sought.wait * 2, _LONGEST_WAIT)
                wanted.append(pod.netns)
        if not wanted:
            return
        with suppress(NetnsGoneError):  # the process that stands for the host: whoever looks at the node tells
            for cookie, device in find_devices(wanted, host, self._proc).items():
                self._sought[cookie].device = device

    def _device(self, pod: Interior) -> Device | None:
        sought = self._sought.get(pod.cookie)
        return None if sought is None else sought.device

    def _prepare(self, ztunnel: Interior, look: _Look) -> None:
        """Have a ztunnel take what is sent to it."""
        netns = ztunnel.netns
        if netns is None or self._device(ztunnel) is None:
            look.problems.append(f"what arrives for enrolled pods is not captured: {_no_device(ztunnel)}")
            return
        try:
            if time.monotonic() >= self._routed.get(ztunnel.cookie, 0.0):
                versions = {address.version for address in ztunnel.addresses}
                in_netns_of(netns, self._proc, lambda: route_to_self(versions))
                self._routed[ztunnel.cookie] = time.monotonic() + _LOOK_AT_ROUTES_SECONDS
        except NetnsGoneError:
            pass  # its process has ended; what is attached stays, and another process is found by the next look
        except MerbridgeError as error:
            look.problems.append(f"{ztunnel.name}: {error}")
        self._attach(ztunnel, ("at_ztunnel", "from_ztunnel", "to_ztunnel"), look)

    def _attach(self, pod: Interior, programs: Collection[str], look: _Look) -> bool:
        """Attach programs at a pod's device; whether all of them are."""
        device = self._device(pod)
        if pod.netns is None:
            # Nothing of it can be looked at, but it may live on: what is attached stays.
            look.kept |= {f"{program}-{pod.cookie:x}" for program in programs}
            return True
        if device is None:
            look.problems.append(f"what arrives for {pod.name} is not captured: {_no_device(pod)}")
            return False
        for program in programs:
            inside = program == "at_ztunnel"
            index, netns = (device.inside, pod.netns) if inside else (device.index, look.host)
            spot = Spot(program, pod.cookie, index, netns)
            try:
                self._links.ensure(spot)
            except NetnsGoneError:
                return False
            except (BpfError, MerbridgeError) as error:
                self._sought.pop(pod.cookie, None)  # it may be another device by now
                look.problems.append(f"what arrives for {pod.name} is not captured: {error}")
                return False
            look.kept.add(spot.name)
        return True

    def _places(
        self, pods: list[Interior], ztunnels: list[Interior], known: Mapping[Address, Place], look: _Look
    ) -> _Places:
        """Whose the addresses are; where there is no room for all, ztunnel's and pods' come first."""
        given: _Places = {}
        for pod in pods:
            flags = (IN_MESH if pod.captured else 0) | (MAY_CALL if pod.enrolled else 0)
            device = self._device(pod)
            if device is not None:
                given |= dict.fromkeys(_keys(pod.addresses), _place(pod, device, flags))
            elif pod.netns is None:
                given |= {key: known[key] for key in _keys(pod.addresses) if key in known}
        first: _Places = {}
        for ztunnel in ztunnels:
            device = self._device(ztunnel)
            if device is not None:
                first |= dict.fromkeys(_keys(ztunnel.addresses), _place(ztunnel, device, IS_ZTUNNEL))
        # Who has no device that is known, or is not captured, is sent to ztunnel all the same.
        callers = dict.fromkeys(_keys(look.callers), _CALLER)
        host = dict.fromkeys(_keys(look.host.addresses), _HOST)
        return first | callers | given | first | host

    def _ranks(self, ready: list[Interior], wanted: Desired) -> dict[int, Place]:
        """The ztunnel that serves, and one of those that may have connections from before."""
        serving = wanted.ztunnel.netns_cookie if wanted.ztunnel else None
        ranks: dict[int, Place] = {}
        for each in ready:
            device = self._device(each)
            if device is not None:
                ranks.setdefault(SERVING if each.cookie == serving else BEFORE, _place(each, device, IS_ZTUNNEL))
        return ranks

    def _forget_all_but(self, cookies: set[int]) -> None:
        self._sought = {cookie: sought for cookie, sought in self._sought.items() if cookie in cookies}
        self._routed = {cookie: when for cookie, when in self._routed.items() if cookie in cookies}


def _keys(addresses: Iterable[IpAddress]) -> list[Address]:
    return [as_address(address) for address in addresses]


def _place(pod: Interior, device: Device, flags: int) -> Place:
    if device.gateway is None:
        flags |= KEEP_GATEWAY
    return Place(
        netns_cookie=pod.cookie,
        flags=flags,
        ifindex=device.index,
        netns_id=device.netns_id,
        mac=device.mac,
        gateway=device.gateway or bytes(6),
    )


def _no_device(pod: Interior) -> str:
    return f"{pod.name} has its addresses by no veth device of the host"
