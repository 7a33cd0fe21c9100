"""The fixtures. Each takes down what it made whatever the test did, the last one first."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from pybpfasm.kernel import sys
from pybpfasm.kernel.collection import Collection
from pybpfasm.lang.programs import Program
from pybpfasm.spec import CollectionSpec, MapSpec, ProgramSpec
from pybpfasm.testing.cgroups import Cgroup
from pybpfasm.testing.networks import Network

Loadable = Program[Any] | ProgramSpec | CollectionSpec
Load = Callable[..., Collection]


@pytest.fixture
def bpf_cgroup() -> Iterator[Cgroup]:
    """A cgroup (v2) of the test's own; the processes in it end with the test."""
    _require_root("a cgroup")
    cgroup = Cgroup()
    try:
        yield cgroup
    finally:
        cgroup.close()


@pytest.fixture
def bpf_network() -> Iterator[Network]:
    """Two network namespaces, joined by a veth pair."""
    _require_root("network namespaces")
    network = Network()
    try:
        yield network
    finally:
        network.close()


@pytest.fixture
def bpf_file_system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a bpf file system of the test's own; what is pinned in it goes with it."""
    _require_root("a bpf file system")
    place = tmp_path_factory.mktemp("bpf")
    sys.mount("bpf", str(place), "bpf")
    try:
        yield place
    finally:
        sys.umount(str(place))
        place.rmdir()


@pytest.fixture
def bpf_load() -> Iterator[Load]:
    """A function that loads programs and maps: `bpf_load(program, …, CONSTANT=1)`, or a `CollectionSpec`.

    Programs are those of Python functions, compiled with the constants given, or specs. It returns a
    `pybpfasm.kernel.collection.Collection`, which is closed at the end of the test, its links before.
    """
    _require_root("programs in the kernel")
    with ExitStack() as loaded:
        yield lambda *programs, **constants: loaded.enter_context(Collection.load(_together(programs, constants)))


def _together(programs: tuple[Loadable, ...], constants: dict[str, Any]) -> CollectionSpec:
    """One collection of what was given."""
    from pybpfasm.compiler import compile_collection

    specs: dict[str, ProgramSpec] = {}
    maps: dict[str, MapSpec] = {}
    compiled = compile_collection([each for each in programs if isinstance(each, Program)], constants, {})
    for each in (compiled, *programs):
        if isinstance(each, CollectionSpec):
            specs.update(each.programs)
            maps.update(each.maps)
        elif isinstance(each, ProgramSpec):
            specs[each.name] = each
            maps.update(each.maps)
    return CollectionSpec(specs, maps)


def _require_root(what: str) -> None:
    """An error, not a skip: a test that asks for the kernel and does not get it has not passed."""
    if os.geteuid() != 0:
        pytest.fail(f"{what} for a test: run pytest as root (sudo -E env PATH=$PATH pytest …)", pytrace=False)
