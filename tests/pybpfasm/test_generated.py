"""Generated files are what their generators make."""

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pybpfasm import uapi
from pybpfasm.kernel import _abi
from pybpfasm.uapi import Command, Helper, MapType, NetworkNamespace, SkbClock
from pybpfasm.uapi.declarations import DECLARATIONS
from pybpfasm.uapi.prototypes import Parameter, overloads, prototype
from tools import generate_uapi

ROOT = Path(__file__).parents[2]
HEADER = Path("/usr/include/linux/bpf.h")
PACKAGE = Path(uapi.__file__).parent
HANDWRITTEN = {"prototypes.py"}
ENUMERATIONS = [each for module in generate_uapi.MODULES for each in module.enumerations]


def code_of(path: Path) -> str:
    """A module's code without its comments and layout."""
    return ast.dump(ast.parse(path.read_text()))


def test_the_abi_module_is_what_its_declarations_make(tmp_path: Path) -> None:
    """tools/generate_abi.py makes pybpfasm/kernel/_abi.py again; only a formatter's layout may differ."""
    made = tmp_path / "_abi.py"
    subprocess.run([sys.executable, ROOT / "tools" / "generate_abi.py", made], check=True)
    assert code_of(made) == code_of(Path(_abi.__file__))


def version_in(text: str) -> tuple[int, ...]:
    """The version that a text names, as in (6, 1, 192)."""
    found = re.search(r"(\d+)\.(\d+)\.(\d+)", text)
    assert found is not None, text
    return tuple(map(int, found.groups()))


@pytest.fixture(scope="module")
def header() -> str:
    """The installed uapi header, unless it is newer than the one that the tables come from."""
    if not HEADER.exists():
        pytest.skip(f"{HEADER} is not installed (linux-libc-dev)")
    text, version = generate_uapi.read_given(HEADER)
    if version_in(version) > version_in(uapi.__doc__ or ""):
        pytest.skip(f"{HEADER} is of {version}, newer than the tables: run python -m tools.generate_uapi")
    return text


@pytest.mark.parametrize("enumeration", ENUMERATIONS, ids=lambda each: each.name)
def test_members_are_those_of_the_header(header: str, enumeration: generate_uapi.Enumeration) -> None:
    """Each member that the installed header has is in the committed table, with the same number."""
    ours = {name: int(member) for name, member in getattr(uapi, enumeration.name).__members__.items()}
    theirs = generate_uapi.read_header(header).members(enumeration)
    assert {name: ours.get(name) for name in theirs} == theirs


def test_the_header_has_most_of_the_tables(header: str) -> None:
    """The test above has something to compare: a header of Linux 6.1 lacks a few enums only."""
    read = generate_uapi.read_header(header)
    assert sum(bool(read.members(each)) for each in ENUMERATIONS) > len(ENUMERATIONS) - 12
    assert len(read.enums["bpf_func_id"]) > 200


def test_each_helper_of_the_header_is_declared_as_often(header: str) -> None:
    """What the installed header documents is in the committed table, with the same overloads and argument counts."""

    def shapes(lines: list[str]) -> set[tuple[str, int]]:
        return {(line.partition("(")[0].split()[-1].lstrip("*"), line.count(",")) for line in lines}

    theirs = shapes(generate_uapi.declarations(header))
    assert len(theirs) > 200
    assert theirs <= shapes(DECLARATIONS.splitlines()[1:])


def test_a_c_compiler_reads_the_same_numbers(header: str, tmp_path: Path) -> None:
    """clang agrees with the generator about every member of every enum of the installed header."""
    clang = next(filter(None, map(shutil.which, ("clang", "clang-19", "clang-14"))), None)
    if clang is None:
        pytest.skip("clang is not installed")
    enums = generate_uapi.read_header(header).enums.values()
    checks = [f'_Static_assert({name} == {number}, "");' for enum in enums for name, number in enum.items()]
    assert len(checks) > 500
    source = tmp_path / "members.c"
    source.write_text("\n".join(["#include <linux/bpf.h>", *checks]))
    checked = subprocess.run([clang, "-fsyntax-only", source], capture_output=True, text=True, check=False)
    assert checked.stderr == ""
    assert checked.returncode == 0


