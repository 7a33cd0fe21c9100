"""What `run_script` makes of a script's end."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

HEAD = """
import time
from pybpfasm.errors import BpfError, KernelError
from pybpfasm.scripts import run_script

def main():
    print("begun")
"""
TAIL = "\nrun_script(main)\n"


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """Where a script is to be written."""
    return tmp_path / "my_script.py"


@pytest.mark.parametrize(
    ("statement", "status", "told"),
    [
        ("return 5", 0, ""),
        ("raise BpfError('no such thing')", 1, "my_script: no such thing\n"),
        ("raise KernelError(1, 'cannot do it (EPERM)')", 1, "my_script: cannot do it (EPERM)\n"),
        ("raise BpfError('a\\x1bb')", 1, "my_script: a\N{REPLACEMENT CHARACTER}b\n"),
        ("open('/nowhere/at/all')", 1, "my_script: /nowhere/at/all: No such file or directory\n"),
        ("raise SystemExit(7)", 7, ""),
    ],
)
def test_ends(script: Path, statement: str, status: int, told: str) -> None:
    """Each has its exit status, and a line at most."""
    script.write_text(f"{HEAD}    {statement}{TAIL}")
    result = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (status, told)


def test_a_mistake_of_the_author_is_a_traceback(script: Path) -> None:
    """One line would not help who has to mend it."""
    script.write_text(f"{HEAD}    1 // 0{TAIL}")
    result = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stderr.startswith("Traceback")


def test_lines_come_at_once_and_ctrl_c_ends(script: Path) -> None:
    """A line is in the pipe before the script has ended; it ends with 130 and no word."""
    script.write_text(f"{HEAD}    time.sleep(60){TAIL}")
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, str(script)], stdout=pipe, stderr=pipe) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"begun\n"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (130, b"", b"")


def test_a_reader_that_has_gone(script: Path) -> None:
    """As of a command whose output goes to `head`: 141 and no word."""
    script.write_text(HEAD + TAIL)
    reader, writer = os.pipe()
    os.close(reader)
    result = subprocess.run([sys.executable, str(script)], stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert (result.returncode, result.stderr) == (141, b"")
