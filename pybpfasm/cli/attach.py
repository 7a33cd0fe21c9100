"""`attach`: a loaded program to its hook, with a pinned link."""

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from pybpfasm.cli.errors import UsageError
from pybpfasm.cli.kernel_objects import opened
from pybpfasm.cli.places import PLACES
from pybpfasm.cli.streams import STANDARD, write_output

if TYPE_CHECKING:
    from pybpfasm.kernel.links import Attachment

NAME = "attach"
SUMMARY = "attach a loaded program by a link that is pinned"
EPILOG = """\
examples:
  python -m pybpfasm attach /sys/fs/bpf/mine/redirect --cgroup /sys/fs/cgroup/app --hook cgroup_inet4_connect \\
      --pin /sys/fs/bpf/mine/link
  python -m pybpfasm attach id:12 --xdp eth0 --pin /sys/fs/bpf/xdp-link
  python -m pybpfasm attach /sys/fs/bpf/mine/count --uprobe /usr/bin/bash:readline --pin /sys/fs/bpf/readline
  python -m pybpfasm attach --struct-ops tcp_congestion_ops --member ssthresh=/sys/fs/bpf/mine/ssthresh … \\
      --value name=mine --pin /sys/fs/bpf/mine/congestion
  rm /sys/fs/bpf/xdp-link

It stays attached until the pin is removed. A cgroup's program needs --hook where programs of its type have several: a
program that was loaded before does not say for which it is.
"""


def add_arguments(parser: ArgumentParser) -> None:
    """The program, one place, what the place takes, and the pin."""
    what = "an id, as in 12 or id:12, or where it is pinned; none with --struct-ops"
    parser.add_argument("program", metavar="ID|PIN", nargs="?", help=what)
    group = parser.add_argument_group("places, of which one is named")
    place = group.add_mutually_exclusive_group(required=True)
    for each in PLACES:
        if each.metavar is None:
            place.add_argument(each.flag, action="store_true", help=each.summary)
        else:
            kind = Path if each.metavar in ("DIR", "PATH") else str
            place.add_argument(each.flag, metavar=each.metavar, type=kind, help=each.summary)
    place.add_argument("--struct-ops", metavar="STRUCT", help="a struct of functions: tcp_congestion_ops")
    _add_options(parser)
    parser.add_argument("--pin", type=Path, required=True, metavar="PATH", help="the link's name in a bpf file system")
    parser.add_argument("-o", "--output", default=STANDARD, metavar="OUT", help="default: standard output")


def _add_options(parser: ArgumentParser) -> None:
    """What some places take beside their names."""
    add = parser.add_argument_group("options of some places").add_argument
    add("--hook", metavar="NAME", help="of cgroups and maps of sockets: cgroup_inet4_connect")
    add("--xdp-mode", choices=("any", "generic", "native"), help="of --xdp; default: any")
    add("--family", choices=("ipv4", "ipv6"), help="of --netfilter; default: ipv4")
    add("--priority", type=_number, metavar="N", help="of --netfilter: lower ones come first; default: 0")
    add("--defragment", action="store_true", help="of --netfilter: whole IP packets only")
    add("--return", dest="on_return", action="store_true", help="of probes: at the function's return")
    add("--pid", type=_positive, metavar="PID", help="one process only, of --uprobe, --usdt, --perf-event, --iterator")
    add("--cpu", type=_positive, metavar="N", help="of --perf-event: one CPU, all processes")
    add("--period", type=_positive, metavar="N", help="of --perf-event: a sample every N events, or nanoseconds")
    add("--frequency", type=_positive, metavar="HZ", help="of --perf-event: so many samples a second")
    add("--cookie", type=_positive, metavar="N", help="of tracing: what bpf_get_attach_cookie gives")
    add("--of-map", metavar="ID|PIN", help="of --iterator: the map to go through (bpf_map_elem)")
    add("--of-cgroup", type=Path, metavar="DIR", help="of --iterator: the cgroup from which to go down (cgroup)")
    add("--member", action="append", metavar="NAME=ID|PIN", help="of --struct-ops: the program of a function")
    add("--value", action="append", metavar="NAME=VALUE", help="of --struct-ops: a number, or text for an array")


_OPTIONS = {
    "hook": "--hook",
    "xdp_mode": "--xdp-mode",
    "family": "--family",
    "priority": "--priority",
    "defragment": "--defragment",
    "on_return": "--return",
    "pid": "--pid",
    "cpu": "--cpu",
    "period": "--period",
    "frequency": "--frequency",
    "cookie": "--cookie",
    "of_map": "--of-map",
    "of_cgroup": "--of-cgroup",
    "member": "--member",
    "value": "--value",
}


def run(arguments: Namespace) -> int:
    """Attach and pin."""
    if arguments.struct_ops is not None:
        return _run_struct_ops(arguments)
    from pybpfasm.kernel import Program

    place = next(each for each in PLACES if getattr(arguments, each.name) not in (None, False))
    _check_options(arguments, place.flag, place.takes)
    if arguments.program is None:
        raise UsageError("which program is to be attached? name its id or its pin")
    with opened(arguments.program, Program.by_id, Program.open) as program, place.attach(program, arguments) as link:
        _pin(arguments, link, program.spec.name)
    return 0


def _run_struct_ops(arguments: Namespace) -> int:
    from pybpfasm.kernel import Program
    from pybpfasm.kernel.links import attach_struct_ops

    _check_options(arguments, "--struct-ops", ("member", "value"))
    if arguments.program is not None:
        raise UsageError(f"--struct-ops takes its programs by --member: --member NAME={arguments.program}")
    with ExitStack() as held:
        programs = {
            name: held.enter_context(opened(program, Program.by_id, Program.open))
            for name, program in _pairs(arguments.member, "--member").items()
        }
        values = {name: _plain(text) for name, text in _pairs(arguments.value, "--value").items()}
        link = held.enter_context(attach_struct_ops(arguments.struct_ops, programs, values))
        _pin(arguments, link, arguments.struct_ops)
    return 0


def _pin(arguments: Namespace, link: "Attachment", name: str) -> None:
    """What fails from here on leaves neither the pin nor the attachment."""
    link.pin(arguments.pin)
    try:
        write_output(arguments.output, f"link {link.info().id} attaches {name}: {arguments.pin}\n")
    except BaseException:
        link.unpin()
        raise


def _check_options(arguments: Namespace, place: str, takes: tuple[str, ...]) -> None:
    for name, flag in _OPTIONS.items():
        if getattr(arguments, name) not in (None, False) and name not in takes:
            places = [each.flag for each in PLACES if name in each.takes] or ["--struct-ops"]
            raise UsageError(f"{flag} is for {', '.join(places)}, not for {place}")


def _pairs(given: list[str] | None, flag: str) -> dict[str, str]:
    pairs = {}
    for each in given or ():
        name, equals, value = each.partition("=")
        if not equals or not name:
            raise UsageError(f"{flag} {each}: write {flag} NAME=…")
        pairs[name] = value
    return pairs


def _plain(text: str) -> int | str:
    try:
        return int(text, 0)
    except ValueError:
        return text


def _number(text: str) -> int:
    try:
        return int(text, 0)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is no number") from None


def _positive(text: str) -> int:
    number = _number(text)
    if number < 0:
        raise ArgumentTypeError(f"{text} is less than 0")
    return number
