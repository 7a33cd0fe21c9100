"""Other people's programs at the hooks that the agent uses.

Links are always attached so that others may be beside them, and run whatever is attached in the cgroups below. What is
attached without BPF_F_ALLOW_MULTI, at the agent's own cgroup or above it, keeps the agent from attaching.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

from merbridge.datapath.pins import Pins
from merbridge.doctor.finding import Finding, note, ok, problem
from programs import PROGRAMS
from pybpfasm.errors import BpfError
from pybpfasm.kernel import Link, Program
from pybpfasm.kernel.links import CGROUP_HOOKS, query_cgroup
from pybpfasm.uapi import AttachFlag, AttachType

_HOOKS = {each.name: AttachType(each.kind.attach_type) for each in PROGRAMS if each.kind.attach_type in CGROUP_HOOKS}
_REMEDY = "have its owner attach it with BPF_F_ALLOW_MULTI or by a link, or take it away"


def look_at_hooks(pins: Pins, root: Path) -> Iterator[Finding]:
    """Whether the programs can be attached to the cgroup `root`, and who else is there."""
    own = _own_programs(pins)
    findings = [*_in_the_way(root), *_beside(root, own)]
    yield from findings or [ok("hooks", f"no other programs at the hooks of {root}")]


def _own_programs(pins: Pins) -> Mapping[str, int]:
    """The ids of the agent's programs that are attached, by name."""
    own: dict[str, int] = {}
    for name in _HOOKS:
        if (pins.links / name).exists():
            with Link.open(pins.links / name) as link:
                own[name] = link.info().program_id
    return own


def _in_the_way(root: Path) -> Iterator[Finding]:
    for cgroup in (root, *root.parents):
        if not (cgroup / "cgroup.controllers").exists():
            return
        for name, hook in _HOOKS.items():
            attached = query_cgroup(cgroup, hook)
            if attached.programs and not attached.flags & (AttachFlag.ALLOW_MULTI | _may_be_below(cgroup, root)):
                other = _described(attached.ids[0])
                yield problem(
                    "hooks", f"{other} has the hook of {name} at {cgroup} for itself: merbridge cannot attach", _REMEDY
                )


def _may_be_below(cgroup: Path, root: Path) -> AttachFlag:
    return AttachFlag(0) if cgroup == root else AttachFlag.ALLOW_OVERRIDE


def _beside(root: Path, own: Mapping[str, int]) -> Iterator[Finding]:
    others: dict[int, list[str]] = defaultdict(list)
    for name, hook in _HOOKS.items():
        for number in query_cgroup(root, hook).ids:
            if number != own.get(name):
                others[number].append(name)
    for number, names in others.items():
        yield note("hooks", f"{_described(number)} is at the hook of {', '.join(names)} of {root}, too")


def _described(number: int) -> str:
    try:
        with Program.by_id(number) as program:
            return f"program {program.info().name or 'without a name'} (id {number})"
    except BpfError:
        return f"program {number}"
