"""`attach`: a loaded program to its hook, with a pinned link."""

from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from pybpfasm.cli.errors import UsageError
from pybpfasm.cli.kernel_objects import opened
from pybpfasm.cli.streams import STANDARD, write_output
from pybpfasm.errors import BpfError

if TYPE_CHECKING:
    from pybpfasm.kernel import Program
    from pybpfasm.kernel.links import Attachment
    from pybpfasm.uapi import AttachType

NAME = "attach"
SUMMARY = "attach a loaded program by a link that is pinned"
EPILOG = """\
examples:
  python -m pybpfasm attach /sys/fs/bpf/mine/redirect --cgroup /sys/fs/cgroup/app --hook cgroup_inet4_connect \\
      --pin /sys/fs/bpf/mine/link
  python -m pybpfasm attach id:12 --xdp eth0 --pin /sys/fs/bpf/xdp-link
  rm /sys/fs/bpf/xdp-link

It stays attached until the pin is removed. A cgroup's program needs --hook where programs of its type have several: a
program that was loaded before does not say for which it is.
"""


def add_arguments(parser: ArgumentParser) -> None:
    """The program, one place, and the pin."""
    parser.add_argument("program", metavar="ID|PIN", help="an id, as in 12 or id:12, or where it is pinned")
    place = parser.add_mutually_exclusive_group(required=True)
    place.add_argument("--cgroup", type=Path, metavar="DIR", help="a cgroup (v2) and all below it")
    place.add_argument("--xdp", metavar="IFACE", help="each packet of an interface, as the driver has it")
    place.add_argument("--tcx-ingress", metavar="IFACE", help="an interface's incoming packets")
    place.add_argument("--tcx-egress", metavar="IFACE", help="an interface's outgoing packets")
    place.add_argument("--netns", type=Path, metavar="PATH", help="a network namespace: /proc/PID/ns/net")
    place.add_argument("--sockets", metavar="ID|PIN", help="a map of sockets (sk_msg, sk_skb)")
    place.add_argument("--raw-tracepoint", metavar="NAME", help="a tracepoint without its category: sched_switch")
    place.add_argument("--own", action="store_true", help="what it was loaded for (fentry, fexit, LSM, …)")
    parser.add_argument("--hook", metavar="NAME", help="of cgroups and maps of sockets: cgroup_inet4_connect")
    parser.add_argument("--xdp-mode", choices=("any", "generic", "native"), help="default: any")
    parser.add_argument("--pin", type=Path, required=True, metavar="PATH", help="the link's name in a bpf file system")
    parser.add_argument("-o", "--output", default=STANDARD, metavar="OUT", help="default: standard output")


def run(arguments: Namespace) -> int:
    """Attach and pin."""
    from pybpfasm.kernel import Program

    if arguments.xdp_mode is not None and arguments.xdp is None:
        raise UsageError("--xdp-mode is for --xdp")
    if arguments.hook is not None and arguments.cgroup is None and arguments.sockets is None:
        raise UsageError("--hook is for --cgroup and --sockets: other places have one")
    with opened(arguments.program, Program.by_id, Program.open) as program, _attached(program, arguments) as link:
        link.pin(arguments.pin)
        write_output(arguments.output, f"link {link.info().id} attaches {program.spec.name}: {arguments.pin}\n")
    return 0


def _attached(program: "Program", arguments: Namespace) -> "Attachment":
    from pybpfasm.kernel import links
    from pybpfasm.kernel.links import Direction

    if arguments.cgroup is not None:
        return links.attach_cgroup(program, arguments.cgroup, hook=_hook(program, arguments.hook, _cgroup_hooks))
    if arguments.xdp is not None:
        return links.attach_xdp(program, arguments.xdp, links.XdpMode[(arguments.xdp_mode or "any").upper()])
    if arguments.tcx_ingress is not None:
        return links.attach_tcx(program, arguments.tcx_ingress, Direction.INGRESS)
    if arguments.tcx_egress is not None:
        return links.attach_tcx(program, arguments.tcx_egress, Direction.EGRESS)
    if arguments.netns is not None:
        return links.attach_netns(program, arguments.netns)
    if arguments.sockets is not None:
        return _attached_to_sockets(program, arguments)
    if arguments.raw_tracepoint is not None:
        return links.attach_raw_tracepoint(program, arguments.raw_tracepoint)
    return links.attach_tracing(program)


def _attached_to_sockets(program: "Program", arguments: Namespace) -> "Attachment":
    from pybpfasm.kernel import Map, links

    with opened(arguments.sockets, Map.by_id, Map.open) as sockets:
        return links.attach_sockmap(program, sockets, _hook(program, arguments.hook, _socket_hooks))


def _hook(program: "Program", name: str | None, hooks_of: "Callable[[Program], list[AttachType]]") -> "AttachType":
    """The hook by its name, or the only one of the program's type. Raises `UsageError`, `BpfError`."""
    hooks = {each.name.lower(): each for each in hooks_of(program)}
    if not hooks:
        kind = program.spec.type.name.lower()
        raise BpfError(f"cannot attach program {program.spec.name} there: no hook takes programs of type {kind}")
    if name is None and len(hooks) > 1:
        raise UsageError(f"program {program.spec.name} needs --hook with one of {', '.join(hooks)}")
    if name is not None and name not in hooks:
        raise UsageError(f"--hook {name}: program {program.spec.name} can have {', '.join(hooks)}")
    return hooks[name] if name is not None else next(iter(hooks.values()))


def _cgroup_hooks(program: "Program") -> "list[AttachType]":
    from pybpfasm.kernel.links import CGROUP_HOOKS

    return [hook for hook, each in CGROUP_HOOKS.items() if each.program_type == program.spec.type]


def _socket_hooks(program: "Program") -> "list[AttachType]":
    from pybpfasm.uapi import AttachType, ProgramType

    hooks = {
        ProgramType.SK_MSG: [AttachType.SK_MSG_VERDICT],
        ProgramType.SK_SKB: [
            AttachType.SK_SKB_STREAM_PARSER,
            AttachType.SK_SKB_STREAM_VERDICT,
            AttachType.SK_SKB_VERDICT,
        ],
    }
    return hooks.get(program.spec.type, [])
