"""Where `attach` can attach: a row a place, with the options that it takes and how it is done.

A program that was loaded before does not say for which hook. So it is told by the place, where the place has one.
"""

import errno
import re
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pybpfasm.cli.errors import UsageError
from pybpfasm.cli.kernel_objects import opened
from pybpfasm.errors import BpfError, KernelError, UnsupportedFeatureError

if TYPE_CHECKING:
    from pybpfasm.kernel import Program
    from pybpfasm.kernel.links import Attachment
    from pybpfasm.uapi import AttachType

Attach = Callable[["Program", Namespace], "Attachment"]


class Place(NamedTuple):
    """A place: `--flag METAVAR`, or `--flag` alone, and the names of further options that it takes."""

    flag: str
    metavar: str | None
    summary: str
    attach: Attach
    takes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What argparse calls its value."""
        return self.flag.removeprefix("--").replace("-", "_")


# --- networking -------------------------------------------------------------------------------------------------------


def _cgroup(program: "Program", given: Namespace) -> "Attachment":
    from pybpfasm.kernel import links
    from pybpfasm.kernel.links import CGROUP_HOOKS

    hooks = [hook for hook, each in CGROUP_HOOKS.items() if each.program_type == program.spec.type]
    return links.attach_cgroup(program, given.cgroup, hook=_hook(program, given.hook, hooks))


def _sockets(program: "Program", given: Namespace) -> "Attachment":
    from pybpfasm.kernel import Map, links
    from pybpfasm.uapi import AttachType, ProgramType

    parser, verdict, alone = (
        AttachType.SK_SKB_STREAM_PARSER,
        AttachType.SK_SKB_STREAM_VERDICT,
        AttachType.SK_SKB_VERDICT,
    )
    by_type = {ProgramType.SK_MSG: [AttachType.SK_MSG_VERDICT], ProgramType.SK_SKB: [parser, verdict, alone]}
    hook = _hook(program, given.hook, by_type.get(program.spec.type, []))
    with opened(given.sockets, Map.by_id, Map.open) as sockets:
        return links.attach_sockmap(program, sockets, hook)


def _hook(program: "Program", name: str | None, possible: "list[AttachType]") -> "AttachType":
    """The hook by its name, or the only one of the program's type. Raises `UsageError`, `BpfError`."""
    hooks = {each.name.lower(): each for each in possible}
    if not hooks:
        kind = program.spec.type.name.lower()
        raise BpfError(f"cannot attach program {program.spec.name} there: no hook takes programs of type {kind}")
    if name is None and len(hooks) > 1:
        raise UsageError(f"program {program.spec.name} needs --hook with one of {', '.join(hooks)}")
    if name is not None and name not in hooks:
        raise UsageError(f"--hook {name}: program {program.spec.name} can have {', '.join(hooks)}")
    return hooks[name] if name is not None else next(iter(hooks.values()))


def _xdp(program: "Program", given: Namespace) -> "Attachment":
    from pybpfasm.kernel import links

    return links.attach_xdp(program, given.xdp, links.XdpMode[(given.xdp_mode or "any").upper()])


def _tcx_ingress(program: "Program", given: Namespace) -> "Attachment":
    from pybpfasm.kernel import links

    return links.attach_tcx(program, given.tcx_ingress, links.Direction.INGRESS)


def _tcx_egress(program: "Program", given: Namespace) -> "Attachment":
    from pybpfasm.kernel import links

    return links.attach_tcx(program, given.tcx_egress, links.Direction.EGRESS)


def _netkit_primary(program: "Program", given: Namespace) -> "Attachment":
    from pybpfasm.kernel import links

    return links.attach_netkit(program, given.netkit_primary, links.NetkitEnd.PRIMARY)


def _netkit_peer(program: "Program", given: Namespace) -> "Attachment":
    from pybpfasm.kernel import links

    return links.attach_netkit(program, given.netkit_peer, links.NetkitEnd.PEER)


def _netns(program: "Program", given: Namespace) -> "Attachment":
    from pybpfasm.kernel import links

    return links.attach_netns(program, given.netns)


def _netfilter(program: "Program", given: Namespace) -> "Attachment":
    from pybpfasm.kernel import links

    hooks = {each.name.lower().replace("_", "-"): each for each in links.NetfilterHook}
    if given.netfilter not in hooks:
        raise UsageError(f"--netfilter {given.netfilter}: there are {', '.join(hooks)}")
    family = links.NetfilterFamily[(given.family or "ipv4").upper()]
    return links.attach_netfilter(
        program, family, hooks[given.netfilter], given.priority or 0, defragment=given.defragment
    )


# --- tracing ----------------------------------------------------------------------------------------------------------


