"""The mesh's programs: what they compile to, and that the running kernel takes them."""

from pathlib import Path
from typing import Any

import pytest

from merbridge.datapath.collection import TARGET, DatapathSettings, collection
from programs import PROGRAMS
from pybpfasm import Program
from pybpfasm.compiler import compile_program
from pybpfasm.isa import decode, encode, listing
from pybpfasm.kernel import Map, ProgramInfo
from pybpfasm.kernel import Program as LoadedProgram
from pybpfasm.spec import CollectionSpec

GOLDEN = Path(__file__).parent / "golden"


def load_all(specs: CollectionSpec) -> dict[str, ProgramInfo]:
    """Load every program with maps made for it; what the kernel says of each."""
    maps = {name: Map.create(spec) for name, spec in specs.maps.items()}
    loaded = {name: LoadedProgram.load(spec, maps) for name, spec in specs.programs.items()}
    infos = {name: program.info() for name, program in loaded.items()}
    for each in (*loaded.values(), *maps.values()):
        each.close()
    return infos


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
def test_instructions_are_as_reviewed(program: Program[Any], request: pytest.FixtureRequest) -> None:
    """A change of the compiler or of a program shows as a diff of its listing."""
    text = "\n".join(listing(compile_program(program, target=TARGET).instructions)) + "\n"
    golden = GOLDEN / f"{program.name}.txt"
    if request.config.getoption("--update-golden"):
        golden.write_text(text)
    assert text == golden.read_text()


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
def test_compiling_twice_gives_equal_specs(program: Program[Any]) -> None:
    """The compiler is deterministic, and its instructions survive encoding."""
    spec = compile_program(program, target=TARGET)
    assert compile_program(program, target=TARGET) == spec
    unnamed = [instruction._replace(symbol=None) for instruction in spec.instructions]
    assert encode(decode(encode(unnamed))) == encode(unnamed)


@pytest.mark.parametrize("settings", [DatapathSettings(), DatapathSettings(out_port=65535, max_pods=1)])
def test_the_verifier_accepts_every_program(settings: DatapathSettings) -> None:
    """All of them load on the running kernel, under their names."""
    specs = collection(settings)
    infos = load_all(specs)
    assert set(infos) == {program.name for program in PROGRAMS}
    assert {info.name for info in infos.values()} == set(infos)


def test_every_instruction_has_a_source_line() -> None:
    """A rejection can be told in terms of Python: the lines cover the program from its first instruction."""
    for program in PROGRAMS:
        spec = compile_program(program, target=TARGET)
        assert spec.lines[0].slot == 0
        assert all(line.text and line.line > 0 and line.column > 0 for line in spec.lines)