def test_the_generator_makes_files_of_the_committed_shape(header: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run on the installed header, the generator makes the committed files, except for members and versions."""
    monkeypatch.setattr(generate_uapi, "check_complete", lambda _: None)
    made = generate_uapi.generate(header, "a test")
    committed = {path.name: path.read_text() for path in PACKAGE.glob("*.py") if path.name not in HANDWRITTEN}
    shape = re.compile(r'^(?:class .*|""".*|    """.*|    "\w+".*)$', re.MULTILINE)
    assert {name: shape.findall(text) for name, text in made.items()} == {
        name: shape.findall(text) for name, text in committed.items()
    }


def test_counting_as_c_does() -> None:
    """Members without a number follow the one before; a member may be named for another; comments do not count."""
    text = "enum x {\n\tX_A, /* first, of many */\n\tX_B = 5,\n\tX_C,\n\tX_D = X_B,\n\tX_E,\n\t__X_MAX,\n};\n"
    enumeration = generate_uapi.choice("X", "x", "X_", "An enum.")
    found = generate_uapi.read_header(text).members(enumeration)
    assert found == {"A": 0, "B": 5, "C": 6, "D": 5, "E": 6}


@pytest.mark.parametrize(
    ("expression", "number"),
    [
        ("0xfffffULL << 32", 0xFFFFF << 32),
        ("(-1L)", -1),
        ("(1U << 31)", 1 << 31),
        ("(ONE - 1) |\n\t\tONE", 1),
        ("0x10", 16),
    ],
)
def test_constant_expressions_of_c(expression: str, number: int) -> None:
    """Suffixes, shifts, signs and other members are understood."""
    assert generate_uapi.evaluate(expression, {"ONE": 1}) == number


def test_an_expression_that_is_not_understood_stops_the_generator() -> None:
    """It is never guessed."""
    with pytest.raises(SystemExit, match=r"cannot evaluate 'sizeof\(int\)': teach evaluate\(\) what it means"):
        generate_uapi.evaluate("sizeof(int)", {})


@pytest.mark.parametrize(
    ("addition", "name"),
    [("enum bpf_new {\n\tBPF_NEW_A,\n};\n", "bpf_new"), ("#define BPF_F_NEW (1U << 0)\n", "BPF_F_NEW")],
)
def test_what_is_new_in_a_header_is_noticed(addition: str, name: str) -> None:
    """A newer header's enum or flag is not lost in silence: it stops the generator."""
    header = generate_uapi.read_header("#define BPF_F_REPLACE (1U << 2)\n" + addition)
    assert generate_uapi.new_in(header) == {name}
    with pytest.raises(SystemExit):
        generate_uapi.check_complete(header)


def test_an_older_headers_helpers_are_counted() -> None:
    """Before Linux 6.2 the list had no numbers; the macro that now makes such a list is no helper."""
    assert generate_uapi.helper_ids("FN(unspec), FN(bind),") == {"BPF_FUNC_unspec": 0, "BPF_FUNC_bind": 1}
    numbered = "FN(unspec, 0, ##ctx) FN(bind, 64, ##ctx)\n#define APPLY(name, value, FN) FN(name),"
    assert generate_uapi.helper_ids(numbered) == {"BPF_FUNC_unspec": 0, "BPF_FUNC_bind": 64}


def test_aliases_are_kept_and_do_not_take_the_name() -> None:
    """Both names of a number are members; messages show the one that is not deprecated."""
    assert Command["PROG_RUN"] is Command["PROG_TEST_RUN"]
    assert MapType["CGROUP_STORAGE_DEPRECATED"] is MapType["CGROUP_STORAGE"]
    assert MapType(19).name == "CGROUP_STORAGE"
    assert SkbClock(0).name == "REALTIME"


def test_numbers_that_are_not_counted() -> None:
    """Negative and distant members keep their numbers."""
    assert int(NetworkNamespace.CURRENT_NETNS) == -1
    assert int(Command.COMMON_ATTRS) == 1 << 16
    assert "MAX_STATES" not in uapi.TcpState.__members__


# An interpreter in which the package above, which imports much of the library, is empty.
ALONE = f"""
import sys, types
sys.modules["pybpfasm"] = package = types.ModuleType("pybpfasm")
package.__path__ = [{str(PACKAGE.parent)!r}]
from pybpfasm import uapi
"""


@pytest.mark.parametrize(
    ("statement", "loaded"),
    [
        ("pass", []),
        ("from pybpfasm.uapi import Helper", ["helpers"]),
        ("uapi.XdpAction.PASS", ["verdicts"]),
        ("uapi.Command; uapi.MapType", ["commands", "map_types"]),
    ],
)
def test_an_enum_costs_its_own_module(statement: str, loaded: list[str]) -> None:
    """Nothing else of the package is imported."""
    listing = "print([name for name in sys.modules if name.startswith('pybpfasm.uapi.')])"
    code = f"{ALONE}\n{statement}\n{listing}"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.strip() == str([f"pybpfasm.uapi.{name}" for name in loaded])


def test_each_public_name_is_an_enum_that_loads() -> None:
    """`__all__`, dir() and the generator's tables name the same enums."""
    assert sorted(each.name for each in ENUMERATIONS) == uapi.__all__ == dir(uapi)
    assert {name: getattr(uapi, name).__name__ for name in uapi.__all__} == {name: name for name in uapi.__all__}


def test_an_unknown_name_is_an_attribute_error() -> None:
    """As in any module."""
    with pytest.raises(AttributeError, match=r"module 'pybpfasm\.uapi' has no attribute 'Nothing'"):
        _ = uapi.Nothing  # type: ignore[attr-defined]  # what a type checker says before


def test_a_prototype_has_types_and_names() -> None:
    """Stars belong to the type; void is no parameter."""
    found = prototype(Helper.MAP_LOOKUP_ELEM)
    assert found.name == "bpf_map_lookup_elem"
    assert found.returns == "void *"
    assert found.parameters == (Parameter("struct bpf_map *", "map"), Parameter("const void *", "key"))
    assert prototype(Helper.KTIME_GET_NS).parameters == ()


def test_only_trace_printk_takes_more_than_its_parameters() -> None:
    """It is marked as variadic and lists what comes before."""
    functions = [helper for helper in Helper if helper]
    assert [helper for helper in functions if prototype(helper).variadic] == [Helper.TRACE_PRINTK]
    assert [each.name for each in prototype(Helper.TRACE_PRINTK).parameters] == ["fmt", "fmt_size"]


def test_each_helper_has_its_prototype_and_each_prototype_its_helper() -> None:
    """Written as C again, the prototypes in the order of the helpers' numbers are the header's declarations."""
    written = [str(each) for helper in Helper if helper for each in overloads(helper)]
    assert written == DECLARATIONS.split("\n")[1:-1]


def test_a_helper_of_many_contexts_has_a_prototype_for_each() -> None:
    """The first one is what `prototype` gives."""
    contexts = [each.parameters[0].type for each in overloads(Helper.GET_SOCKET_COOKIE)]
    assert contexts == ["struct sk_buff *", "struct bpf_sock_addr *", "struct bpf_sock_ops *", "struct sock *"]
    assert prototype(Helper.GET_SOCKET_COOKIE) == overloads(Helper.GET_SOCKET_COOKIE)[0]


def test_what_is_no_function_has_no_prototype() -> None:
    """Number 0 is reserved."""
    with pytest.raises(ValueError, match="bpf_unspec is not a function: it has no prototype"):
        prototype(Helper.UNSPEC)