def _own(program: "Program", given: Namespace) -> "Attachment":
    from pybpfasm.kernel import links

    return links.attach_tracing(program, cookie=given.cookie or 0)


def _raw_tracepoint(program: "Program", given: Namespace) -> "Attachment":
    from pybpfasm.kernel import links

    return links.attach_raw_tracepoint(program, given.raw_tracepoint, cookie=given.cookie or 0)


def _tracepoint(program: "Program", given: Namespace) -> "Attachment":
    from pybpfasm.kernel import links

    return links.attach_tracepoint(program, given.tracepoint, cookie=given.cookie or 0)


def _kprobe(program: "Program", given: Namespace) -> "Attachment":
    from pybpfasm.kernel import links

    function, offset = _with_offset(given.kprobe, "--kprobe")
    return links.attach_kprobe(program, function, offset=offset, on_return=given.on_return, cookie=given.cookie or 0)


def _kprobes(program: "Program", given: Namespace) -> "Attachment":
    from pybpfasm.kernel import links

    return links.attach_kprobes(program, _names(given.kprobes, "--kprobes"), on_return=given.on_return)


def _uprobe(program: "Program", given: Namespace) -> "Attachment":
    from pybpfasm.kernel import links

    path, place = _in_file(given.uprobe, "--uprobe")
    symbol: str | None
    symbol, offset = _with_offset(place, "--uprobe")
    if re.fullmatch("0x[0-9a-fA-F]{1,15}", place):
        symbol, offset = None, int(place, 16)
    return links.attach_uprobe(
        program, path, symbol, offset=offset, pid=_pid(given), on_return=given.on_return, cookie=given.cookie or 0
    )


def _uprobes(program: "Program", given: Namespace) -> "Attachment":
    from pybpfasm.kernel import links

    path, places = _in_file(given.uprobes, "--uprobes")
    return links.attach_uprobes(program, path, _names(places, "--uprobes"), pid=_pid(given), on_return=given.on_return)


def _usdt(program: "Program", given: Namespace) -> "Attachment":
    from pybpfasm.kernel import links
    from pybpfasm.uapi import AttachType

    rest, _, name = given.usdt.rpartition(":")
    path, provider = _in_file(rest, "--usdt", given.usdt)
    if not name:
        raise UsageError(f"--usdt {given.usdt}: a probe point is PATH:PROVIDER:NAME")
    try:
        # It does not say whether it was loaded for many places. That is needed for one link to them, and tried first.
        _take_for(program, AttachType.TRACE_UPROBE_MULTI)
        return links.attach_usdt(program, path, provider, name, pid=_pid(given), cookie=given.cookie or 0)
    except (KernelError, UnsupportedFeatureError) as error:
        if isinstance(error, KernelError) and error.errno != errno.EINVAL:
            raise
    _take_for(program, AttachType(0))
    return links.attach_usdt(program, path, provider, name, pid=_pid(given), cookie=given.cookie or 0)


# uapi linux/perf_event.h: enum perf_sw_ids and enum perf_hw_id, by the names that perf(1) has for them.
_SOFTWARE = (
    "cpu-clock",
    "task-clock",
    "page-faults",
    "context-switches",
    "cpu-migrations",
    "minor-faults",
    "major-faults",
)
_HARDWARE = ("cpu-cycles", "instructions", "cache-references", "cache-misses", "branch-instructions", "branch-misses")


def _perf_event(program: "Program", given: Namespace) -> "Attachment":
    from pybpfasm.kernel import links
    from pybpfasm.kernel.links.perf import PERF_TYPE_HARDWARE, PERF_TYPE_SOFTWARE

    known = {name: (PERF_TYPE_SOFTWARE, number) for number, name in enumerate(_SOFTWARE)}
    known |= {name: (PERF_TYPE_HARDWARE, number) for number, name in enumerate(_HARDWARE)}
    if given.perf_event not in known:
        raise UsageError(f"--perf-event {given.perf_event}: there are {', '.join(known)}")
    if (given.cpu is None) == (given.pid is None):
        raise UsageError("--perf-event counts on one CPU or in one process: say --cpu or --pid")
    if (given.period is None) == (given.frequency is None):
        raise UsageError("--perf-event samples: say --period, or --frequency in Hz")
    event = links.PerfEvent.open(
        *known[given.perf_event],
        what=f"perf event {given.perf_event}",
        sample_period=given.period or 0,
        sample_frequency_hz=given.frequency or 0,
        pid=-1 if given.pid is None else given.pid,
        cpu=-1 if given.cpu is None else given.cpu,
    )
    return links.attach_perf_event(program, event, cookie=given.cookie or 0)


