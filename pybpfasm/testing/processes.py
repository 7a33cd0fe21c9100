"""A function in a process of its own, with its result or its exception brought back."""

import os
import pickle
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


def run_in_child(prepare: Callable[[], object], function: Callable[[], T]) -> T:
    """What `function` returns, or raises, in a fork of this process that has called `prepare` before.

    The result has to be picklable; an exception that is not comes as a RuntimeError with its text.
    """
    reader, writer = os.pipe()
    pid = _fork()
    if pid == 0:
        os.close(reader)
        _be_child(writer, prepare, function)
    os.close(writer)
    with os.fdopen(reader, "rb") as answers:
        data = answers.read()
    _, status = os.waitpid(pid, 0)
    if not data:
        raise RuntimeError(f"the process ended without an answer: status {os.waitstatus_to_exitcode(status)}")
    succeeded, result = pickle.loads(data)  # noqa: S301 - our own child wrote it
    if not succeeded:
        raise result
    return result  # type: ignore[no-any-return]  # what came through the pipe is what the function gave


def _fork() -> int:
    with warnings.catch_warnings():
        # Other threads' locks may be held in the child (Python 3.12 warns): what it runs is short, and ends by _exit.
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def _be_child(writer: int, prepare: Callable[[], object], function: Callable[[], Any]) -> None:
    try:
        try:
            prepare()
            answer = pickle.dumps((True, function()))
        except BaseException as error:  # noqa: BLE001 - all of it is the parent's to see
            answer = _pickled(error)
        with os.fdopen(writer, "wb") as answers:
            answers.write(answer)
    finally:
        os._exit(0)


def _pickled(error: BaseException) -> bytes:
    try:
        data = pickle.dumps((False, error))
        pickle.loads(data)  # noqa: S301 - an exception may pickle and then not come back
    except Exception:  # noqa: BLE001 - pickling may raise anything
        return pickle.dumps((False, RuntimeError(f"{type(error).__name__}: {error}")))
    return data
