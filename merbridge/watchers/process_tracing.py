"""Processes' changes by programs at tracepoints: see `programs.processes`. They end with their descriptors."""

from collections.abc import Set
from contextlib import ExitStack, suppress

from merbridge.watchers.process_events import MOST_CHANGES, ProcessChanges
from programs.processes import (
    Change,
    Kind,
    Pair,
    Witness,
    ended,
    entered,
    executed,
    forked,
    moved,
    pictures,
    witnesses,
)
from pybpfasm.compiler import CompileError, compile_collection
from pybpfasm.errors import BpfError, KernelError
from pybpfasm.kernel import Collection, RingBuffer, TypedMap


class ProcessTracing:
    """Programs at tracepoints, and what they tell. Raises `BpfError` where the kernel refuses them."""

    way = "tracepoints"
    needs_second_look = False

    def __init__(self, host_netns: int, ring_bytes: int | None = None) -> None:
        """Attach; `host_netns` is the cookie of the namespace that is not told of."""
        self.lost = 0
        self.why = ""
        self._watched: frozenset[int] = frozenset()
        self._pairs: dict[int, Pair] = {}
        self._held = ExitStack()
        with ExitStack() as undo:
            undo.callback(self._held.close)
            self._start(host_netns, ring_bytes)
            undo.pop_all()

    def _start(self, host_netns: int, ring_bytes: int | None) -> None:
        sizes = {} if ring_bytes is None else {"process_changes": ring_bytes}
        specs = compile_collection([forked, executed, moved, ended], {"HOST_NETNS": host_netns}, sizes)
        loaded = self._held.enter_context(Collection.load(specs))
        maps = loaded.maps
        self._witnesses = TypedMap(witnesses, maps["witnesses"])
        self._pictures = TypedMap(pictures, maps["pictures"])
        losses = maps["process_losses"]
        self._ring = self._held.enter_context(RingBuffer(maps["process_changes"], Change, lost_counter=losses))
        loaded.attach_all()
        # Where reading is forbidden (membarrier(2) on arm64), that is found here.
        self._ring.drain()
        # Lockdown, a machine without trampolines, a kernel that has the function by another name or inlined.
        try:
            extra = compile_collection([entered], {"HOST_NETNS": host_netns}, sizes)
            shared = {name: maps[name] for name in extra.maps}
            self._held.enter_context(Collection.load(extra, replace=shared)).attach_all()
        except (BpfError, CompileError) as error:
            self.why = f"not of who enters a namespace, and neither runs a program nor makes a process there: {error}"

    def fileno(self) -> int:
        """A descriptor that is readable when something changed."""
        return self._ring.fileno()

    def read(self) -> ProcessChanges | None:
        """Take away what has come, without blocking."""
        last: dict[int, Change] = {each.pid: each for each in self._ring.drain()}
        lost = self._ring.lost
        is_whole, self.lost = lost == self.lost, lost
        went = frozenset(pid for pid, change in last.items() if change.kind == Kind.WENT)
        self._pairs = {pid: change.pair for pid, change in last.items() if pid not in went}
        if len(last) > MOST_CHANGES:
            return ProcessChanges(is_whole=False)
        return ProcessChanges(frozenset(self._pairs), went, is_whole)

    def watch(self, pids: Set[int]) -> None:
        """Tell when one of these ends, instead of those of the last time."""
        self._watched = watched(self._witnesses, self._watched, pids)

    def forget(self, pids: Set[int]) -> None:
        """Tell again of the pairs that these were told for; of all if that is not known."""
        if not pids <= self._pairs.keys():
            self.forget_all()
        for pid in pids & self._pairs.keys():
            self._pictures.delete(self._pairs[pid])

    def forget_all(self) -> None:
        """Tell again of every pair: some may have nobody in them any more, of which nobody tells."""
        self._pictures.map.clear()

    def close(self) -> None:
        """Detach; nothing of it is left."""
        self._held.close()


def watched(map_: TypedMap[int, Witness], before: Set[int], pids: Set[int]) -> frozenset[int]:
    """Have the map of witnesses, which held those of `before`, hold these; those that it holds now.

    Where there is no room the end of one is seen with the next look at all.
    """
    for pid in before - pids:
        map_.delete(pid)
    held = set(pids & before)
    with suppress(KernelError):
        for pid in pids - before:
            map_[pid] = Witness(watched=1)
            held.add(pid)
    return frozenset(held)
