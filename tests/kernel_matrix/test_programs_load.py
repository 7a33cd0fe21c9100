"""The verifier takes every program of the mesh in every configuration."""

import os
from contextlib import ExitStack
from functools import cache

import pytest

from merbridge.datapath.collection import DatapathSettings, collection
from merbridge.datapath.datapath import NEEDED
from merbridge.observe.trace import compiled as compiled_trace
from programs import PROGRAMS
from programs.processes import connector, ended, executed, forked, moved
from pybpfasm.compiler import CompileError, compile_collection
from pybpfasm.kernel import Map, Program
from pybpfasm.spec import CollectionSpec
from tools.vm.configurations import NEEDS, SPLICE

OUT_PORTS = (1, 15001, 65535)

compiled = cache(collection)


def kernel_version() -> tuple[int, ...]:
    """Of the running kernel, as far as features go by it."""
    return tuple(int(part) for part in os.uname().release.split(".")[:2])


def load(specs: CollectionSpec, name: str) -> str:
    """Load one program with the maps that it names; what the kernel calls it."""
    spec = specs.programs[name]
    with ExitStack() as held:
        maps = {each: held.enter_context(Map.create(specs.maps[each])) for each in spec.maps}
        return held.enter_context(Program.load(spec, maps)).info().name


@pytest.mark.parametrize("splice", SPLICE)
@pytest.mark.parametrize("out_port", OUT_PORTS)
@pytest.mark.parametrize(
    "name", [pytest.param(each.name, marks=pytest.mark.needs(*NEEDS[each.name])) for each in PROGRAMS]
)
def test_program_loads(name: str, out_port: int, splice: str) -> None:
    """With maps of a small node."""
    settings = DatapathSettings(out_port=out_port, splice=splice, max_pods=16, max_connections=16)
    assert load(compiled(settings), name) == name


@pytest.mark.parametrize(
    "name", [pytest.param(each.name, marks=pytest.mark.needs(*NEEDS[each.name])) for each in PROGRAMS]
)
def test_program_loads_with_maps_of_the_usual_size(name: str) -> None:
    """As the agent loads it without any flag."""
    assert load(compiled(DatapathSettings()), name) == name


@pytest.mark.needs(*NEEDED)
def test_programs_that_trace_load() -> None:
    """Without refusals wherever the datapath is, with them where the kernel tells of them: from Linux 6.1 on."""
    for sees_refusals in (False, True) if kernel_version() >= (6, 1) else (False,):
        specs = compiled_trace(sees_refusals=sees_refusals)
        assert [load(specs, name) for name in specs.programs] == list(specs.programs)


def test_programs_that_tell_of_processes_load() -> None:
    """Where namespaces' cookies are plain numbers: from Linux 5.12 on, before the agent's own 5.14."""
    assert load(compile_collection([connector]), "connector") == "connector"
    programs = [forked, executed, moved, ended]
    if kernel_version() < (5, 12):
        with pytest.raises(CompileError, match="net_cookie"):
            compile_collection(programs)
        return
    specs = compile_collection(programs)
    assert [load(specs, name) for name in specs.programs] == list(specs.programs)
