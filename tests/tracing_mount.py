"""tracefs and securityfs for tests, on machines where nobody has mounted them."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pybpfasm.errors import KernelError
from pybpfasm.kernel import sys as kernel
from pybpfasm.kernel.features import Feature
from pybpfasm.kernel.tracefs import tracefs


@contextmanager
def mounted_tracefs() -> Iterator[Path]:
    """Where tracefs is; mounted for the time of the block if it was not."""
    found = _found()
    if found is not None:
        yield found
        return
    with _mounted("tracefs") as place:
        yield place


def _inactive() -> str | None:
    with _mounted("securityfs") as place:
        active = (place / "lsm").read_text()
    return None if "bpf" in active.split(",") else f"the active security modules are {active}"


# What LSM programs need to be called at all; Debian's kernels have it in their list from 6.1 on.
LSM_ACTIVE = Feature("bpf among the active security modules", "6.1", _inactive, "CONFIG_LSM")


@contextmanager
def _mounted(kind: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as place:
        kernel.mount(kind, place, kind)
        try:
            yield Path(place)
        finally:
            kernel.umount(place)


def _found() -> Path | None:
    try:
        return tracefs()
    except KernelError:
        return None
