"""Examples that are attached to functions of the kernel; where that is forbidden they are run in virtual machines."""

import os
from pathlib import Path

import pytest
from running_example import Start
from tracing_mount import LSM_ACTIVE

from pybpfasm.kernel import features


@pytest.mark.needs(features.KPROBES)
def test_opensnoop(start: Start, tmp_path: Path) -> None:
    """An open that fails is told with its error, one that does not with its descriptor."""
    example = start("opensnoop")
    example.wait_for("^PID +COMMAND +RESULT +FILE")
    there, nowhere = tmp_path / "there", tmp_path / "nowhere"
    there.write_text("")
    descriptor = os.open(there, os.O_RDONLY)
    os.close(descriptor)
    with pytest.raises(FileNotFoundError):
        os.open(nowhere, os.O_RDONLY)
    example.wait_for(rf"^{os.getpid()} +\S+ +\d+ +{there}$")
    example.wait_for(rf"^{os.getpid()} +\S+ +{descriptor} +{there}$")
    example.wait_for(rf"^{os.getpid()} +\S+ +ENOENT +{nowhere}$")
    example.stop()


@pytest.mark.needs(features.LSM, LSM_ACTIVE)
def test_unlink_guard(start: Start, tmp_path: Path) -> None:
    """A file of the directory stays, one beside it goes; when the guard has ended both do."""
    guarded = tmp_path / "guarded"
    guarded.mkdir()
    kept, other = guarded / "kept", tmp_path / "other"
    kept.write_text("")
    other.write_text("")
    example = start("unlink_guard", guarded)
    example.wait_for("^files of .* stay")
    with pytest.raises(PermissionError):
        kept.unlink()
    example.wait_for(rf"\[{os.getpid()}\] was refused to delete kept$")
    other.unlink()
    example.stop()
    kept.unlink()
