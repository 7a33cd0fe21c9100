"""The Debian programs that the runner starts, and the line a user reads when one is missing or fails."""

import os
import shutil
import subprocess
from pathlib import Path

from tools.vm.errors import VmError

PACKAGES = {
    "apt-cache": "apt",
    "apt-get": "apt",
    "debugfs": "e2fsprogs",
    "dpkg": "dpkg",
    "ldd": "libc-bin",
    "mke2fs": "e2fsprogs",
    "qemu-system-aarch64": "qemu-system-arm",
    "qemu-system-x86_64": "qemu-system-x86",
    "setpriv": "util-linux",
    "zstd": "zstd",
}


def search_path() -> str:
    """PATH with the system's own directories of administration, which a user's PATH often lacks."""
    return os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"


def find_program(name: str) -> str:
    """A program's path; raises VmError that names the Debian package to install."""
    found = shutil.which(name, path=search_path())
    if found is None:
        raise VmError(f"{name} is not installed: run `apt-get install {PACKAGES[name]}`")
    return found


def ends_with_us(signal: str = "KILL") -> list[str]:
    """The words before a command whose process must not outlive this one, even when this one is killed."""
    return [find_program("setpriv"), "--pdeathsig", signal, "--"]


def run_program(*command: str, attempted: str, directory: Path | None = None) -> str:
    """What a program prints; raises VmError with `attempted` and the program's own last words when it fails."""
    result = subprocess.run(
        [find_program(command[0]), *command[1:]],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        cwd=directory,
        env={**os.environ, "LC_ALL": "C.UTF-8", "PATH": search_path()},
        check=False,
    )
    if result.returncode:
        raise VmError(f"cannot {attempted}: {command[0]}: {_last_words(result.stderr, result.returncode)}")
    return result.stdout


def _last_words(stderr: str, status: int) -> str:
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("E: ")]
    return next(iter(errors or lines[-1:]), f"exit status {status}")
