"""The agent: one loop that compares what should be with what is in the kernel, and makes the difference so.

Events only wake it. It can be stopped at any instruction and started again: what matters is pinned.
"""

import gc
import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import FrameType

import attrs

from merbridge.annotate import Annotator, annotator_for, patches
from merbridge.config import Config, Reloading, split_endpoint
from merbridge.datapath.collection import DatapathSettings
from merbridge.datapath.datapath import Datapath
from merbridge.datapath.device_links import DeviceLinks
from merbridge.datapath.drift import Drift
from merbridge.datapath.pins import Pins, PinsLock
from merbridge.datapath.state import AgentRecord, SourceRecord, to_sentences, to_short_text, to_text
from merbridge.errors import MerbridgeError
from merbridge.model import DATAPLANE_MODE, EnrolmentPolicy, Snapshot
from merbridge.observe.logs import configure_log, logger
from merbridge.observe.metrics import Timing
from merbridge.reconcile.apply import Applier, recorded_memory, write_agent_record, write_source_records
from merbridge.reconcile.desired import Desired, Remembered, ZtunnelPlace, desired, memory
from merbridge.reconcile.inbound import Inbound
from merbridge.sources import Source, SourceState, choose_source
from merbridge.watchers import (
    CgroupWatcher,
    Netns,
    NodeObserver,
    ProcessEvents,
    host_cgroup_root,
    open_process_events,
)
from merbridge.watchers.cgroups import Cgroup
from merbridge.watchers.observe import NodeObservation
from merbridge.watchers.waiting import readable
from pybpfasm.errors import BpfError

# Events come in bursts: one look answers all that come within this time.
_SETTLE_SECONDS = 0.01

# A runtime puts a process into its cgroup before its network namespace: after an event, look once more.
_SECOND_LOOK_SECONDS = 0.1

# And look from time to time without any event: on hosts with cgroup v1 there are none. Where there is much to look at,
# less often, so that it takes a small part of a core, and a smaller one where the kernel tells of processes.
_RESCAN_SECONDS, _LONGEST_RESCAN_SECONDS = 1.0, 5.0
_LOOKING_SHARE, _LOOKING_SHARE_IF_TOLD = 0.008, 0.004

# Processes' events wake it so often that what comes of them takes a small part of a core, whoever brings them about.
_EVENTS_SHARE = 0.04


def run(load: Callable[[], Config]) -> None:
    """Run the agent until SIGTERM or SIGINT. Raises `MerbridgeError` if it cannot start.

    `load` gives the settings. Where they come from a file that changes, the agent goes on with what it says then; if it
    cannot, with what it said before. What the source knows stays.
    """
    with ExitStack() as stack:
        stop = stack.enter_context(_StopSignals())
        reloading = Reloading(load)
        config = reloading.config
        configure_log(config.log_level, config.log_format)
        # What is wrong with the source or the node is found before anything is touched.
        cgroup_root = config.cgroup_root or host_cgroup_root(config.proc)
        source = choose_source(config)
        annotator = annotator_for(source, config)
        if annotator is not None:
            stack.callback(annotator.join)
        stack.callback(source.close)
        source.start()
        if annotator is not None:
            stack.callback(annotator.stop)
            annotator.start()
        has_other = True
        while has_other:
            configure_log(reloading.config.log_level, reloading.config.log_format)
            try:
                has_other = _run(Agent(reloading.config, source, annotator, cgroup_root), reloading, stop)
            except MerbridgeError as error:
                if not reloading.fall_back(str(error)):
                    raise


