"""The difference between what is in the maps and what should be, made so: again and again the same way."""

import itertools
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import attrs

from merbridge.datapath import state
from merbridge.datapath.addresses import as_address, as_ip4
from merbridge.datapath.collection import share_of
from merbridge.datapath.datapath import Datapath, Written
from merbridge.reconcile.desired import Desired, KnownPod, Membership, Remembered
from programs.maps import (
    IN_MESH,
    ZTUNNEL,
    Address,
    MeshPod,
    PodInfo,
    Share,
    Ztunnel,
    cgroup_info_map,
    mesh_pods,
    netns_info_map,
    original_dst,
    settings,
    shares,
)
from pybpfasm import Struct
from pybpfasm.kernel import MapFullError
from pybpfasm.lang.maps import MapDeclaration

# So long a map whose bytes have not changed is believed to hold what was put there.
_TRUST_SECONDS = 30.0

K = TypeVar("K")
V = TypeVar("V", bound=Struct)


@attrs.define
class Changes:
    """What was done. `problems` are lines that `status` shows and the log tells: entries that found no room.

    `netns` are the cookies of the network namespaces that have an entry now.
    """

    written: int = 0
    removed: int = 0
    netns: frozenset[int] = frozenset()
    problems: list[str] = attrs.field(factory=list)


@attrs.frozen
class _Tables:
    """What the maps should hold, by map."""

    settings: Mapping[int, Ztunnel]
    netns: Mapping[int, PodInfo]
    cgroups: Mapping[int, PodInfo]
    inbound: Mapping[Address, MeshPod]
    records: Mapping[state.PodKey, state.PodRecord]


class Applier:
    """Makes the maps hold what is wanted; where that is the same as before, it is not worked out again."""

    def __init__(self) -> None:
        self._wanted: Desired | None = None
        self._remembered: Remembered = {}
        self._tables = _Tables({}, {}, {}, {}, {})

    def apply(self, datapath: Datapath, wanted: Desired, remembered: Remembered) -> Changes:
        """Make it so: ztunnel first, so that whoever is enrolled finds it."""
        if wanted is not self._wanted or remembered != self._remembered:
            before = self._tables
            self._tables = _Tables(
                settings=same(before.settings, _settings(wanted)),
                netns=same(before.netns, _pod_infos(wanted.netns)),
                cgroups=same(before.cgroups, _pod_infos(wanted.cgroups)),
                inbound=same(before.inbound, _inbound(wanted)),
                records=same(before.records, _records(wanted.pods, remembered)),
            )
            self._wanted, self._remembered = wanted, remembered
        tables = self._tables
        changes = Changes()
        make_equal(datapath, settings, tables.settings, changes, "")
        changes.netns = make_equal(datapath, netns_info_map, tables.netns, changes, "--max-pods")
        _mend_shares(datapath, wanted)
        make_equal(datapath, cgroup_info_map, tables.cgroups, changes, "--max-pods")
        make_equal(datapath, mesh_pods, tables.inbound, changes, "--max-pods")
        make_equal(datapath, state.pod_records, tables.records, changes, "--max-pods")
        return changes


def _mend_shares(datapath: Datapath, wanted: Desired) -> None:
    """Forget the shares of namespaces that are gone; count anew what a namespace has that may have no more.

    The programs count right. But who deletes an entry by hand leaves it counted.
    """
    known = datapath.map(shares)
    used = known.read_all()
    for cookie in used.keys() - wanted.netns.keys():
        known.delete(cookie)
    limit = share_of(datapath.map(original_dst).map.spec.max_entries)
    if any(share.used >= limit for share in used.values()):
        there = Counter(origin.netns_cookie for origin in datapath.map(original_dst).read_all().values())
        for cookie, share in used.items():
            if share.used >= limit > there[cookie]:
                known.set(cookie, Share(used=there[cookie]))


def write_agent_record(datapath: Datapath, record: state.AgentRecord) -> None:
    """Keep what the agent says of itself."""
    records = datapath.map(state.agent_record)
    if records.get(state.AGENT) != record:
        records.set(state.AGENT, record)


def write_source_records(datapath: Datapath, records: Iterable[state.SourceRecord]) -> None:
    """Keep how the source's parts are."""
    make_equal(datapath, state.source_records, dict(enumerate(records)), Changes(), "")


def same(before: Mapping[K, V], now: Mapping[K, V]) -> Mapping[K, V]:
    """What was before, if that is the same: what is one object need not be compared again."""
    return before if before == now else now


