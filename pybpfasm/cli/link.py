"""`link`: the links in the kernel: which program is attached where."""

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING, Any

from pybpfasm.cli.kernel_objects import add_actions, run_action, type_name

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pybpfasm.kernel import Link

NAME = "link"
SUMMARY = "list and show the links in the kernel: which program is attached where"
EPILOG = """\
examples:
  python -m pybpfasm link list
  python -m pybpfasm link show /sys/fs/bpf/redirect-link --json

`target` is a cgroup's or a map's id, a network namespace's inode, an interface's index, a type's id; or it has a name.
Remove a link's last pin to detach its program, if no process holds it.
"""

_COLUMNS = ["id", "type", "prog_id", "prog", "attach_type", "target", "name", "pinned"]


def add_arguments(parser: ArgumentParser) -> None:
    """The action and the link."""
    add_actions(parser, "link", dump="the same as show: a link holds nothing but its facts")


def run(arguments: Namespace) -> int:
    """List, or show."""
    from pybpfasm.kernel import Link
    from pybpfasm.kernel.inventory import ObjectKind

    return run_action(arguments, ObjectKind.LINK, (Link.by_id, Link.open), _described, _COLUMNS)


def _described(link: "Link") -> dict[str, Any]:
    from pybpfasm.uapi import AttachType, LinkType

    info = link.info()
    # Kinds that tell no attach type have 0 there, which is a cgroup's.
    known = info.attach_type or info.type == LinkType.CGROUP
    return {
        "id": info.id,
        "type": type_name(LinkType, info.type),
        "prog_id": info.program_id,
        "prog": _program_name(info.program_id),
        "attach_type": type_name(AttachType, info.attach_type) if known else None,
        "target": info.target or None,
        "name": info.name,
        "cookie": info.cookie or None,
        **_details(info.details),
    }


def _details(details: "Mapping[str, Any]") -> dict[str, Any]:
    """The other facts; the kind of a perf event is called `event`, for `type` is the link's."""
    from pybpfasm.uapi import PerfEventType

    kinds = {"event": type_name(PerfEventType, details["type"])} if "type" in details else {}
    return {**kinds, **{name: each for name, each in details.items() if name != "type"}}


def _program_name(number: int) -> str | None:
    """The name of the program of that id; struct_ops have none."""
    from pybpfasm.errors import KernelError
    from pybpfasm.kernel import Program

    try:
        with Program.by_id(number) as program:
            return program.info().name
    except KernelError:
        return None
