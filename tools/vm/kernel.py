"""Kernels by name: a Debian suite, a version, or the path of an image."""

import os
import re
import shutil
import sys
import time
from pathlib import Path

import attrs

from tools.vm.apt import Suite
from tools.vm.cache import Cache
from tools.vm.errors import VmError
from tools.vm.machine import Machine

SERIES = {  # suite: the kernel series that Debian keeps there
    "bullseye": "5.10",
    "bookworm": "6.1",
    "trixie": "6.12",
    "bookworm-backports": "6.12",
    "sid": "newest",
}
MATRIX = ("bullseye", "bookworm", "trixie", "sid")
CHECK_AGAIN_SECONDS = 86400


@attrs.frozen
class Kernel:
    """A kernel that can be booted: its image, and the folder with its modules if there is one."""

    name: str
    image: Path
    modules: Path | None


def find_kernel(name: str, modules: Path | None, machine: Machine, cache: Cache) -> Kernel:
    """The kernel that a user names; fetched from Debian when the cache has none of the day. Raises VmError."""
    by_series = {series: suite for suite, series in reversed(SERIES.items())}
    suite = by_series.get(name, name)
    if suite in SERIES:
        if modules is not None:
            raise VmError(f"--modules goes with the path of a kernel image; {name} brings its own modules")
        return _debian_kernel(suite, machine, cache)
    if modules is not None and not modules.is_dir():
        raise VmError(f"--modules {modules}: no such directory; give the one that holds kernel/, as in /lib/modules/…")
    try:
        is_image = Path(name).is_file()
    except OSError as error:
        raise VmError(f"cannot look for a kernel image at {name}: {error.strerror}") from None
    if is_image:
        return Kernel(Path(name).name, Path(name).absolute(), modules)
    known = ", ".join(f"{suite} ({series})" for suite, series in SERIES.items())
    raise VmError(f"no kernel {name!r}: give one of {known}, or the path of a kernel image")


def _debian_kernel(suite: str, machine: Machine, cache: Cache) -> Kernel:
    with cache.lock(f"suite-{machine.architecture}-{suite}"):
        folder = _newest_in_cache(suite, machine, cache)
        os.utime(folder)
    return Kernel(suite, folder / "vmlinuz", folder / "modules")


def _newest_in_cache(suite: str, machine: Machine, cache: Cache) -> Path:
    """The suite's kernel; asks the mirror once a day, and keeps what there is when the mirror does not answer."""
    note = cache.directory / "suites" / machine.architecture / suite
    known = Path(cache.directory, note.read_text()) if note.is_file() else None
    if known and known.is_dir() and time.time() - note.stat().st_mtime < CHECK_AGAIN_SECONDS:
        return known
    try:
        folder = _fetch(
            Suite(suite, machine.architecture, cache.directory / "apt" / machine.architecture / suite), cache
        )
    except VmError as error:
        if known is None or not known.is_dir():
            raise
        print(f"tools.vm: using the cached {known.name}: {error}", file=sys.stderr)
        return known
    note.parent.mkdir(parents=True, exist_ok=True)
    note.write_text(str(folder.relative_to(cache.directory)))
    newest = {cache.directory / each.read_text() for each in note.parents[1].glob("*/*")}  # of every suite known here
    cache.remove_unused("kernels", keep=newest)
    return folder


def _fetch(suite: Suite, cache: Cache) -> Path:
    """The newest cloud kernel of a suite, from the cache if that very version is there."""
    suite.update()
    packages = _kernel_packages(suite)
    version = suite.field(packages[0], "Version")

    def build(folder: Path) -> None:
        with cache.workspace() as workspace:
            print(f"tools.vm: downloading {packages[0]} of Debian {suite.name}", file=sys.stderr)
            suite.unpack(packages, workspace, workspace / "tree")
            _keep(workspace / "tree", folder, packages[0])

    return cache.entry(f"kernels/{packages[0]}_{version.replace(':', '-')}", build)


def _kernel_packages(suite: Suite) -> list[str]:
    """The packages behind linux-image-cloud-…; since 7.x the image's own is empty and depends on two others."""
    packages: list[str] = []
    queue = [f"linux-image-cloud-{suite.architecture}"]
    while queue:
        depends = suite.field(queue.pop(), "Depends")
        found = re.findall(r"\blinux-(?:image|binary|modules)-\d[^\s,]*", depends)
        packages += found
        queue += found
    if not packages:
        raise VmError(f"Debian {suite.name} has no cloud kernel for {suite.architecture}")
    return packages


def _keep(tree: Path, folder: Path, package: str) -> None:
    """Of the unpacked packages, keep the image (since 7.x it lies beside the modules) and the modules."""
    images = [*tree.glob("boot/vmlinuz-*"), *tree.glob("**/lib/modules/*/vmlinuz")]
    modules = list(tree.glob("**/lib/modules/*"))
    if not images or not modules:
        raise VmError(f"package {package} holds no kernel: its layout has changed, tools/vm/kernel.py must follow")
    folder.mkdir()
    shutil.copy(images[0], folder / "vmlinuz")
    shutil.move(modules[0], folder / "modules")