def make_equal(
    datapath: Datapath, declaration: MapDeclaration[K, V], wanted: Mapping[K, V], changes: Changes, setting: str
) -> frozenset[K]:
    """Make it so; the keys that have found a place.

    What is not as it was left here the last time was changed by somebody else, which counts as drift. Where the map's
    bytes are those of then, it is not read more closely; now and then it is all the same, for what was changed in the
    moment after it was left. Where the same object is wanted, too, there is nothing to do.
    """
    map_ = datapath.map(declaration)
    name, size = map_.map.spec.name, map_.map.spec.max_entries
    left = datapath.written.get(name)
    raw = tuple(map_.map.walk_packed())
    is_known = left is not None and left.raw == raw and time.monotonic() < left.read + _TRUST_SECONDS
    if left is None or not is_known or left.wanted is not wanted:
        # Where there is no room for all, the first of them get it, also from others that are there already.
        placed = dict(itertools.islice(wanted.items(), size))
        refused = set(itertools.islice(wanted, size, None))
        read = time.monotonic()
        if left is not None and is_known:
            current, read = left.placed, left.read
        else:
            current = map_.read_all()
            datapath.drift.entries += _differences(None if left is None else left.placed, current)
        # Should a write fail, nobody knows what is there: then it is no drift.
        datapath.written.pop(name, None)
        for key in current.keys() - placed.keys():
            changes.removed += map_.delete(key)
        for key, value in placed.items():
            if current.get(key) == value:
                continue
            try:
                map_.set(key, value)
            except MapFullError:
                refused.add(key)
            else:
                changes.written += 1
        left = Written(
            wanted=wanted,
            placed={key: value for key, value in placed.items() if key not in refused},
            raw=tuple(map_.map.walk_packed()),
            read=read,
            has_place=frozenset(wanted.keys() - refused),
        )
        datapath.written[name] = left
    more = len(wanted) - len(left.has_place)
    if more:
        changes.problems.append(f"map {name} is full ({size} entries), {more} more have no place: raise {setting}")
    return left.has_place


def _differences(left: Mapping[Any, Any] | None, found: Mapping[Any, Any]) -> int:
    """How many entries are not as they were left; none where nothing is known of that."""
    if left is None or left == found:
        return 0
    return sum(left.get(key) != found.get(key) for key in left.keys() | found.keys())


def _settings(wanted: Desired) -> dict[int, Ztunnel]:
    place = wanted.ztunnel
    if place is None:
        return {}
    return {ZTUNNEL: Ztunnel(netns_cookie=place.netns_cookie, ip4=as_ip4(place.ip), ip6=as_address(place.ip6))}


def _inbound(wanted: Desired) -> dict[Address, MeshPod]:
    addresses = sorted(wanted.inbound, key=lambda each: (each.version, each.packed))
    return {as_address(address): MeshPod(flags=IN_MESH) for address in addresses}


def _pod_infos(memberships: Mapping[int, Membership]) -> dict[int, PodInfo]:
    """Entries, those in the mesh first: if the map has no room for all, it is not they who are left out."""
    ordered = sorted(memberships.items(), key=_in_mesh_first)
    # A pod's cgroups share what is said of them.
    infos = {membership: _pod_info(membership) for membership in set(memberships.values())}
    return {key: infos[membership] for key, membership in ordered}


def _pod_info(membership: Membership) -> PodInfo:
    return PodInfo(flags=membership.flags, ip4=as_ip4(membership.ip), ip6=as_address(membership.ip6))


def _in_mesh_first(item: tuple[int, Membership]) -> bool:
    return not item[1].flags & IN_MESH


def recorded_memory(datapath: Datapath) -> Remembered:
    """What the last agent remembered of the pods."""
    records = datapath.map(state.pod_records).read_all()
    return {
        key.uid.decode(): frozenset({record.netns_cookie}) for key, record in records.items() if record.netns_cookie
    }


def _records(pods: Iterable[KnownPod], remembered: Remembered) -> dict[state.PodKey, state.PodRecord]:
    return {
        state.PodKey(uid=state.to_uid(each.pod.uid)): _record(each, remembered.get(each.pod.uid, frozenset()))
        for each in pods
    }


def _record(known: KnownPod, cookies: frozenset[int]) -> state.PodRecord:
    return state.PodRecord(
        netns_cookie=max(cookies, default=0),
        flags=known.membership.flags,
        ip4=as_ip4(known.membership.ip),
        ip6=as_address(known.membership.ip6),
        netns=len(known.presence.netns),
        cgroups=len(known.presence.cgroup_ids),
        namespace=state.to_short_text(known.pod.namespace),
        name=state.to_text(known.pod.name),
        reason=state.to_text(known.enrolment.reason),
    )
