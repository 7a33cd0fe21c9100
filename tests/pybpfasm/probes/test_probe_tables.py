"""The probes' answers against the kernel's version, in both directions."""

import os
import re

import attrs
import pytest
from kernel_matrix.needs import Require

from pybpfasm.errors import KernelError
from pybpfasm.kernel import features
from pybpfasm.kernel.features import Feature
from pybpfasm.kernel.inventory import ObjectKind, object_ids
from pybpfasm.kernel.probes import LINK_TYPES, PROGRAM_TYPES, TABLES, IsaLevel, find_isa_level, probe
from pybpfasm.kernel.probes.instructions import LONG_JUMP
from pybpfasm.kernel.probes.tables import all_features
from pybpfasm.testing.processes import run_in_child
from pybpfasm.uapi import LinkType, ProgramType

# Debian's kernels for the cloud have no drivers for infrared receivers, and so not these programs.
_LIRC = PROGRAM_TYPES[ProgramType.LIRC_MODE2]

# Stable branches of Linux have these, too: they were brought back. In 6.1.y and 6.12.y they were seen to work: a long
# jump goes where it says, and the program attached as the first runs first.
_BROUGHT_BACK = {LONG_JUMP.name: "6.1", features.CGROUP_ORDER.name: "6.12"}

_NOBODY = 65534


def _version(text: str) -> tuple[int, ...]:
    found = re.match(r"(\d+)\.(\d+)", text)
    assert found
    return tuple(map(int, found.groups()))


_ROWS = [pytest.param(each, id=each.name) for each in all_features() if each is not _LIRC]


@pytest.mark.parametrize("feature", _ROWS)
def test_a_kernel_has_what_came_with_it_or_before_and_nothing_else(feature: Feature, require: Require) -> None:
    """An older kernel refuses, and says in words why; one of the version, or newer, has it."""
    if _version(os.uname().release) < _version(_BROUGHT_BACK.get(feature.name, feature.since)):
        assert feature.refusal()
    else:
        require(feature)


def test_an_option_that_is_missing_is_a_plain_no() -> None:
    """Whatever a kernel was built without, the answer is conclusive."""
    assert all(probe(feature).supported is not None for feature in all_features())


def test_each_type_of_uapi_has_a_row() -> None:
    """No type of program is forgotten; of links, only the newest one is not tried."""
    assert set(PROGRAM_TYPES) == set(ProgramType) - {ProgramType.UNSPEC}
    assert set(LinkType) - set(LINK_TYPES) == {LinkType.UNSPEC, LinkType.TRACING_MULTI}


def test_the_level_of_instructions_goes_with_the_version() -> None:
    """v3 came in 5.1 and v4 in 6.6."""
    assert find_isa_level() == (IsaLevel.V4 if _version(os.uname().release) >= (6, 6) else IsaLevel.V3)


def test_names_say_which_row_it_is() -> None:
    """No two features have one name: targets are asked by it."""
    rows = list(all_features())
    assert len({each.name for each in rows}) == len(rows)
    assert all(TABLES.values())


def test_nothing_is_left_in_the_kernel() -> None:
    """Every probe anew, none of whose programs, maps and links is there afterwards."""
    for feature in all_features():
        attrs.evolve(feature, name=f"{feature.name}, once more").refusal()
    for kind in ObjectKind:
        assert not set(_names(kind)) & {"probe"}


def test_what_the_kernel_does_not_say_is_not_kept() -> None:
    """Without privilege the answer is neither yes nor no; with it, the same process gets one."""
    feature = attrs.evolve(PROGRAM_TYPES[ProgramType.XDP], name="XDP, asked twice")

    def ask_twice() -> tuple[bool | None, str, bool | None]:
        os.seteuid(_NOBODY)
        first = probe(feature)
        with pytest.raises(KernelError):
            find_isa_level()
        os.seteuid(0)
        return first.supported, first.reason, probe(feature).supported

    first, reason, second = run_in_child(lambda: _forget(), ask_twice)
    assert (first, second) == (None, True)
    assert "CAP_" in reason


def _forget() -> None:
    """The child knows nothing of what its parent has asked."""
    features._answers.clear()


def _names(kind: ObjectKind) -> list[str]:
    from pybpfasm.kernel import Map, Program

    found = []
    for number in object_ids(kind) if kind != ObjectKind.LINK else ():
        try:
            with (Program if kind == ObjectKind.PROGRAM else Map).by_id(number) as each:
                found.append(each.spec.name)
        except KernelError:  # another process's, gone meanwhile
            continue
    return found
