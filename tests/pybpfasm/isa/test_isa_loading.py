"""What importing the instruction set loads, and that its public names are true."""

import subprocess
import sys
from pathlib import Path

import pytest

import pybpfasm
from pybpfasm import isa

ROOT = Path(pybpfasm.__file__).parent.parent
HEAVY = {"attr", "attrs", "dataclasses", "inspect", "ast"}

# An interpreter without site-packages' start-up files; the package above isa is made empty, so that isa is seen alone.
ALONE = """
import sys
sys.path.insert(0, {root!r})
package = type(sys)("pybpfasm")
package.__path__ = [{path!r}]
sys.modules["pybpfasm"] = package
"""
WHOLE = "import sys\nsys.path.insert(0, {root!r})\n"


def loaded_by(code: str, before: str = ALONE) -> set[str]:
    """The modules that a bare interpreter has after running the code."""
    start = before.format(root=str(ROOT), path=str(ROOT / "pybpfasm"))
    command = [sys.executable, "-I", "-S", "-c", f"{start}\n{code}\nprint(*sys.modules)"]
    return set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())


def ours(modules: set[str]) -> set[str]:
    """Those of this library, without its name."""
    return {name.removeprefix("pybpfasm.") for name in modules if name.startswith("pybpfasm.")}


def test_an_instruction_costs_little() -> None:
    """Importing Instruction loads no attrs, dataclasses, inspect, ast, re, typing or enum, and one module of isa."""
    modules = loaded_by("from pybpfasm.isa import Instruction")
    assert not modules & (HEAVY | {"re", "typing", "enum"})
    assert ours(modules) == {"errors", "lazy", "isa", "isa.instruction"}


@pytest.mark.parametrize(
    ("code", "modules"),
    [
        ("from pybpfasm.isa import encode", {"isa.encoding", "isa.opcodes", "isa.validity"}),
        ("from pybpfasm.isa import mov", {"isa.construct", "isa.opcodes"}),
        ("from pybpfasm.isa import Label", {"isa.assembler", "isa.opcodes"}),
    ],
)
def test_a_name_loads_its_module(code: str, modules: set[str]) -> None:
    """A name costs the module that it is in and what that needs, never the text syntaxes or the uapi tables."""
    assert ours(loaded_by(code)) == modules | {"errors", "lazy", "isa", "isa.instruction"}


def test_a_syntax_is_loaded_when_it_is_used() -> None:
    """Printing in one syntax does not load the others, nor the helpers' names if no helper is called."""
    modules = ours(loaded_by("from pybpfasm import isa\nisa.format(isa.exit_program(), 'llvm')"))
    assert "isa.text.llvm" in modules
    assert not modules & {"isa.text.kernel", "isa.text.ubpf", "uapi", "uapi.helpers"}


def test_the_library_costs_little() -> None:
    """Importing pybpfasm itself loads none of its rooms."""
    modules = loaded_by("import pybpfasm", before=WHOLE)
    assert not modules & HEAVY
    assert ours(modules) == {"lazy"}


@pytest.mark.parametrize("module", [isa, pybpfasm], ids=lambda module: module.__name__)
def test_every_public_name_is_there(module: object) -> None:
    """Each name of __all__ resolves, none is there twice, and an unknown one is an AttributeError with its name."""
    names: list[str] = module.__all__  # type: ignore[attr-defined]  # both have it
    assert len(set(names)) == len(names)
    for name in names:
        assert getattr(module, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        _ = module.nonsense  # type: ignore[attr-defined]  # that is the mistake


def test_dir_lists_the_public_names() -> None:
    """dir() shows every public name of isa, also before it is loaded."""
    names = loaded_by("from pybpfasm import isa\nfor name in isa.__all__: assert name in dir(isa), name")
    assert "pybpfasm.isa" in names


def test_every_public_thing_says_what_it_is() -> None:
    """Functions and classes of isa have a docstring."""
    for name in isa.__all__:
        found = getattr(isa, name)
        if callable(found) and getattr(found, "__module__", "").startswith("pybpfasm"):
            assert found.__doc__, name
