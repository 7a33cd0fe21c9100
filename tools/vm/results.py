"""The directory that one run, or one matrix, writes its results to."""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tools.vm.errors import VmError

SUMMARY = "summary.json"
REPORT = "junit.xml"


@contextlib.contextmanager
def results_directory(directory: Path) -> Iterator[Path]:
    """Make it, and keep other runs out of it in the body; what an earlier run has left of the same names is removed.

    Raises VmError: it cannot be written to (better known before the run than after), or another run writes to it.
    """
    with contextlib.ExitStack() as held:
        try:
            directory.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=directory).close()
            holder = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
            held.callback(os.close, holder)
            fcntl.flock(holder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            remove_old_results(directory)
        except BlockingIOError:
            raise VmError(f"another run writes its results to {directory}: wait for it, or choose --results") from None
        except OSError as error:
            raise VmError(f"cannot write results to {directory}: {error.strerror} (--results)") from None
        yield directory


def remove_old_results(directory: Path) -> None:
    """What would be taken for the next run's, if that should leave none."""
    for name in (SUMMARY, REPORT):
        (directory / name).unlink(missing_ok=True)


@contextlib.contextmanager
def written(directory: Path) -> Iterator[None]:
    """In the body everything that is written goes to the results."""
    try:
        yield
    except OSError as error:
        # shutil.Error, of a whole tree, has a list: from where, to where, why.
        reason = error.args[0][0][2] if isinstance(error, shutil.Error) else error.strerror
        raise VmError(f"cannot write results to {directory}: {reason} (--results)") from None
