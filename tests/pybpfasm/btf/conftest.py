"""The tools that say the same in another way, and the types of the running kernel."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from pybpfasm.btf import Btf, kernel_btf

_PATH = "/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/bin"  # /usr/sbin need not be on PATH


def _found(*names: str) -> str:
    for name in names:
        path = shutil.which(name) or shutil.which(name, path=_PATH)
        if path is not None:
            return path
    pytest.skip(f"{names[0]} is not installed: nothing else says the same")


@pytest.fixture(scope="session")
def bpftool() -> str:
    """bpftool's path."""
    return _found("bpftool")


@pytest.fixture(scope="session")
def clang() -> str:
    """clang's path."""
    return _found("clang-19", "clang")


@pytest.fixture(scope="session")
def kernel() -> Btf:
    """The running kernel's types."""
    if not Path("/sys/kernel/btf/vmlinux").exists():
        pytest.skip("/sys/kernel/btf/vmlinux is missing: this kernel has no BTF")
    return kernel_btf()


@pytest.fixture(scope="session")
def kernel_header(kernel: Btf) -> str:
    """The running kernel's types in C."""
    return kernel.dump_c()


@pytest.fixture
def compiled(clang: str, tmp_path: Path) -> Callable[[str], str]:
    """Gives what clang says against a piece of C: nothing, if it is right."""

    def run(text: str) -> str:
        source = tmp_path / "types.c"
        source.write_text(text)
        command = [clang, "-fsyntax-only", "-std=gnu11", "-w", "-ferror-limit=20", str(source)]
        return subprocess.run(command, capture_output=True, text=True, check=False).stderr

    return run


@pytest.fixture
def sections(clang: str, tmp_path: Path) -> Callable[[str], tuple[bytes, bytes]]:
    """Gives .BTF and .BTF.ext that clang makes of a BPF program in C."""
    objcopy = _found("llvm-objcopy-19", "llvm-objcopy")

    def run(text: str) -> tuple[bytes, bytes]:
        source, made = tmp_path / "program.c", tmp_path / "program.o"
        source.write_text(text)
        subprocess.run([clang, "-target", "bpf", "-g", "-O2", "-c", str(source), "-o", str(made)], check=True)
        types, ext = tmp_path / "types", tmp_path / "ext"
        dump = [f"--dump-section=.BTF={types}", f"--dump-section=.BTF.ext={ext}"]
        subprocess.run([objcopy, *dump, str(made), str(tmp_path / "rest")], check=True)
        return types.read_bytes(), ext.read_bytes()

    return run
