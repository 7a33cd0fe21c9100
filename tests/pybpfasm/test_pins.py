"""Pins: names that a bpf file system takes, those that it refuses, and what is no pin."""

import errno
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pybpfasm.errors import BpfError, KernelError
from pybpfasm.kernel import Link, Map, Program, ensure_bpffs, open_pin
from pybpfasm.spec import MapSpec, Untyped
from pybpfasm.uapi import MapType

SPEC = MapSpec("pinned", MapType.HASH, Untyped(4), Untyped(8), 4)


@pytest.fixture
def small() -> Iterator[Map]:
    """A map to be pinned."""
    with Map.create(SPEC) as made:
        yield made


def refused(number: int, said: str, action: Callable[[], object]) -> None:
    """The action fails with that errno, in one line that says so."""
    with pytest.raises(KernelError) as caught:
        action()
    assert caught.value.errno == number
    assert re.search(said, str(caught.value)), caught.value
    assert "\n" not in str(caught.value)


def names(place: Path) -> set[str]:
    """What is pinned there, without the kernel's own two (CONFIG_BPF_PRELOAD)."""
    return set(os.listdir(place)) - {"progs.debug", "maps.debug"}


@pytest.mark.parametrize("name", ["a b", "é", "-", "a'\"$b", "x" * 255])
def test_odd_names(small: Map, bpffs: Path, name: str) -> None:
    """What a file may be called a pin may be, by a `Path` or as text."""
    small.pin(str(bpffs / name))
    with Map.open(f"{bpffs}/{name}", SPEC) as again:
        assert again.info().id == small.info().id


def test_a_name_with_a_dot(small: Map, bpffs: Path) -> None:
    """The file system keeps dots for itself, and says EPERM: that is no want of a capability."""
    refused(
        errno.EPERM,
        r"foo\.bar: a name in a bpf file system has no dots \(EPERM\)$",
        lambda: small.pin(bpffs / "foo.bar"),
    )
    refused(errno.EPERM, "no dots", lambda: Map.open(bpffs / "foo.bar"))


def test_a_zero_byte_ends_no_name(small: Map, bpffs: Path) -> None:
    """The kernel would read up to it, and pin, or open, something else."""
    small.pin(bpffs / "a")
    for action in (lambda: small.pin(bpffs / "a\0b"), lambda: Map.open(bpffs / "a\0b")):
        refused(errno.EINVAL, r"a\\0b: a path has no zero byte in it \(EINVAL\)$", action)
    assert names(bpffs) == {"a"}


def test_places_that_are_none(small: Map, bpffs: Path, tmp_path: Path) -> None:
    """Taken, missing, a file, a directory, elsewhere: each says what is there, and mostly what to do."""
    small.pin(bpffs / "taken")
    file = tmp_path / "file"
    file.write_text("")
    refused(
        errno.EEXIST, "taken: the name is taken: open what is there, or remove it", lambda: small.pin(bpffs / "taken")
    )
    refused(errno.ENOENT, f"there is no directory {bpffs}/no", lambda: small.pin(bpffs / "no" / "thing"))
    refused(errno.ENOTDIR, f"{file} is not a directory", lambda: small.pin(file / "x"))
    refused(errno.EPERM, "not in a bpf file system: ensure_bpffs mounts one", lambda: small.pin(tmp_path / "x"))
    refused(errno.ENOENT, "nothing is pinned there", lambda: Map.open(bpffs / "nothing"))
    refused(errno.EACCES, "it is a directory or a file, no pin", lambda: Map.open(file))
    refused(errno.EACCES, "it is a directory or a file, no pin", lambda: open_pin(bpffs))
    assert names(bpffs) == {"taken"}


def test_the_kind_that_is_pinned_is_named(small: Map, bpffs: Path) -> None:
    """A map is opened as a program, or as a link."""
    small.pin(bpffs / "map")
    for opens, kind in ((Program.open, "program"), (Link.open, "link")):
        said = rf"map as a {kind}: it is another kind of object, a map \(EINVAL\)$"
        refused(errno.EINVAL, said, lambda opens=opens: opens(bpffs / "map"))


def test_a_pin_that_this_user_may_not_open(small: Map, bpffs: Path) -> None:
    """The file's mode counts, not BPF's capabilities."""
    small.pin(bpffs / "map")
    child = os.fork()
    if not child:
        status = 1
        try:
            os.seteuid(65534)
            refused(errno.EACCES, "this user may not open it", lambda: Map.open(bpffs / "map"))
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0


def test_a_file_system_that_cannot_be_mounted(tmp_path: Path) -> None:
    """Without the privilege one line says so, and the directories made for it are gone again."""
    tmp_path.chmod(0o777)
    for parent in tmp_path.parents:
        if parent.owner() == "root" and parent != Path("/"):
            parent.chmod(parent.stat().st_mode | 0o011)
    child = os.fork()
    if not child:
        status = 1
        try:
            os.seteuid(65534)
            refused(
                errno.EPERM, "cannot mount bpf on .*: it needs root, or", lambda: ensure_bpffs(tmp_path / "a" / "b")
            )
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    assert os.listdir(tmp_path) == []


def test_a_file_where_the_file_system_is_to_be(tmp_path: Path) -> None:
    """A file, below a file, a directory with files in it: nothing is mounted over."""
    (tmp_path / "file").write_text("")
    refused(errno.EEXIST, "a file of that name is there", lambda: ensure_bpffs(tmp_path / "file"))
    refused(errno.ENOTDIR, "a part of the path is a file", lambda: ensure_bpffs(tmp_path / "file" / "below"))
    with pytest.raises(BpfError, match="is an ordinary directory that is not empty"):
        ensure_bpffs(tmp_path)
