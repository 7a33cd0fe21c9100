"""What `status` reports, read from the pins alone: whether or not an agent runs."""

import errno
import time
from collections.abc import Iterator, Set
from pathlib import Path
from typing import Any

import attrs

import programs.maps as layouts
from merbridge.datapath import state
from merbridge.datapath.addresses import as_address, from_ip4, from_ip6
from merbridge.datapath.collection import DNS_HOOKS
from merbridge.datapath.drift import Drift
from merbridge.datapath.hooks import ATTACH_ORDER
from merbridge.datapath.pins import Pins
from merbridge.errors import MerbridgeError
from pybpfasm.errors import BpfError, KernelError
from pybpfasm.kernel import Descriptor, Link, Map, TypedMap, open_pin, program_info
from pybpfasm.lang.maps import MapDeclaration


@attrs.frozen
class HookReport:
    """A program's attachment. `target` is a cgroup's or a map's id."""

    name: str
    attached: bool
    link_id: int | None
    program_id: int | None
    target: int | None


@attrs.frozen
class PodReport:
    """A pod of this node, and why it is in the mesh or not; `inbound` if what arrives for it is captured.

    `cgroups` and `network_namespaces` count what was found of it on the node; `netns_cookie` is that of one of the
    latter, None if none was ever seen.
    """

    namespace: str
    name: str
    ip: str | None
    ip6: str | None
    in_mesh: bool
    known_to_datapath: bool
    inbound: bool
    reason: str
    uid: str
    captures_dns: bool
    cgroups: int
    network_namespaces: int
    netns_cookie: int | None


@attrs.frozen
class SourceReport:
    """How well a part of the agent's source is known. `heard_seconds_ago` is None where it was never known."""

    name: str
    synced: bool
    version: str
    heard_seconds_ago: int | None
    problem: str


@attrs.frozen
class MapReport:
    """How full a map is."""

    name: str
    id: int
    entries: int
    max_entries: int


@attrs.frozen
class Report:
    """The whole. `problems` is empty on a healthy node; each is a line that says what is wrong.

    `drift` is what the agent has put right since its start, see `merbridge.datapath.drift`. `process_events` is the way
    by which it is told of processes, and `process_events_lost` how often since its start it was not.
    """

    agent_running: bool
    node_name: str
    cgroup_root: str
    out_port: int | None
    ztunnel: str | None
    ztunnel_ip: str | None
    ztunnel_ip6: str | None
    hooks: list[HookReport]
    sources: list[SourceReport]
    pods: list[PodReport]
    counters: dict[str, int]
    maps: list[MapReport]
    drift: dict[str, int]
    process_events: str
    process_events_lost: int
    problems: list[str]


def read_report(pins: Pins) -> Report:
    """Read it. Raises `MerbridgeError` where it cannot be told."""
    if not pins.exist():
        raise pins.nothing()
    try:
        with _PinnedMaps(pins) as maps:
            return _report(pins, maps)
    except KernelError as error:
        raise MerbridgeError(str(error)) from None


class _PinnedMaps:
    """The pinned maps, as far as they are there."""

    def __init__(self, pins: Pins) -> None:
        self._folder = pins.maps
        self._open: dict[str, Map] = {}
        self.broken: list[str] = []

    def __enter__(self) -> "_PinnedMaps":
        return self

    def __exit__(self, *exception: object) -> None:
        for map_ in self._open.values():
            map_.close()

    def entries(self, declaration: MapDeclaration[Any, Any], name: str) -> TypedMap[Any, Any] | None:
        """A map by its declaration; None, and a line in `broken`, if it is not there or of another shape."""
        path = self._folder / name
        try:
            if name not in self._open:
                # Sizes are the agent's settings, which the pins alone tell.
                self._open[name] = Map.open_any_size(path, declaration.spec(name))
        except BpfError as error:
            _raise_without_privilege(error)
            self.broken.append(str(error))
            return None
        return TypedMap(declaration, self._open[name])

    def fill(self) -> list[MapReport]:
        """How full the maps are that have been opened."""
        return [_fill(name, map_) for name, map_ in self._open.items() if map_.spec.name not in ("counters", "source")]


def _fill(name: str, map_: Map) -> MapReport:
    info = map_.info()
    entries = sum(1 for _ in map_.keys())  # noqa: SIM118 - a map is no dict
    return MapReport(name, info.id, entries, info.max_entries)


def _report(pins: Pins, maps: _PinnedMaps) -> Report:
    agent = _agent(maps)
    without_dns = agent is not None and not agent.capture_dns
    hooks = [_hook(pins, name) for name in ATTACH_ORDER if not (without_dns and name in DNS_HOOKS)]
    settings = maps.entries(layouts.settings, "settings")
    ztunnel = None if settings is None else settings.get(layouts.ZTUNNEL)
    ztunnel_ip, ztunnel_ip6 = (from_ip4(ztunnel.ip4), from_ip6(ztunnel.ip6)) if ztunnel else (None, None)
    counters = _counters(maps)
    maps.entries(layouts.netns_info_map, "netns_info_map")
    maps.entries(layouts.cgroup_info_map, "cgroup_info_map")
    maps.entries(layouts.original_dst, "original_dst")
    running = pins.in_use()
    report = Report(
        agent_running=running,
        node_name=agent.node_name.decode() if agent else "",
        cgroup_root=agent.cgroup_root.decode() if agent else "",
        out_port=agent.out_port if agent else None,
        ztunnel=agent.ztunnel.decode() if agent and ztunnel else None,
        ztunnel_ip=_text(ztunnel_ip),
        ztunnel_ip6=_text(ztunnel_ip6),
        hooks=hooks,
        sources=_sources(maps),
        pods=_pods(maps),
        counters=counters,
        maps=maps.fill(),
        drift=_drift(agent),
        process_events=agent.process_events.decode() if agent else "",
        process_events_lost=agent.process_events_lost if agent else 0,
        problems=[],
    )
    return attrs.evolve(report, problems=[*maps.broken, *_problems(report, agent, settings_known=settings is not None)])


