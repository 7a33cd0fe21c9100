"""The tool that tries the library on a folder of objects."""

import subprocess
import sys
from pathlib import Path

from objects import example

from pybpfasm.interop import write_elf

_ROOT = Path(__file__).parents[3]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The tool, as from a shell."""
    command = [sys.executable, "-m", "tools.corpus", *arguments]
    return subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, check=False)


def test_a_sound_folder(tmp_path: Path) -> None:
    """Objects are counted and other files passed over; nothing failed, so the status is 0."""
    (tmp_path / "little.o").write_bytes(write_elf(example()))
    (tmp_path / "big.o").write_bytes(write_elf(example(), "big"))
    (tmp_path / "notes.txt").write_text("no object")
    done = run(str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert "       2 objects" in lines
    assert "       0 failures" in lines


def test_a_damaged_object_fails(tmp_path: Path) -> None:
    """One that is cut off is a failure with its name and the reason, and the status is 1."""
    (tmp_path / "cut.o").write_bytes(write_elf(example())[:-200])
    done = run(str(tmp_path))
    assert done.returncode == 1
    assert "cut.o" in done.stdout
    assert "it is cut off" in done.stdout