def _run(agent: "Agent", reloading: Reloading, stop: "_StopSignals") -> bool:
    """Run it with the settings as they are now, until a signal comes; True if instead there are other settings."""
    config, source, cgroup_root = agent.config, agent.source, agent.cgroup_root
    pins = Pins(config.bpffs)
    with ExitStack() as stack:
        _serve(agent, pins, stack)
        agent.observe()
        if not _known(agent, stop):
            logger().info("stopped", datapath="left as it was")
            return False
        stack.callback(pins.tidy)
        pins.prepare(config.proc)
        lock = stack.enter_context(pins.locked())
        datapath = stack.enter_context(Datapath(pins, _datapath_settings(config)))
        datapath.load()
        watcher = CgroupWatcher(cgroup_root, filter(None, (source.watched_file, config.config)))
        stack.callback(watcher.close)
        agent.remembered = recorded_memory(datapath)
        agent.reconcile(datapath, agent.observe())
        datapath.attach(cgroup_root)
        if datapath.replaced:
            logger().info("maps_replaced", maps=datapath.replaced, why="they were of another shape or size")
        agent.inbound = _inbound(config, pins, datapath, stack, agent.host)
        agent.note_kept_settings(datapath.kept_size, reloading.problem)
        agent.capture()
        agent.annotate()
        # Only now, as the datapath does not wait for it: the first look of the loop is at all processes.
        events = agent.follow_processes(stack)
        agent.record(datapath)
        agent.is_ready = True
        # What is there now stays: the collector of cycles need not go through it each time, which takes 0.1 s.
        gc.unfreeze()
        gc.collect()
        gc.freeze()
        reloading.is_proven()
        logger().info("ready", node=config.node_name, cgroup_root=str(cgroup_root), bpffs=str(config.bpffs))
        has_other = _loop(agent, _Node(datapath, pins, config.proc, lock, watcher, events), reloading, stop)
    logger().info("reloading" if has_other else "stopped", datapath="left attached")
    return has_other


def _datapath_settings(config: Config) -> DatapathSettings:
    return DatapathSettings(
        out_port=config.out_port,
        in_port=config.in_port,
        hbone_port=config.hbone_port,
        dns_port=config.dns_port,
        capture_dns=config.dns_capture == "on",
        max_pods=config.max_pods,
        max_connections=config.max_connections,
        splice=config.splice,
        fail_open=config.fail_open == "yes",
    )


def _serve(agent: "Agent", pins: Pins, stack: ExitStack) -> None:
    """Answer by HTTP, if that is asked for."""
    if agent.config.listen == "none":
        return
    # Late: who does not ask for it need not import an HTTP server.
    from merbridge.observe.report import read_report
    from merbridge.observe.server import StatusServer

    server = StatusServer(*split_endpoint(agent.config.listen), agent, lambda: read_report(pins))
    stack.callback(server.close)
    logger().info("listening", port=server.port)


def _inbound(config: Config, pins: Pins, datapath: Datapath, stack: ExitStack, host: Netns) -> Inbound | None:
    """What captures connections from elsewhere, if that is asked for."""
    links = DeviceLinks(pins, datapath, config.proc)
    stack.callback(links.close)
    inbound = Inbound(datapath, links, config.proc)
    if config.inbound == "off":
        inbound.end(host)
        return None
    return inbound


def _known(agent: "Agent", stop: "_StopSignals") -> bool:
    """Wait until the source knows the node's pods; what is attached works on meanwhile. False if a signal came."""
    while not agent.ask_source():
        agent.last_look = time.monotonic()
        ready = readable([stop.fileno(), *agent.source.descriptors()], _RESCAN_SECONDS)
        if stop.fileno() in ready:
            return False
    return True


@attrs.frozen
class _Node:
    """What the loop works with on the node."""

    datapath: Datapath
    pins: Pins
    proc: Path
    lock: PinsLock
    watcher: CgroupWatcher
    events: ProcessEvents

    def mend(self) -> list[str]:
        """Put right what somebody has taken away, the bpf file system itself too; lines on what could not be done."""
        problems = []
        try:
            if not self.pins.are_whole():
                self.pins.prepare(self.proc)
            self.lock.renew()
        except (MerbridgeError, OSError) as error:
            problems.append(str(error))
        return [*problems, *self.datapath.mend()]


