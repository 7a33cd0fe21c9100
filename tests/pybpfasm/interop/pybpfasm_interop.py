"""C sources of these tests, compiled; a test without the compiler is skipped."""

import shutil
import subprocess
from pathlib import Path

import pytest

SOURCES = Path(__file__).parent / "c"
COMPILERS = ("clang-14", "clang-19")


def tool(name: str) -> str:
    """The path of a program, or a skipped test that names it."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def compiled(name: str, folder: Path, *, compiler: str = "clang-19", target: str = "bpfel", cpu: str = "v3") -> bytes:
    """The object of `c/NAME.c`."""
    output = folder / f"{name}-{compiler}-{target}.o"
    source = SOURCES / f"{name}.c"
    command = [tool(compiler), "-g", "-O2", "-target", target, f"-mcpu={cpu}", "-c", str(source), "-o", str(output)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return output.read_bytes()