def _agent(maps: _PinnedMaps) -> state.AgentRecord | None:
    records = maps.entries(state.agent_record, "agent")
    return records.get(state.AGENT) if records else None


def _drift(agent: state.AgentRecord | None) -> dict[str, int]:
    drift = Drift(agent.drifted_pins, agent.drifted_programs, agent.drifted_entries) if agent else Drift()
    return attrs.asdict(drift)


def _hook(pins: Pins, name: str) -> HookReport:
    try:
        with Link.open(pins.links / name) as link:
            info = link.info()
    except KernelError as error:
        _raise_without_privilege(error)
        return _hook_without_link(pins.programs / name, name)
    return HookReport(name, info.target != 0, info.id, info.program_id, info.target)


def _hook_without_link(path: Path, name: str) -> HookReport:
    """A program that the kernel attaches to a map without a link: it is attached as long as the map lives."""
    try:
        with Descriptor(open_pin(path)) as pinned:
            return HookReport(name, True, None, program_info(pinned.fd).id, None)
    except KernelError as error:
        _raise_without_privilege(error)
        return HookReport(name, False, None, None, None)


def _raise_without_privilege(error: BpfError) -> None:
    """What may not be looked at is not missing: then nothing can be told."""
    if isinstance(error, KernelError) and error.errno == errno.EPERM:
        raise error


def _sources(maps: _PinnedMaps) -> list[SourceReport]:
    records = maps.entries(state.source_records, "source")
    return [_source(record) for _, record in sorted(records.items())] if records else []


def _source(record: state.SourceRecord) -> SourceReport:
    return SourceReport(
        name=record.name.decode(),
        synced=bool(record.synced),
        version=record.version.decode(),
        heard_seconds_ago=max(0, int(time.time()) - record.heard) if record.heard else None,
        problem=record.problem.decode(),
    )


def _pods(maps: _PinnedMaps) -> list[PodReport]:
    records = maps.entries(state.pod_records, "pods")
    places = maps.entries(layouts.places, "places")
    captured = {key for key, place in places.items() if place.flags & layouts.IN_MESH} if places else set()
    pods = [_pod(key, record, captured) for key, record in records.items()] if records else []
    return sorted(pods, key=lambda pod: (pod.namespace, pod.name))


def _pod(key: state.PodKey, record: state.PodRecord, captured: Set[layouts.Address]) -> PodReport:
    addresses = (from_ip4(record.ip4), from_ip6(record.ip6))
    return PodReport(
        namespace=record.namespace.decode(),
        name=record.name.decode(),
        ip=_text(from_ip4(record.ip4)),
        ip6=_text(from_ip6(record.ip6)),
        in_mesh=bool(record.flags & layouts.IN_MESH),
        known_to_datapath=record.netns + record.cgroups > 0,
        inbound=any(as_address(each) in captured for each in addresses if each is not None),
        reason=record.reason.decode(),
        uid=key.uid.decode(),
        captures_dns=bool(record.flags & layouts.DNS),
        cgroups=record.cgroups,
        network_namespaces=record.netns,
        netns_cookie=record.netns_cookie or None,
    )


def _counters(maps: _PinnedMaps) -> dict[str, int]:
    counters = maps.entries(layouts.counters, "counters")
    if counters is None:
        return {}
    return {which.name.lower(): sum(each.count for each in counters.per_cpu(which)) for which in layouts.Count}


def _problems(report: Report, agent: state.AgentRecord | None, *, settings_known: bool) -> Iterator[str]:
    for hook in report.hooks:
        if not hook.attached:
            yield f"program {hook.name} is not attached: start the agent"
    if not report.agent_running:
        yield "no agent runs: the datapath works with what it knew last"
    if settings_known and report.ztunnel_ip is None and report.ztunnel_ip6 is None:
        why = agent.no_ztunnel.decode() if agent and agent.no_ztunnel else "the agent has not said why"
        refused = report.counters.get("refused_no_ztunnel", 0)
        yield f"no ztunnel is known, connections of enrolled pods are refused ({refused} so far): {why}"
    yield from _of_another_family(report)
    for problem in dict.fromkeys(source.problem for source in report.sources if source.problem):
        yield f"{problem}; the last good state stays in force"
    if agent and agent.problem:
        yield agent.problem.decode()
    if report.counters.get("share_used_up"):
        yield (
            f"{report.counters['share_used_up']} connections came to ztunnel without their destination: a pod has "
            "a quarter of --max-connections in set-up, look for one that connects without end, or raise it"
        )
    if report.counters.get("original_dst_full"):
        yield f"map original_dst was full {report.counters['original_dst_full']} times: raise --max-connections"


def _of_another_family(report: Report) -> Iterator[str]:
    """Pods that have addresses of a family that ztunnel has none of."""
    enrolled = [pod for pod in report.pods if pod.in_mesh]
    families = (
        ("IPv4", report.ztunnel_ip, report.ztunnel_ip6, sum(pod.ip is not None for pod in enrolled)),
        ("IPv6", report.ztunnel_ip6, report.ztunnel_ip, sum(pod.ip6 is not None for pod in enrolled)),
    )
    for family, own, other, pods in families:
        if own is None and other is not None and pods:
            yield f"ztunnel has no {family} address, {pods} enrolled pods have: their {family} connections are refused"


def _text(address: object | None) -> str | None:
    return None if address is None else str(address)