def _loop(agent: "Agent", node: _Node, reloading: Reloading, stop: "_StopSignals") -> bool:
    """Look again and again, until a signal comes; True if instead there are other settings."""
    watcher = node.watcher
    wait, deaf_until = _SECOND_LOOK_SECONDS, 0.0
    while not stop.received:
        waiting = [watcher.fileno(), stop.fileno(), *agent.source.descriptors()]
        ready = _ready(waiting, node.events.fileno(), deaf_until - time.monotonic(), wait)
        if stop.fileno() in ready:
            break
        woken = bool(ready)
        if not set(ready).isdisjoint(agent.source.descriptors()):
            agent.take_over(node)
        if woken:
            time.sleep(_SETTLE_SECONDS)
            watcher.read()
        if reloading.has_other():
            return True
        agent.note_kept_settings(node.datapath.kept_size, reloading.problem)
        try:
            new_directories = watcher.refresh()
        except (MerbridgeError, OSError) as error:
            # The looks go on, without events of what is new.
            new_directories = False
            agent.note_degraded_watching(str(error))
        else:
            agent.note_degraded_watching(watcher.degraded)
        took = agent.look(node)
        if node.events.fileno() in ready:
            deaf_until = time.monotonic() + took / _EVENTS_SHARE
            woken = len(ready) > 1 or node.events.needs_second_look
        wait = 0.0 if new_directories else _SECOND_LOOK_SECONDS if woken else agent.rescan_seconds
    return False


def _ready(waiting: list[int], events: int, deaf_seconds: float, wait: float) -> list[int]:
    """What comes within `wait` seconds; of `events` what comes after the first `deaf_seconds`, or is there then."""
    if deaf_seconds > 0:
        ready = readable(waiting, min(deaf_seconds, wait))
        if ready or wait <= deaf_seconds:
            return ready
        wait -= deaf_seconds
    return readable([*waiting, events], wait)


