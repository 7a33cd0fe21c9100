"""Each conditional jump of the programs of sockets goes both ways, on scenes that the twins in C are compared on, too.

What a scene cannot show has a line in `benchmarks.codesize.impossible`, with the reason; nothing else is left out.
"""

import pytest

from benchmarks.codesize.equality import run
from benchmarks.codesize.impossible import BOTH, OURS, Impossible, unexplained, unneeded
from benchmarks.codesize.scenes import ALSO_USUAL, PROGRAMS, scenes
from merbridge.datapath.collection import DatapathSettings, collection
from pybpfasm.sim import Coverage
from pybpfasm.sim.coverage import Missing
from pybpfasm.spec import CollectionSpec
from pybpfasm.uapi import ProgramType

COMPILED = {splice: collection(DatapathSettings(splice=splice)) for splice in ("to-ztunnel", "off", "both")}
SPLICED = ("redirect", "sockops")
CASES = [("to-ztunnel", name) for name in PROGRAMS] + [(splice, name) for splice in ("off", "both") for name in SPLICED]

# Programs at network devices have scenes of their own (test_inbound_program.py).
AT_DEVICES = ProgramType.SCHED_CLS


def shown(compiled: CollectionSpec, name: str, reasons: list[Impossible]) -> Coverage:
    """What the scenes show of a program, until no more is missing than has a reason, or there are no more of them."""
    make, choices = PROGRAMS[name]
    program = compiled.programs[name]
    coverage: Coverage | None = None
    for number, scene in enumerate(scenes(choices, 0, also=ALSO_USUAL.get(name, ()))):
        ran = run(program, make(compiled, scene))[1].coverage
        coverage = ran if coverage is None else coverage | ran
        if number % 200 == 0 and is_all(name, coverage.missing(), reasons):
            break
    assert coverage is not None
    return coverage


def is_all(name: str, missing: list[Missing], reasons: list[Impossible]) -> bool:
    """Whether nothing but what cannot be shown is missing."""
    return not unexplained(reasons, name, missing) and len(missing) == sum(reason.jumps for reason in reasons)


@pytest.mark.parametrize(("splice", "name"), CASES)
def test_each_jump_goes_both_ways(splice: str, name: str) -> None:
    """And each instruction runs, in each configuration that changes the program."""
    reasons = [reason for reason in (*OURS, *(BOTH if splice == "both" else ())) if reason.program == name]
    missing = shown(COMPILED[splice], name, reasons).missing()
    assert unexplained(reasons, name, missing) == []
    assert unneeded(reasons, name, missing) == []
    assert is_all(name, missing, reasons)


def test_each_program_of_sockets_has_scenes() -> None:
    """None is left out."""
    programs = COMPILED["to-ztunnel"].programs.items()
    assert {name for name, spec in programs if spec.type is not AT_DEVICES} == set(PROGRAMS)


@pytest.mark.parametrize("splice", ["off", "both"])
def test_splice_changes_no_other_program(splice: str) -> None:
    """Those that are not run in all configurations are the same in all."""
    usual, other = COMPILED["to-ztunnel"].programs, COMPILED[splice].programs
    changed = {name for name, spec in other.items() if spec.instructions != usual[name].instructions}
    assert changed <= set(SPLICED)
