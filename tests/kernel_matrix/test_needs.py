"""The marker `needs` itself, on features that are made up."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TESTS = """
import pytest
from pybpfasm.kernel.features import Feature

HERE = Feature("bread", "99.0", lambda: None)
FUTURE = Feature("wings", "99.0", lambda: "the kernel has no wings")
GONE = Feature("wheels", "2.6", lambda: "the kernel has lost its wheels")

@pytest.fixture
def late():
    raise AssertionError("made too early")

@pytest.mark.needs(HERE)
def test_here(): pass

@pytest.mark.needs(HERE, FUTURE)
def test_future(late): pass

@pytest.mark.needs(GONE)
def test_gone(late): pass

def test_called(require): require(FUTURE); assert False
"""


def run(directory: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run these tests with the marker and nothing else."""
    (directory / "test_them.py").write_text(TESTS)
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "PYTEST_ADDOPTS": "-p no:cacheprovider"}
    command = [sys.executable, "-m", "pytest", "-v", "-p", "kernel_matrix.needs", "-c", "/dev/null", "test_them.py"]
    return subprocess.run(
        [*command, *options], cwd=directory, env=environment, capture_output=True, text=True, check=False
    )


def test_outcomes(tmp_path: Path) -> None:
    """Older than the feature: unsupported. Of its version or later: red. No fixture is made."""
    result = run(tmp_path)
    assert result.returncode == 1
    for line in ("test_here PASSED", "test_future UNSUPPORTED", "test_called UNSUPPORTED", "test_gone ERROR"):
        assert line in result.stdout
    assert "1 passed, 1 error, 2 unsupported" in result.stdout
    assert "lacks wheels, which came in 2.6: the kernel has lost its wheels" in result.stdout
    assert (
        "UNSUPPORTED [2] unsupported by this kernel: wings, since Linux 99.0: the kernel has no wings" in result.stdout
    )


@pytest.mark.parametrize(
    ("declared", "complaint"),
    [
        ("tcx=5.0", "no feature is called 'tcx'"),
        ("tcx links", "no feature is called ''"),
        ("tcx links=soon", "'soon' is no Linux version, as in 5.15"),
    ],
)
def test_mistakes_in_declarations_are_told_at_once(tmp_path: Path, declared: str, complaint: str) -> None:
    """Before a test is run, whether or not one is refused anything."""
    result = run(tmp_path, "--declare", declared)
    assert result.returncode == 4
    assert complaint in result.stderr
    assert "test_here" not in result.stdout
