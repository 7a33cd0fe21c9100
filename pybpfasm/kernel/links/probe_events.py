"""The perf events behind kprobes and uprobes: made by their PMU (Linux 4.17), or by a line in tracefs.

The two ways:

    PMU      type from /sys/bus/event_source/devices/kprobe/type; ends with its descriptor
    tracefs  `p:group/name function` in kprobe_events is a tracepoint; its line has to be removed at the end
"""

import errno
import os
import re
from itertools import count
from pathlib import Path

from pybpfasm.errors import KernelError, UnsupportedFeatureError
from pybpfasm.kernel import features, sys
from pybpfasm.kernel.features import Feature
from pybpfasm.kernel.links.base import Attachment, LegacyAttachment
from pybpfasm.kernel.links.perf import PERF_TYPE_TRACEPOINT, PerfEvent, attach_perf_event
from pybpfasm.kernel.programs import Program
from pybpfasm.kernel.tracefs import tracepoint_id, write_event

_PMUS = Path("/sys/bus/event_source/devices")

# The upper half of `config` is the place of a uprobe's semaphore in its file (events/uprobe format/ref_ctr_offset).
_SEMAPHORE_SHIFT = 32

_GROUP = "pybpfasm"
_numbers = count()


def pmu_probe(
    pmu: str,
    target: str,
    offset: int,
    *,
    what: str,
    on_return: bool,
    semaphore_offset: int = 0,
    pid: int = -1,
) -> PerfEvent:
    """The event of PMU `kprobe` or `uprobe` at a function, or at an offset of a file.

    Raises `KernelError`: ENOENT if there is no such function, EINVAL or EILSEQ if it cannot be probed there;
    `UnsupportedFeatureError` if this kernel has no such PMU.
    """
    held = sys.buffer(os.fsencode(target) + b"\0")
    config = semaphore_offset << _SEMAPHORE_SHIFT | (1 << _return_bit(pmu) if on_return else 0)
    try:
        return PerfEvent.open(
            _pmu_type(pmu),
            config,
            what=what,
            config1=sys.address(held),
            config2=offset,
            pid=pid,
            cpu=0 if pid == -1 else -1,
        )
    except KernelError as error:
        number = error.errno or 0
        cause = _CAUSES.get(number)
        raise (sys.failure(number, f"open {what}", cause) if cause else error) from None


_CAUSES = {
    errno.ENOENT: "there is no such function, or file",
    errno.EINVAL: "it cannot be probed there: it is marked so, or no instruction begins there",
    errno.EILSEQ: "no instruction begins there",
    errno.EADDRNOTAVAIL: "the function is there more than once, or gone",
    errno.EBUSY: "somebody else has patched it",
}


def _pmu_type(pmu: str) -> int:
    try:
        return int((_PMUS / pmu / "type").read_text())
    except FileNotFoundError:
        raise _feature(pmu).error() from None


def _return_bit(pmu: str) -> int:
    """The bit of `config` that means the function's return: `config:0`."""
    try:
        found = re.fullmatch(r"config:(\d+)", (_PMUS / pmu / "format" / "retprobe").read_text().strip())
    except OSError:
        found = None
    return int(found[1]) if found else 0


def _feature(pmu: str) -> Feature:
    return features.KPROBES if pmu == "kprobe" else features.UPROBES


class TracefsAttachment(LegacyAttachment):
    """A program on a probe that was made by a line in tracefs, which is removed at the end."""

    def __init__(self, attachment: Attachment, file: str, name: str) -> None:
        self._attachment = attachment
        self._file = file
        self._name = name
        missing = UnsupportedFeatureError("links to probes made by tracefs", "4.17, by their PMU")
        super().__init__(missing, self._remove)

    def _remove(self) -> None:
        self._attachment.close()
        write_event(self._file, f"-:{_GROUP}/{self._name}")


def attach_by_tracefs(
    program: Program, file: str, place: str, *, what: str, on_return: bool, cookie: int = 0
) -> TracefsAttachment:
    """Attach to a probe made by a line in `kprobe_events` or `uprobe_events`; `place` is as written there.

    Raises `KernelError`.
    """
    name = f"p{os.getpid()}_{next(_numbers)}"
    write_event(file, f"{'r' if on_return else 'p'}:{_GROUP}/{name} {place}")
    try:
        event = PerfEvent.open(PERF_TYPE_TRACEPOINT, tracepoint_id(_GROUP, name), what=what, sample_period=1, cpu=0)
        attachment = attach_perf_event(program, event, cookie=cookie)
    except BaseException:
        write_event(file, f"-:{_GROUP}/{name}")
        raise
    return TracefsAttachment(attachment, file, name)
