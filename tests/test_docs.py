"""What the documentation shows works as shown."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from merbridge.demo.cgroups import cgroup2_mount
from tools.page_examples import asks_to_be_run, program

ROOT = Path(__file__).parent.parent


def python_blocks(page: Path) -> str:
    """The Python code of a page, in order."""
    return "\n\n".join(re.findall(r"^```python\n(.*?)^```", page.read_text(), re.S | re.M))


@pytest.fixture
def cgroup() -> Iterator[Path]:
    """A cgroup v2 directory of our own."""
    directory = cgroup2_mount() / f"merbridge-docs-{os.getpid()}"
    directory.mkdir()
    yield directory
    directory.rmdir()


def test_the_tutorial_runs_as_written(tmp_path: Path, cgroup: Path) -> None:
    """The pieces, put into one file, print what the page says."""
    script = tmp_path / "count.py"
    script.write_text(python_blocks(ROOT / "docs" / "tutorial.md"))
    result = subprocess.run([sys.executable, str(script), str(cgroup)], capture_output=True, text=True, check=False)
    assert result.stderr == ""
    assert "user 0: 3 connects, 2 to port 8443" in result.stdout
    assert "1: (85) call bpf_get_current_uid_gid#15" in result.stdout
    assert "the kernel rejected program wrong at " in result.stdout
    assert "`return h.get_current_uid_gid()`" in result.stdout


PAGES = [page for page in sorted((ROOT / "docs").glob("*.md")) if asks_to_be_run(page)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_pages_examples_run(page: Path) -> None:
    """What a page of the library shows works as it is written, in a process of its own."""
    result = subprocess.run(
        [sys.executable, "-c", program(page)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stderr) == (0, "")


def test_each_part_of_the_library_has_a_page() -> None:
    """Every public module is on a page whose examples are run."""
    named = {page.stem for page in PAGES}
    assert named >= {"isa", "spec", "btf", "elf", "sim", "cfg"}


def test_the_readmes_program_loads(tmp_path: Path) -> None:
    """The README's example compiles and passes the verifier."""
    script = tmp_path / "example.py"
    load = """
from pybpfasm.compiler import compile_program
from pybpfasm.kernel import Map, Program
spec = compile_program(count_https)
with Map.create(spec.maps["stats"]) as stats_map, Program.load(spec, {"stats": stats_map}) as program:
    print(program.info().name)
"""
    script.write_text(python_blocks(ROOT / "README.md") + load)
    result = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    assert (result.stdout, result.stderr) == ("count_https\n", "")
