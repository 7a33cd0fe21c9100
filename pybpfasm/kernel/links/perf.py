"""Perf events: what programs are attached to for tracepoints, kprobes, uprobes, and for events of counters themselves.

How a program comes to an event:

    perf_event_open(2) ─> event ── link (Linux 5.15) ────────────────────────> Link
                            └── PERF_EVENT_IOC_SET_BPF (before) ─> the event itself: PerfAttachment
"""

import errno
import fcntl

from pybpfasm.errors import KernelError, UnsupportedFeatureError
from pybpfasm.kernel import features, sys
from pybpfasm.kernel.descriptor import Descriptor
from pybpfasm.kernel.links.attempt import attempting, lacks
from pybpfasm.kernel.links.base import Attachment, LegacyAttachment, create
from pybpfasm.kernel.programs import Program
from pybpfasm.uapi import AttachType

# enum perf_type_id and enum perf_sw_ids of uapi linux/perf_event.h.
PERF_TYPE_HARDWARE = 0
PERF_TYPE_SOFTWARE = 1
PERF_TYPE_TRACEPOINT = 2
PERF_COUNT_SW_CPU_CLOCK = 0
PERF_COUNT_SW_TASK_CLOCK = 1

# _IO('$', 0), _IO('$', 1) and _IOW('$', 8, u32) of the same header.
_IOC_ENABLE, _IOC_DISABLE, _IOC_SET_BPF = 0x2400, 0x2401, 0x40042408

# Bits of struct perf_event_attr's flags.
_DISABLED, _FREQUENCY = 1 << 0, 1 << 10

_EVERYWHERE = -1


class PerfEvent(Descriptor):
    """An event of perf_event_open(2), not yet enabled. It owns the descriptor; `attach_perf_event` takes it over."""

    def __init__(self, fd: int, what: str) -> None:
        super().__init__(fd)
        self.what = what

    @classmethod
    def open(
        cls,
        event_type: int,
        config: int,
        *,
        what: str = "a perf event",
        sample_period: int = 0,
        sample_frequency_hz: int = 0,
        config1: int = 0,
        config2: int = 0,
        pid: int = _EVERYWHERE,
        cpu: int = _EVERYWHERE,
    ) -> "PerfEvent":
        """An event of type PERF_TYPE_… with a number of that type: a program runs at each sample.

        There is a sample every `sample_period` events (nanoseconds of a clock), or so many times a second. Of one
        process (`pid`, 0: the caller) on every CPU, or of one CPU and all processes: one of the two must be given.
        Raises `KernelError`: ENOENT or EOPNOTSUPP if this machine cannot count it, EACCES by perf_event_paranoid.
        """
        attributes = sys.new(
            "perf_event_attr", type=event_type, config=config, config1=config1, config2=config2, flags=_DISABLED
        )
        attributes.sample_period = sample_period
        if sample_frequency_hz:
            attributes.sample_period, attributes.flags = sample_frequency_hz, _DISABLED | _FREQUENCY
        attempted = f"open {what}"
        with attempting(attempted, _OPEN_CAUSES):
            return cls(sys.perf_event_open(attributes, pid, cpu, attempted), what)


_OPEN_CAUSES = {
    errno.EACCES: "it needs root, or CAP_PERFMON (and kernel.perf_event_paranoid allows less)",
    errno.EPERM: "it needs root, or CAP_PERFMON",
    errno.ENOENT: "this kernel or machine has no such event",
    errno.EOPNOTSUPP: "this machine cannot count it",
    errno.ENODEV: "this machine cannot count it",
    errno.ESRCH: "there is no such process",
    errno.EINVAL: "the kernel does not know this event, or it needs a process or a CPU",
}

_ATTACH_CAUSES = {
    errno.EEXIST: "the event has a program already",
    errno.E2BIG: "64 programs are attached to it, which is as many as can be",
    errno.EINVAL: "a program of another type, or one that reads further than the event's data go",
    errno.EPERM: "it needs root, or CAP_BPF and CAP_PERFMON",
}


def attach_perf_event(program: Program, event: PerfEvent, *, cookie: int = 0) -> Attachment:
    """Attach to an event, which is enabled, and which the attachment owns from now on, also if this fails.

    A link from Linux 5.15 on; before, a `PerfAttachment`, which cannot be pinned. `cookie` is what
    bpf_get_attach_cookie gives (5.15). Raises `KernelError`: EEXIST if the event has a program, EINVAL for a program
    of another type; `UnsupportedFeatureError` for a cookie without links.
    """
    with event:
        attempted = f"attach program {program.spec.name} to {event.what}"
        if lacks(features.PERF_LINK):
            if cookie:
                raise UnsupportedFeatureError("cookies of programs on perf events", features.PERF_LINK.since)
            return _attach_directly(program, event, attempted)
        with attempting(attempted, _ATTACH_CAUSES, features.PERF_LINK):
            link = create(
                program, event.fd, attempted, attach_type=AttachType.PERF_EVENT, perf_event={"cookie": cookie}
            )
        try:
            _control(event, _IOC_ENABLE, 0, attempted)
        except KernelError:
            link.close()
            raise
        return link


class PerfAttachment(LegacyAttachment):
    """A program on a perf event without a link: it is attached as long as the event is open."""

    def __init__(self, event: PerfEvent) -> None:
        self.event = event
        super().__init__(features.PERF_LINK.error(), event.close)


def _attach_directly(program: Program, event: PerfEvent, attempted: str) -> PerfAttachment:
    _control(event, _IOC_SET_BPF, program.fd, attempted)
    _control(event, _IOC_ENABLE, 0, attempted)
    return PerfAttachment(PerfEvent(event.release(), event.what))


def _control(event: PerfEvent, request: int, argument: int, attempted: str) -> None:
    try:
        fcntl.ioctl(event.fd, request, argument)
    except OSError as error:
        number = error.errno or 0
        raise sys.failure(number, attempted, _ATTACH_CAUSES.get(number)) from None
