"""The guest's second disk: the project's copy, the kernel's modules, what to run, and room for results."""

import json
import os
import shutil
import stat
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import attrs

from tools.vm.disk import make_disk
from tools.vm.errors import VmError
from tools.vm.kernel import Kernel
from tools.vm.machine import Machine
from tools.vm.modules import place_modules
from tools.vm.root_image import link_or_copy

RESULTS = "/results"  # on the disk; /vm/results in the guest
LEFT_OUT = {".git", ".venv", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".import_linter_cache"}
LEFT_OUT_AT_TOP = {"build", "dist"}


@attrs.frozen
class Job:
    """What is run in the guest: a command in a copy of `directory`, at the same path."""

    command: Sequence[str]
    directory: Path
    environment: Mapping[str, str]


def make_job_image(job: Job, kernel: Kernel, machine: Machine, workspace: Path) -> Path:
    """Write the disk below `workspace`; raises VmError when there is no room for it."""
    tree = workspace / "job"
    tree.mkdir()
    (tree / RESULTS.lstrip("/")).mkdir()
    place_modules(kernel.modules, tree / "modules")
    _copy_project(job.directory, tree / "project")
    (tree / "job.json").write_text(json.dumps(_description(job, kernel, machine)))
    image = workspace / "job.img"
    make_disk(tree, image)
    shutil.rmtree(tree)
    return image


def _copy_project(directory: Path, target: Path) -> None:
    """Copy the project, compiled bytecode included: an emulated machine takes seconds to compile it again."""
    for folder, folders, files in os.walk(directory, onerror=_cannot_copy):
        links = [name for name in folders if Path(folder, name).is_symlink()]  # os.walk lists them, and goes not there
        left_out = LEFT_OUT | (LEFT_OUT_AT_TOP if Path(folder) == directory else set())
        folders[:] = [name for name in folders if name not in left_out and Path(folder, name) != Path(sys.prefix)]
        inside = target / Path(folder).relative_to(directory)
        inside.mkdir(parents=True)
        for name in (*files, *links):
            _copy_file(Path(folder, name), inside / name)


def _copy_file(source: Path, target: Path) -> None:
    try:
        kind = stat.S_IFMT(source.lstat().st_mode)
        if kind in (stat.S_IFREG, stat.S_IFLNK):  # who would write to a pipe's or a socket's copy?
            link_or_copy(source, target)
    except (FileNotFoundError, PermissionError) as error:
        _cannot_copy(error)


def _cannot_copy(error: OSError) -> None:
    """A temporary file that someone else has removed meanwhile is no loss, one that may not be read is."""
    if not isinstance(error, FileNotFoundError):
        raise VmError(f"cannot copy the project into the machine: {error.filename}: {error.strerror}") from None


def _description(job: Job, kernel: Kernel, machine: Machine) -> dict[str, object]:
    """job.json, as guest_init.py reads it."""
    directory = str(job.directory)
    hidden = [prefix for prefix in {sys.prefix, sys.base_prefix} if prefix.startswith(directory + "/")]
    return {
        "command": list(job.command),
        "directory": directory,
        "environment": {**_environment(kernel, machine), **job.environment},
        "hidden": hidden if machine.is_native else [],
        "output": machine.output,
        "status": machine.status,
    }


def _environment(kernel: Kernel, machine: Machine) -> dict[str, str]:
    system = "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return {
        "PATH": f"{sys.prefix}/bin:{system}" if machine.is_native else system,
        "HOME": "/root",
        "LANG": "C.UTF-8",
        "TERM": "dumb",
        "MERBRIDGE_VM": kernel.name,
        "PYTEST_ADDOPTS": f"--junit-xml=/vm{RESULTS}/junit.xml -p no:cacheprovider",
        "PYTEST_TIMEOUT": "330",  # seconds a test: many, for emulation, yet less than --silence, so that it is named
    }
