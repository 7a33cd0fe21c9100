"""The tables of docs/kernels.md say where each map type and each kind of link is seen at work, and it is so."""

import re
from pathlib import Path

import pytest

from pybpfasm.uapi import MapType

TESTS = Path(__file__).parents[1]
PAGE = (TESTS.parent / "docs" / "kernels.md").read_text()
ARGUMENTS = (TESTS / "kernel_matrix" / "in-vm.args").read_text().splitlines()

SECTION = PAGE.partition("\n## Where each map type")[2].partition("\n## ")[0]
ROWS = re.findall(r"^\| ([^|]+) \| (here|machines) \| `([^`]+)` \|$", SECTION, re.M)


def kinds(rows: list[tuple[str, str, str]]) -> list[str]:
    """What the rows' first cells name."""
    return [kind for row in rows for kind in row[0].split(", ")]


def test_every_map_type_is_named_once() -> None:
    """A new type of uapi turns this red until it is seen at work."""
    named = [kind for kind in kinds(ROWS) if kind in MapType.__members__]
    assert sorted(named) == sorted(each.name for each in MapType if each)


def test_every_kind_of_link_of_the_suite_is_named() -> None:
    """The suite's kinds are those of the table, under the same names."""
    links = TESTS / "pybpfasm" / "links"
    suite = (links / "networking_kinds.py").read_text() + (links / "tracing_kinds.py").read_text()
    names = re.findall(r'^        name="([^"]+)",$', suite, re.M)
    assert len(names) > 20
    assert set(names) - set(kinds(ROWS)) == set()


@pytest.mark.parametrize(("kind", "where", "test"), ROWS, ids=[row[0] for row in ROWS])
def test_each_row_names_a_test_that_is_run_there(kind: str, where: str, test: str) -> None:
    """The test exists; one of the machines is among what `make vmtest` runs."""
    file, _, name = test.partition("::")
    assert f"\ndef {name}(" in (TESTS / "pybpfasm" / file).read_text()
    if where == "machines":
        run = {f"tests/pybpfasm/{test}", f"tests/pybpfasm/{file}"} & set(ARGUMENTS)
        assert run, f"{kind}: {test} is not in in-vm.args"
        suites = ("test_link_conformance", "test_map_conformance")
        if any(suite in file for suite in suites):
            words = ARGUMENTS[ARGUMENTS.index("-k") + 1]
            assert all(each.partition(".")[0] in words for each in kind.split(", ")), words
