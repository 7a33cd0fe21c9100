"""docs/language.md shows a program that works, and names everything that a program's author imports."""

import re
from pathlib import Path

from written_modules import import_source

import pybpfasm
from pybpfasm.compiler import compile_program
from pybpfasm.kernel.maps import Map
from pybpfasm.kernel.programs import Program

PAGE = (Path(__file__).parents[2] / "docs" / "language.md").read_text()


def test_the_pages_program_passes_the_verifier(tmp_path: Path) -> None:
    """The first program on the page compiles and loads as it stands there."""
    shown = re.search(r"^```python\n(.*?)^```", PAGE, re.S | re.M)
    assert shown is not None
    spec = compile_program(import_source(shown[1], tmp_path).count)
    with Map.create(spec.maps["stats"]) as stats, Program.load(spec, {"stats": stats}) as program:
        assert program.info().name == "count"


def test_the_page_names_what_there_is() -> None:
    """Each type, decorator and conversion that a program can use is on the page."""
    not_of_the_language = {"BPF_ANY", "BPF_EXIST", "BPF_NOEXIST", "BPF_F_NO_PREALLOC", "Program", "Sock"}
    missing = [name for name in pybpfasm.__all__ if not re.search(rf"\b{name}\b", PAGE)]
    assert set(missing) <= not_of_the_language
