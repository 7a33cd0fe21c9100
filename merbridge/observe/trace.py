"""Live redirects: what becomes of each connection of enrolled pods, and of those to them.

The hooks are `programs.trace`'s. They are attached behind the datapath's as long as a `Tracer` is open, by links that
end with the process; who does not look pays nothing.
"""

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any, Self

import attrs

import programs.maps as layouts
from merbridge.datapath import state
from merbridge.datapath.addresses import from_ip4, from_ip6
from merbridge.datapath.collection import TARGET
from merbridge.datapath.pins import Pins
from merbridge.errors import MerbridgeError
from programs.maps import IS_HOST
from programs.trace import Event, Verdict, trace4, trace6, trace_events, trace_lost, trace_sockops
from pybpfasm import ntohs
from pybpfasm.compiler import compile_collection
from pybpfasm.errors import BpfError
from pybpfasm.kernel import Link, Map, Program, RingBuffer, TypedMap, VerifierError, attach_cgroup, named_target
from pybpfasm.kernel.links import query_cgroup
from pybpfasm.lang.maps import MapDeclaration
from pybpfasm.spec import CollectionSpec
from pybpfasm.uapi import AttachType

# The kernel that has what a refusal is seen by.
_REFUSALS_SINCE = "6.1"

_SHARED: Mapping[str, MapDeclaration[Any, Any]] = {
    "netns_info_map": layouts.netns_info_map,
    "cgroup_info_map": layouts.cgroup_info_map,
    "pending": layouts.pending,
    "socket_state": layouts.socket_state,
    "settings": layouts.settings,
}
_OWN: Mapping[str, MapDeclaration[Any, Any]] = {"trace_events": trace_events, "trace_lost": trace_lost}


# Each program, and the one of the datapath's behind which it runs.
_BEHIND = {"trace4": "connect4", "trace6": "connect6", "trace_sockops": "sockops"}

# So often names are looked for that are not known.
_NAMES_SECONDS = 1.0


@attrs.frozen
class Traced:
    """A connection. `at` is in seconds since 1970; `pod` as NAMESPACE/NAME, "host", or "" where it is not known.

    `verdict` is redirected, refused, left alone (the pod itself was dialled), or arrived: at ztunnel, by the network.
    `source` and `instead` are "" where they are not known, or there is none; ends are ADDRESS:PORT.
    """

    at: float
    verdict: str
    pod: str
    pid: int | None
    command: str
    source: str
    dialled: str
    instead: str


