"""What holds for each example: it is on the page, typed, tested, and refuses in one line."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from mypy import api
from running_example import EXAMPLES, run

ROOT = EXAMPLES.parent
FILES = sorted(EXAMPLES.glob("*.py"))


def test_the_page_has_each_once() -> None:
    """docs/examples.md has a row for each file of the folder, and for no other; the page is in the index."""
    page = (ROOT / "docs" / "examples.md").read_text()
    assert sorted(re.findall(r"^\| `(\w+\.py)` \|", page, re.M)) == [each.name for each in FILES]
    assert "\nexamples\n" in (ROOT / "docs" / "index.md").read_text()


def test_the_type_checker_accepts_them() -> None:
    """`mypy --strict`, with the project's settings."""
    out, err, status = api.run(["--config-file", str(ROOT / "pyproject.toml"), "--strict", *map(str, FILES)])
    assert (status, err) == (0, ""), out


def test_each_is_run_by_a_test() -> None:
    """By its name, in this folder."""
    sources = "".join(each.read_text() for each in Path(__file__).parent.glob("test_*.py"))
    assert [each.stem for each in FILES if not re.search(rf'\b(start|run)\("{each.stem}"', sources)] == []


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_it_tells_how_to_run_it(file: Path) -> None:
    """Its docstring begins with what it does, then has a command that runs it."""
    told = ast.get_docstring(ast.parse(file.read_text()))
    assert told is not None
    assert f"\n\n    python examples/{file.name}" in told
    shown = run(file.stem, "--help")
    assert (shown.returncode, shown.stderr) == (0, "")


NOWHERE = {
    "blocklist": ("/no/such/cgroup", "/dev/null"),
    "connect_log": ("/no/such/cgroup",),
    "count_calls": ("/no/such/library", "function"),
    "count_connects": ("/no/such/cgroup", "--", "true"),
    "count_packets": ("nosuch0",),
    "dns_names": ("nosuch0",),
    "flow_table": ("nosuch0",),
    "live_rules": ("/no/such/cgroup",),
    "local_splice": ("/no/such/cgroup",),
    "port_rewrite": ("nosuch0", "80", "8080"),
    "rate_limit": ("nosuch0",),
    "syn_guard": ("nosuch0",),
    "tcp_log": ("/no/such/cgroup",),
    "unlink_guard": ("/no/such/directory",),
    "xdp_firewall": ("nosuch0", "--block", "192.0.2.0/24"),
}


@pytest.mark.parametrize(("name", "arguments"), NOWHERE.items(), ids=list(NOWHERE))
def test_a_place_that_is_not_there(name: str, arguments: tuple[str, ...]) -> None:
    """One line names it."""
    result = run(name, *arguments)
    assert (result.returncode, result.stdout) == (1, "")
    assert re.fullmatch(rf"{name}: .*(nosuch0|/no/such/\w+).*\n", result.stderr), result.stderr


def test_without_privileges() -> None:
    """Who has no capabilities is told so in one line."""
    command = ["setpriv", "--bounding-set", "-all", sys.executable, str(EXAMPLES / "ps.py")]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (1, "")
    assert re.fullmatch(r"ps: .*needs root.*\(EPERM\)\n", result.stderr), result.stderr
