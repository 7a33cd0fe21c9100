"""What the cookbook shows works as it is written."""

import os
import re
import subprocess
import sys
from pathlib import Path

from pybpfasm.testing import Cgroup, bpf_cgroup, bpf_file_system  # noqa: F401 - fixtures are found by their names

# ruff: noqa: F811 - fixtures are imported, and then are arguments

ROOT = Path(__file__).parents[3]
_PAGE = (ROOT / "docs" / "cookbook.md").read_text()


def _blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", _PAGE, re.S | re.M)


def _run(command: list[str], **environment: str) -> None:
    names = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=names, timeout=100)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout


def test_the_recipes_run(tmp_path: Path) -> None:
    """The page's code, in order, as one file."""
    recipes = tmp_path / "recipes.py"
    recipes.write_text("\n\n".join(_blocks("python")[:-2]))
    _run([sys.executable, str(recipes)])


def test_the_shell_recipe_runs(tmp_path: Path, bpf_cgroup: Cgroup, bpf_file_system: Path) -> None:
    """The page's commands, with a cgroup and a bpf file system of the test's."""
    script = "set -e\ncd " + str(tmp_path) + "\n" + _blocks("sh")[0]
    places = {"CGROUP": str(bpf_cgroup.path), "PINS": str(bpf_file_system)}
    _run(["bash", "-c", script], PYBPFASM=f"{sys.executable} -m pybpfasm", **places)
    assert not (bpf_file_system / "mine").exists()


def test_the_recipe_for_tests_runs(tmp_path: Path) -> None:
    """Its conftest and its test, with the first recipe's program, under a pytest of its own."""
    *recipes, conftest, test = _blocks("python")
    (tmp_path / "conftest.py").write_text(conftest)
    (tmp_path / "test_guard.py").write_text("\n\n".join([*recipes[:2], test]))
    _run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)])