class Tracer:
    """Shows connections as they are made; a context manager. Raises `MerbridgeError` where that cannot be."""

    def __init__(self, pins: Pins) -> None:
        self._pins = pins
        self._held = ExitStack()
        self._lost_before = 0
        self._names: dict[int, str] = {}
        self._by_address: dict[str, str] = {}
        self._names_read = -_NAMES_SECONDS
        self._placed: dict[AttachType, tuple[int, str]] = {}
        # CLOCK_MONOTONIC to CLOCK_REALTIME.
        self._offset = time.time() - time.monotonic()

    def __enter__(self) -> Self:
        """Attach."""
        with ExitStack() as undo:
            undo.callback(self._held.close)
            try:
                self._start()
            except BpfError as error:
                raise MerbridgeError(" ".join(str(error).split())) from None
            undo.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        """Detach; nothing of it is left."""
        self._held.close()

    @property
    def lost(self) -> int:
        """How many connections were not shown, as they came faster than they were read."""
        return self._lost_before + self._ring.lost

    def keep_up(self) -> Iterator[Traced]:
        """Begin anew where the datapath is another by now, or runs behind these hooks; what came until then.

        To be called from time to time. Raises `MerbridgeError` as entering does.
        """
        with suppress(BpfError):  # the agent is about to pin it again
            self._read_names()  # an address may be another pod's by now
        if not self._is_outdated():
            return
        yield from self.read()
        self._lost_before += self._ring.lost
        self._held.close()
        self.__enter__()

    def pods(self) -> tuple[str, ...]:
        """The names of this node's pods."""
        self._read_names()
        return tuple(sorted({*self._names.values(), *self._by_address.values()}))

    def fileno(self) -> int:
        """A descriptor that is readable when there are connections to show."""
        return self._ring.fileno()

    def read(self) -> Iterator[Traced]:
        """Those that came since."""
        for event in self._ring.drain():
            yield self._traced(event)

    def _is_outdated(self) -> bool:
        """Whether maps were replaced, or a hook of the datapath's was attached behind the one of these at its place."""
        if {name: _inode(self._pins.maps / name) for name in _SHARED} != self._pinned:
            return True
        for hook, (ours, its_name) in self._placed.items():
            running = [each.id for each in query_cgroup(self._root, hook).programs]
            if ours not in running:
                return True  # somebody has detached it
            theirs = self._attached(its_name)
            if theirs in running and running.index(theirs) > running.index(ours):
                return True
        return False

    def _attached(self, name: str) -> int | None:
        """The id of the datapath's program of this name."""
        try:
            with Link.open(self._pins.links / name) as link:
                return link.info().program_id
        except BpfError:
            return None  # the agent is about to attach it again

    def _start(self) -> None:
        self._root = root = self._cgroup_root()
        self._pinned = {name: _inode(self._pins.maps / name) for name in _SHARED}
        maps = {name: self._shared(name, declaration) for name, declaration in _SHARED.items()}
        for name, own in _OWN.items():
            maps[name] = self._held.enter_context(Map.create(own.spec(name)))
        loaded = self._load(maps)
        try:
            cgroup = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise MerbridgeError(
                f"cannot open the cgroup {root}, which the agent has named: {error.strerror}"
            ) from None
        self._held.callback(os.close, cgroup)
        self._ring = self._held.enter_context(RingBuffer(maps["trace_events"], Event, lost_counter=maps["trace_lost"]))
        self._placed.clear()
        for program in loaded:
            self._held.enter_context(attach_cgroup(program, cgroup))
            self._placed[program.spec.attach_type] = (program.info().id, _BEHIND[program.spec.name])

    def _cgroup_root(self) -> Path:
        if not self._pins.exist():
            raise MerbridgeError(
                f"nothing is pinned in {self._pins.root}: no agent has run here, or it has another --bpffs"
            )
        with self._shared("agent", state.agent_record) as pinned:
            record = TypedMap(state.agent_record, pinned).get(state.AGENT)
        if record is None:
            raise MerbridgeError("the agent has not said yet where the programs are attached: try again in a moment")
        return Path(record.cgroup_root.decode())

    def _shared(self, name: str, declaration: MapDeclaration[Any, Any]) -> Map:
        opened = Map.open_any_size(self._pins.maps / name, declaration.spec(name))
        return self._held.enter_context(opened)

    def _load(self, maps: Mapping[str, Map]) -> list[Program]:
        """Load the programs; where the kernel does not tell of refusals, without these."""
        try:
            return self._loaded(compiled(sees_refusals=True), maps)
        except VerifierError:
            return self._loaded(compiled(sees_refusals=False), maps)

    def _loaded(self, specs: CollectionSpec, maps: Mapping[str, Map]) -> list[Program]:
        return [self._held.enter_context(Program.load(spec, maps)) for spec in specs.programs.values()]

    def _traced(self, event: Event) -> Traced:
        verdict = Verdict(event.verdict)
        dialled = _end(event.dialled)
        arrived = verdict is Verdict.ARRIVED
        return Traced(
            at=event.at / 1e9 + self._offset,
            verdict=verdict.name.lower().replace("_", " "),
            pod=self._pod_at(_address(event.dialled)) if arrived else self._pod(event.netns_cookie, event.flags),
            pid=event.pid or None,
            command=event.comm.rstrip(bytes(1)).decode(errors="replace"),
            source=_end(event.source),
            dialled=dialled,
            instead=_end(event.instead),
        )

    def _pod(self, cookie: int, flags: int) -> str:
        if flags & IS_HOST:
            return "host"
        if cookie not in self._names:
            self._read_names()
        return self._names.get(cookie, "")

    def _pod_at(self, address: str) -> str:
        if address not in self._by_address:
            self._read_names()
        return self._by_address.get(address, "")

    def _read_names(self) -> None:
        """Read who is who, unless that was done a moment ago."""
        if time.monotonic() < self._names_read + _NAMES_SECONDS:
            return
        self._names_read = time.monotonic()
        with Map.open_any_size(self._pins.maps / "pods", state.pod_records.spec("pods")) as pinned:
            records = list(TypedMap(state.pod_records, pinned).values())
        self._names.clear()
        self._by_address.clear()
        for record in records:
            name = f"{record.namespace.decode()}/{record.name.decode()}"
            if record.netns_cookie:
                self._names[record.netns_cookie] = name
            for address in (from_ip4(record.ip4), from_ip6(record.ip6)):
                if address is not None:
                    self._by_address[str(address)] = name


def compiled(*, sees_refusals: bool) -> CollectionSpec:
    """The programs; `sees_refusals` is for kernels that tell what the hooks before have decided."""
    target = named_target(_REFUSALS_SINCE) if sees_refusals else TARGET
    return compile_collection([trace4, trace6, trace_sockops], {"SEES_REFUSALS": sees_refusals}, target=target)


def _inode(path: Path) -> int | None:
    try:
        return path.lstat().st_ino
    except OSError:
        return None


def _ip(end: layouts.Endpoint) -> IPv4Address | IPv6Address | None:
    address = from_ip6(end.ip)
    mapped = None if address is None else address.ipv4_mapped
    return mapped or address


def _address(end: layouts.Endpoint) -> str:
    return str(_ip(end) or "")


def _end(end: layouts.Endpoint) -> str:
    address = _ip(end)
    if address is None:
        return ""
    return f"[{address}]:{ntohs(end.port)}" if address.version == 6 else f"{address}:{ntohs(end.port)}"


def as_text(traced: Traced) -> str:
    """A line for people."""
    seconds = time.strftime("%H:%M:%S", time.localtime(traced.at))
    who = traced.pod or "?"
    if traced.pid is not None:
        # A process names itself as it likes.
        command = "".join(each if each.isprintable() else "?" for each in traced.command)
        who += f" {command}[{traced.pid}]"
    ends = " -> ".join(each for each in (traced.source, traced.dialled) if each)
    instead = f" by {traced.instead}" if traced.instead else ""
    return f"{seconds}.{int(traced.at * 1000) % 1000:03} {traced.verdict:<10} {who}  {ends}{instead}"
