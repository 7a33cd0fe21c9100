"""Tracepoints, by category and name, for programs of that type: they get the fields of the event's format."""

from pybpfasm.errors import BpfError
from pybpfasm.kernel.links.base import Attachment
from pybpfasm.kernel.links.perf import PERF_TYPE_TRACEPOINT, PerfEvent, attach_perf_event
from pybpfasm.kernel.programs import Program
from pybpfasm.kernel.tracefs import tracepoint_id


def attach_tracepoint(program: Program, name: str | None = None, *, cookie: int = 0) -> Attachment:
    """Attach to a tracepoint named with its category, `sched/sched_switch`; else to the spec's `attach_to` (Linux 4.7).

    It runs on all CPUs, for all processes. tracefs has to be mounted: it knows the tracepoints' numbers.
    Raises `KernelError`: ENOENT if this kernel has no such tracepoint or tracefs is not mounted, EINVAL if the program
    reads beyond the event's fields; `BpfError` for a name without a category.
    """
    chosen = name or program.spec.attach_to or ""
    category, slash, bare = chosen.partition("/")
    if not slash or not category or not bare or "/" in bare:
        wanted = "has to have its category: sched/sched_switch"
        raise BpfError(f"cannot attach program {program.spec.name}: tracepoint {chosen!r} {wanted}")
    number = tracepoint_id(category, bare)
    what = f"tracepoint {chosen}"
    # A tracepoint's programs run on every CPU, whichever the event is of (kernel/trace/bpf_trace.c).
    event = PerfEvent.open(PERF_TYPE_TRACEPOINT, number, what=what, sample_period=1, cpu=0)
    return attach_perf_event(program, event, cookie=cookie)
