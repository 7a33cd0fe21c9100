"""What the library's tests share: modules written on the fly, a cgroup with a process in it, a bpf file system."""

import gc
import os
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import checked_form
import pytest
from cgroup_caller import Caller, cgroup2_mount
from written_modules import PRELUDE, MakeModule, import_source

from pybpfasm.kernel import sys as kernel

checked_form.install()


@pytest.fixture
def write_module(tmp_path: Path) -> Iterator[MakeModule]:
    """Make a module of source text, with all that a program's author imports."""
    before = set(sys.modules)
    yield lambda source: import_source(PRELUDE + textwrap.dedent(source), tmp_path)
    for name in set(sys.modules) - before:
        if name.startswith("written_"):
            del sys.modules[name]


@pytest.fixture(autouse=True)
def _no_descriptor_is_left() -> Iterator[None]:
    """Every test: what it opened is closed again."""
    before = _descriptors()
    yield
    if _descriptors() != before:
        gc.collect()  # slow, and seldom needed
    left = {number: name for number, name in _descriptors().items() if before.get(number) != name}
    assert not left, f"file descriptors left open: {left}"


def _descriptors() -> dict[str, str]:
    found = {}
    for number in os.listdir("/proc/self/fd"):
        try:
            found[number] = os.readlink(f"/proc/self/fd/{number}")
        except FileNotFoundError:  # the listing's own descriptor
            continue
    return {number: name for number, name in found.items() if name.startswith("anon_inode:bpf")}


@pytest.fixture(scope="session")
def caller() -> Iterator[Caller]:
    """A process in a fresh cgroup; both are gone afterwards."""
    cgroup = cgroup2_mount() / f"pybpfasm-test-{uuid4().hex[:8]}"
    cgroup.mkdir()
    try:
        process = Caller(cgroup)
        try:
            process.enter()
            yield process
        finally:
            process.close()
    finally:
        cgroup.rmdir()


@pytest.fixture
def bpffs(tmp_path: Path) -> Iterator[Path]:
    """A bpf file system of the test's own."""
    place = tmp_path / "bpffs"
    place.mkdir()
    kernel.mount("bpf", str(place), "bpf")
    try:
        yield place
    finally:
        kernel.umount(str(place))