@attrs.define
class Agent:
    """What the loop knows from one look to the next."""

    config: Config
    source: Source
    annotator: Annotator | None
    cgroup_root: Path
    inbound: Inbound | None = None
    is_ready: bool = False
    last_look: float = attrs.field(factory=time.monotonic)
    rescan_seconds: float = _RESCAN_SECONDS
    reconciling: Timing = attrs.field(factory=Timing)
    drift: Drift = attrs.field(factory=Drift)
    host: Netns = attrs.field(factory=lambda: Netns(0, 0, frozenset()))
    snapshot: Snapshot = attrs.field(factory=lambda: Snapshot({}, ()))
    remembered: Remembered = attrs.field(factory=dict)
    _said: dict[str, str] = attrs.field(factory=dict)
    _last: Desired | None = None
    _in_map: frozenset[int] = frozenset()
    _inputs: tuple[Snapshot, NodeObservation, Remembered] | None = None
    _wanted: Desired | None = None
    _applier: Applier = attrs.field(factory=Applier)
    _events: ProcessEvents | None = None
    _observer: NodeObserver = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        """Nothing is read yet."""
        config = self.config
        self._observer = NodeObserver(config.proc, self.cgroup_root, config.exempt_cgroup, config.host_pid)

    def observe(self, cgroups: Sequence[Cgroup] | None = None) -> "Desired":
        """What should be, by the last good state of the source and a look at the node now.

        `cgroups` are those below the cgroup root, where they are known. It is the same object as the last time where
        nothing has changed.
        """
        return self._desired(self._observer.observe(cgroups))

    def take_over(self, node: _Node) -> None:
        """Have the maps follow what the source says now, by the node as it was seen last.

        A label so counts at once; a look comes right after, does what could not be done, and tells what is wrong.
        """
        before = self.snapshot
        if not self.ask_source() or self.snapshot is before or self._inputs is None:
            return
        with suppress(Exception):
            self.reconcile(node.datapath, self._desired(self._inputs[1]))

    def _desired(self, observation: NodeObservation) -> Desired:
        config = self.config
        self.host = observation.host
        inputs = (self.snapshot, observation, self.remembered)
        before = self._inputs
        is_known = before is not None and before[0] is inputs[0] and before[2] == inputs[2]
        if self._wanted is None or before is None or not is_known or not observation.is_same(before[1]):
            policy = EnrolmentPolicy(ztunnel_namespace=config.ztunnel_namespace, capture_dns=config.dns_capture == "on")
            self._wanted = desired(self.snapshot, observation, config.node_name, policy, self.remembered)
            self._inputs = inputs
        return self._wanted

    def follow_processes(self, stack: ExitStack) -> ProcessEvents:
        """Have it told by the kernel which processes come and go, as well as it can be."""
        events = open_process_events(self.config.proc, self.host.cookie)
        stack.callback(events.close)
        self._observer.follow(events, self.host)
        self._events = events
        logger().info("process_events", by=events.way, **({"why": events.why} if events.why else {}))
        return events

    def look(self, node: _Node) -> float:
        """Read the source if it changed, look at the node, make the maps true. Failures are told, and tried again.

        How many seconds it took.
        """
        datapath = node.datapath
        self.ask_source()
        self.last_look = start = time.monotonic()
        self._mend(node)
        try:
            self.reconcile(datapath, self.observe(node.watcher.cgroups))
        except (MerbridgeError, BpfError, OSError) as error:
            self._say("reconcile", " ".join(str(error).split()))
        except Exception as error:  # noqa: BLE001  # whatever a pod may have brought about, the others are to be followed
            text = " ".join(f"{type(error).__name__}: {error}".split())
            self._say("reconcile", f"{text}: this is a fault of merbridge, please report it")
        else:
            self._say("reconcile", "")
            self.annotate()
        self._say("process_events", self._observer.problem)
        self._tell_drift(datapath.drift)
        took = time.monotonic() - start
        self.reconciling.add(took)
        share = _LOOKING_SHARE if self._observer.scans else _LOOKING_SHARE_IF_TOLD
        self.rescan_seconds = min(max(_RESCAN_SECONDS, took / share), _LONGEST_RESCAN_SECONDS)
        self.record(datapath)
        return took

    def _mend(self, node: _Node) -> None:
        """Put right what was taken away by somebody, and tell what cannot be."""
        problems = node.mend()
        more = f"; and {len(problems) - 1} more" if len(problems) > 1 else ""
        self._say("mending", " ".join(f"{problems[0]}{more}".split()) if problems else "")

    def _tell_drift(self, drift: Drift) -> None:
        new = drift.since(self.drift)
        if new.any():
            logger().warning("drift_repaired", **attrs.asdict(new))
        self.drift = attrs.evolve(drift)

    def reconcile(self, datapath: Datapath, wanted: Desired) -> None:
        """Make the maps hold what is wanted, and tell what is new."""
        if wanted is not self._last:
            self.remembered = memory(wanted, self.remembered)
        changes = self._applier.apply(datapath, wanted, self.remembered)
        self._say("maps", "; ".join(changes.problems))
        self._in_map = changes.netns
        self._say("namespaces", _namespaces_missing(self.snapshot))
        self._tell_changes(wanted)
        self._last = wanted
        self.capture()

    def capture(self) -> None:
        """Make the devices' programs so, as the last reconciliation has it; what cannot be done is told."""
        if self.inbound is None or self._last is None:
            return
        try:
            problems = self.inbound.reconcile(self._last, self.host)
        except (MerbridgeError, BpfError) as error:
            problems = [f"what arrives for enrolled pods may not be captured: {error}"]
        self._say("inbound", "; ".join(problems))

    def annotate(self) -> None:
        """Have it told to Istio which pods are captured, as the last reconciliation left them."""
        if self.annotator is not None and self._last is not None:
            self.annotator.want(patches(self._last.pods, self.remembered, self._in_map))
            self._say("annotate", self.annotator.problem())

    def record(self, datapath: Datapath) -> None:
        """Keep for `status` what the agent says of itself, its problems too; a failure stays with the log."""
        if self._last is None:
            return
        try:
            write_agent_record(datapath, self._record(self._last))
            write_source_records(datapath, map(_source_record, self.source.states()))
        except BpfError as error:
            logger().error("record_failed", problem=str(error))

    def ask_source(self) -> bool:
        """Take over what the source knows now, and tell what is wrong with it; False as long as it knows nothing."""
        latest = self.source.latest()
        problems = list(dict.fromkeys(each.problem for each in self.source.states() if each.problem))
        suffix = "the last good state stays in force" if latest else "nothing changes on this node until it is known"
        self._say("source", "; ".join([*problems, suffix]) if problems else "")
        if latest is not None:
            self.snapshot = latest
        return latest is not None

    def note_degraded_watching(self, reason: str | None) -> None:
        """Keep in mind, and tell once, that events are missing."""
        self._say("watching", reason or "")

    def note_kept_settings(self, kept_size: str, refused: str) -> None:
        """Tell once of settings that do not count: `refused` is why the configuration file's do not."""
        self._say("configuration", "; ".join(filter(None, (kept_size, refused))))

    def _say(self, topic: str, problem: str) -> None:
        """Tell of a problem when it comes and when it goes, not each time it is met."""
        if self._said.get(topic, "") == problem:
            return
        self._said[topic] = problem
        if problem:
            logger().error(f"{topic}_failed", problem=problem)
        else:
            logger().info(f"{topic}_recovered")

    def _tell_changes(self, wanted: Desired) -> None:
        if wanted is self._last:
            return
        before = {each.pod.uid: each for each in self._last.pods} if self._last else {}
        for each in wanted.pods:
            known = before.get(each.pod.uid)
            if known is None or known.enrolment.in_mesh != each.enrolment.in_mesh:
                event = "pod_in_mesh" if each.enrolment.in_mesh else "pod_outside_mesh"
                logger().info(event, pod=each.pod.full_name, why=each.enrolment.reason)
        if self._last is None or wanted.ztunnel != self._last.ztunnel:
            if wanted.ztunnel is None:
                logger().warning("ztunnel_unknown", why=wanted.no_ztunnel)
            else:
                logger().info("ztunnel_known", pod=wanted.ztunnel.name, **_addresses(wanted.ztunnel))

    def _record(self, wanted: Desired) -> AgentRecord:
        return AgentRecord(
            out_port=self.config.out_port,
            pid=os.getpid(),
            capture_dns=self.config.dns_capture == "on",
            drifted_pins=self.drift.pins,
            drifted_programs=self.drift.programs,
            drifted_entries=self.drift.entries,
            process_events_lost=self._events.lost if self._events else 0,
            process_events=to_short_text(self._observer.way),
            node_name=to_text(self.config.node_name),
            cgroup_root=to_text(str(self.cgroup_root)),
            ztunnel=to_text(wanted.ztunnel.name if wanted.ztunnel else ""),
            no_ztunnel=to_text(wanted.no_ztunnel),
            # What is wrong with the source is in records of its own.
            problem=to_text("; ".join(said for topic, said in self._said.items() if said and topic != "source")),
        )


