"""Targets: the running kernel asked for real, and those that are known by name, as plain data."""

import os
import re
import subprocess
import sys
from itertools import pairwise

import pytest

from pybpfasm.errors import BpfError
from pybpfasm.kernel import features
from pybpfasm.kernel.features import MAP_TYPES
from pybpfasm.kernel.probes import INSTRUCTIONS, LINK_TYPES, IsaLevel, find_helpers, find_isa_level
from pybpfasm.kernel.probes.tables import all_features
from pybpfasm.kernel.target import TARGET_NAMES, named_target, running_target
from pybpfasm.uapi import Helper, LinkType, MapType, ProgramType


def test_the_running_target_is_what_the_probes_say() -> None:
    """Level, features and helpers are those of the probes, and the target stays the same object."""
    target = running_target()
    assert target is running_target()
    assert (target.name, target.isa) == (os.uname().release, find_isa_level())
    assert target.has(features.CGROUP_LINK) is features.CGROUP_LINK.supported()
    assert target.has("programs of type xdp")
    assert target.helpers(ProgramType.XDP) == find_helpers(ProgramType.XDP)
    assert len(target.features) == len(list(all_features()))


def test_named_targets_know_all_rows() -> None:
    """Whoever adds a probe measures the named targets anew (tools/measure_targets.py)."""
    names = {each.name for each in all_features()}
    for name in TARGET_NAMES:
        assert set(named_target(name).features) == names


@pytest.mark.parametrize(
    ("name", "level", "has", "lacks"),
    [
        ("5.10", IsaLevel.V3, features.CGROUP_LINK, features.PERF_LINK),
        ("6.1", IsaLevel.V3, features.PERF_LINK, features.STORE_IMMEDIATE_TO_CONTEXT),
        ("6.12", IsaLevel.V4, features.TCX_LINK, MAP_TYPES[MapType.INSN_ARRAY]),
        ("7.2", IsaLevel.V4, features.CGROUP_ORDER, None),
    ],
)
def test_named_targets(name: str, level: IsaLevel, has: features.Feature, lacks: features.Feature | None) -> None:
    """Each has what its version brought, and lacks what came later."""
    target = named_target(name)
    assert (target.name, target.isa) == (name, level)
    assert target.has(has)
    assert lacks is None or not target.has(lacks)


def test_helpers_of_named_targets() -> None:
    """bpf_loop came in 5.17; a type of program that is not there has none."""
    assert Helper.LOOP not in named_target("5.10").helpers(ProgramType.XDP)
    assert Helper.LOOP in named_target("6.1").helpers(ProgramType.XDP)
    assert named_target("5.10").helpers(ProgramType.NETFILTER) == frozenset()
    assert Helper.MAP_LOOKUP_ELEM in named_target("6.12").helpers(ProgramType.NETFILTER)


def test_the_named_target_of_the_running_kernel_is_right() -> None:
    """In the machines of the matrix, what was measured is what there is; elsewhere versions do not match."""
    found = re.match(r"\d+\.\d+", os.uname().release)
    assert found
    if "MERBRIDGE_VM" not in os.environ or found[0] not in TARGET_NAMES:
        assert running_target().name not in TARGET_NAMES
        return
    measured, running = named_target(found[0]), running_target()
    assert measured.isa == running.isa
    assert dict(measured.features) == dict(running.features)
    for kind in (ProgramType.XDP, ProgramType.CGROUP_SOCK_ADDR):
        assert measured.helpers(kind) == running.helpers(kind)


def test_what_is_not_known_is_an_error() -> None:
    """A target that there is not, a feature that nobody tried: never a silent no."""
    with pytest.raises(BpfError, match=r"there is no target '5\.4': there are 5\.10"):
        named_target("5.4")
    with pytest.raises(BpfError, match="is not known"):
        named_target("6.1").has("flying programs")
    with pytest.raises(BpfError, match="is not known"):
        running_target().has("flying programs")
    with pytest.raises(BpfError, match="no helpers of their own"):
        named_target("6.1").helpers(ProgramType.EXT)


def test_features_cannot_be_changed() -> None:
    """Targets are values."""
    with pytest.raises(TypeError):
        named_target("6.1").features["flying programs"] = True  # type: ignore[index]  # what is tested


def test_a_named_target_asks_no_kernel() -> None:
    """Offline work makes no bpf(2) call, from the import on."""
    code = (
        "from pybpfasm.kernel import sys\n"
        "def refuse(*arguments): raise AssertionError(arguments)\n"
        "sys.bpf = sys.prepared = refuse\n"
        "from pybpfasm.kernel.target import named_target\n"
        "from pybpfasm.uapi import ProgramType\n"
        "target = named_target('6.1')\n"
        "print(target.has('cgroup links'), len(target.helpers(ProgramType.XDP)) > 50)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True True\n"


def test_newer_targets_have_more() -> None:
    """Instructions and kinds of link are never lost from one target to the next."""
    targets = [named_target(name) for name in TARGET_NAMES]
    for older, newer in pairwise(targets):
        rows = [*INSTRUCTIONS, *(each for kind, each in LINK_TYPES.items() if kind != LinkType.UNSPEC)]
        assert all(newer.has(row) for row in rows if older.has(row))
