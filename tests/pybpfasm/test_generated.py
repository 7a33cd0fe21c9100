"""Generated files are what their generators make."""

import ast
import importlib.util
import re
import subprocess
import sys
from enum import IntEnum
from pathlib import Path
from types import ModuleType

import pytest

from pybpfasm import uapi
from pybpfasm.kernel import _abi

ROOT = Path(__file__).parents[2]
HEADER = Path("/usr/include/linux/bpf.h")


def tool(name: str) -> ModuleType:
    """A generator as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def code_of(path: Path) -> str:
    """A module's code without its comments and layout."""
    return ast.dump(ast.parse(path.read_text()))


def test_the_abi_module_is_what_its_declarations_make(tmp_path: Path) -> None:
    """tools/generate_abi.py makes pybpfasm/kernel/_abi.py again; only a formatter's layout may differ."""
    made = tmp_path / "_abi.py"
    subprocess.run([sys.executable, ROOT / "tools" / "generate_abi.py", made], check=True)
    assert code_of(made) == code_of(Path(_abi.__file__))


ENUMS = ["Command", "MapType", "ProgramType", "AttachType"]


@pytest.fixture(scope="module")
def header() -> str:
    """The installed uapi header."""
    if not HEADER.exists():
        pytest.skip(f"{HEADER} is not installed (linux-libc-dev)")
    return HEADER.read_text()


@pytest.mark.parametrize("name", ENUMS)
def test_numbers_are_those_of_the_header(header: str, name: str) -> None:
    """Each name that both the committed file and the installed header have stands for the same number."""
    generator = tool("generate_uapi")
    _, theirs, prefix, _ = next(each for each in generator.ENUMS if each[0] == name)
    installed = {member.removeprefix(prefix): number for member, number in generator.members(header, theirs)}
    ours: type[IntEnum] = getattr(uapi, name)
    committed = {member: int(number) for member, number in ours.__members__.items()}
    common = installed.keys() & committed.keys()
    assert len(common) > 25
    assert {member: installed[member] for member in common} == {member: committed[member] for member in common}


def test_helpers_are_those_of_the_header(header: str) -> None:
    """Each helper that both have has the same number."""
    installed = {name.upper(): number for name, number in tool("generate_uapi").helper_ids(header)}
    committed = {name: int(number) for name, number in uapi.Helper.__members__.items()}
    common = installed.keys() & committed.keys()
    assert len(common) > 150
    assert {name: installed[name] for name in common} == {name: committed[name] for name in common}


def test_the_generator_makes_the_committed_file(header: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run on the installed header, the generator writes a module of the same shape as the committed one."""
    generator = tool("generate_uapi")
    monkeypatch.setattr(generator, "TARGET", tmp_path / "uapi.py")
    monkeypatch.setattr(sys, "argv", ["generate_uapi.py"])
    generator.main()
    made, committed = ((place).read_text() for place in (tmp_path / "uapi.py", Path(uapi.__file__)))
    shapes = [re.findall(r'^(?:class .*|""".*|    """.*)$', text, re.M) for text in (made, committed)]
    assert shapes[0] == shapes[1]


def test_counting_as_c_does() -> None:
    """Members without a number follow the one before; a member may be named for another; comments do not count."""
    text = "enum x {\n\tX_A, /* first, of many */\n\tX_B = 5,\n\tX_C,\n\tX_D = X_B,\n\tX_E,\n\t__X_MAX,\n};\n"
    found = dict(tool("generate_uapi").members(text, "x"))
    assert found == {"X_A": 0, "X_B": 5, "X_C": 6, "X_D": 5, "X_E": 6}