def _addresses(place: ZtunnelPlace) -> dict[str, str]:
    return {name: str(each) for name, each in (("ip", place.ip), ("ip6", place.ip6)) if each is not None}


def _source_record(state: SourceState) -> SourceRecord:
    return SourceRecord(
        heard=state.heard,
        synced=state.synced,
        reserved=0,
        version=to_short_text(state.version),
        name=to_text(state.name),
        problem=to_sentences(state.problem),
    )


def _namespaces_missing(snapshot: Snapshot) -> str:
    """A line on pods whose namespace the source lacks, and with it the label that may put them into the mesh."""
    lost = sorted(
        pod.full_name
        for pod in snapshot.pods
        if pod.namespace not in snapshot.namespaces and pod.labels.get(DATAPLANE_MODE) not in ("ambient", "none")
    )
    return (
        f"{len(lost)} pods are taken as outside the mesh, their namespaces are not in the source: {lost[0]}"
        if lost
        else ""
    )


class _StopSignals:
    """SIGTERM and SIGINT, as something that `select` can wait for."""

    def __init__(self) -> None:
        self.received = False
        self._event = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def __enter__(self) -> "_StopSignals":
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._receive)
        return self

    def __exit__(self, *exception: object) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        os.close(self._event)

    def fileno(self) -> int:
        """A descriptor that is readable once a signal has come."""
        return self._event

    def _receive(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self.received = True
        os.eventfd_write(self._event, 1)