def _iterator(program: "Program", given: Namespace) -> "Attachment":
    from pybpfasm.kernel import Map, links
    from pybpfasm.kernel.links.target import opened as opened_target
    from pybpfasm.uapi import AttachType

    _take_for(program, AttachType.TRACE_ITER)
    if given.of_map is not None:
        with opened(given.of_map, Map.by_id, Map.open) as map_:
            return links.attach_iterator(program, map_=map_, pid=given.pid or 0)
    if given.of_cgroup is not None:
        with opened_target(given.of_cgroup) as cgroup:
            return links.attach_iterator(program, cgroup_fd=cgroup, pid=given.pid or 0)
    return links.attach_iterator(program, pid=given.pid or 0)


def _take_for(program: "Program", hook: "AttachType") -> None:
    """Say for which hook a program was loaded: the kernel does not tell."""
    from pybpfasm.records import evolve

    program.spec = evolve(program.spec, attach_type=hook)


def _pid(given: Namespace) -> int:
    """A process, or -1 for all."""
    return -1 if given.pid is None else given.pid


def _with_offset(place: str, flag: str) -> tuple[str, int]:
    """`function`, or `function+0x12`."""
    name, plus, offset = place.partition("+")
    try:
        number = int(offset, 0) if plus else 0
    except ValueError:
        raise UsageError(f"{flag} {place}: an offset is a number of bytes, as in {name or 'function'}+0x12") from None
    if not name:
        raise UsageError(f"{flag} {place}: name a function")
    return name, number


def _in_file(place: str, flag: str, given: str | None = None) -> tuple[Path, str]:
    """`path:name`; colons may be in the path. `given` is the whole of what the user gave."""
    path, _, name = place.rpartition(":")
    if not path or not name:
        example = "PATH:PROVIDER:NAME" if flag == "--usdt" else "PATH:FUNCTION"
        raise UsageError(f"{flag} {given or place}: a place in a file is {example}")
    return Path(path), name


def _names(listed: str, flag: str) -> list[str]:
    names = listed.split(",")
    if not all(names):
        raise UsageError(f"{flag} {listed}: names are divided by single commas")
    return names


PLACES = (
    Place("--cgroup", "DIR", "a cgroup (v2) and all below it", _cgroup, ("hook",)),
    Place("--xdp", "IFACE", "each packet of an interface, as the driver has it", _xdp, ("xdp_mode",)),
    Place("--tcx-ingress", "IFACE", "an interface's incoming packets", _tcx_ingress),
    Place("--tcx-egress", "IFACE", "an interface's outgoing packets", _tcx_egress),
    Place("--netkit-primary", "IFACE", "what the primary interface of a netkit pair sends", _netkit_primary),
    Place("--netkit-peer", "IFACE", "what its peer sends; also by the primary interface", _netkit_peer),
    Place("--netns", "PATH", "a network namespace: /proc/PID/ns/net", _netns),
    Place(
        "--netfilter",
        "HOOK",
        "a netfilter hook: local-in, pre-routing, …",
        _netfilter,
        ("family", "priority", "defragment"),
    ),
    Place("--sockets", "ID|PIN", "a map of sockets (sk_msg, sk_skb)", _sockets, ("hook",)),
    Place("--raw-tracepoint", "NAME", "a tracepoint without its category: sched_switch", _raw_tracepoint, ("cookie",)),
    Place("--tracepoint", "NAME", "a tracepoint with its category: sched/sched_switch", _tracepoint, ("cookie",)),
    Place("--kprobe", "FUNCTION", "a kernel function, or function+OFFSET", _kprobe, ("on_return", "cookie")),
    Place("--kprobes", "F,F,…", "many by one link; loaded for trace_kprobe_multi", _kprobes, ("on_return",)),
    Place(
        "--uprobe",
        "PATH:FUNCTION",
        "a function of a file, function+OFFSET in it, or PATH:0xOFFSET of the file",
        _uprobe,
        ("on_return", "cookie", "pid"),
    ),
    Place("--uprobes", "PATH:F,F,…", "many by one link; loaded for trace_uprobe_multi", _uprobes, ("on_return", "pid")),
    Place("--usdt", "PATH:PROVIDER:NAME", "a probe point of a file", _usdt, ("cookie", "pid")),
    Place(
        "--perf-event",
        "EVENT",
        "samples of an event: cpu-clock, page-faults, cpu-cycles, …",
        _perf_event,
        ("cpu", "pid", "period", "frequency", "cookie"),
    ),
    Place(
        "--iterator",
        None,
        "as the iterator that it was loaded for: reading the pin runs it",
        _iterator,
        ("of_map", "of_cgroup", "pid"),
    ),
    Place("--own", None, "what it was loaded for: fentry, fexit, fmod_ret, tp_btf, LSM, ext", _own, ("cookie",)),
)
