"""What `compile`, `check` and `explain` take: FILE.py or FILE.py:NAME, and the kernel that it is compiled for."""

from argparse import ArgumentParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pybpfasm.cli.errors import InputError, UsageError

if TYPE_CHECKING:
    from pybpfasm.compiler.targets import AnyTarget
    from pybpfasm.lang.programs import Program

RUNNING = "running"


def add_target(parser: ArgumentParser) -> None:
    """The option `--target`."""
    parser.add_argument(
        "--target",
        metavar="KERNEL",
        help="a version, as in 6.1, or `running`; default: what all from 5.10 on have",
    )


def target_named(name: str | None) -> "AnyTarget | None":
    """The kernel that `--target` names. Raises `UsageError` for one that is not known."""
    if name is None:
        return None
    from pybpfasm.errors import BpfError
    from pybpfasm.kernel.target import named_target, running_target

    if name == RUNNING:
        return running_target()
    try:
        return named_target(name)
    except BpfError as error:
        raise UsageError(f"--target: {error}, and `{RUNNING}`") from None


def split(text: str) -> tuple[Path, str | None]:
    """FILE and NAME of `FILE[:NAME]`; a file whose own name has a colon is one. Raises `UsageError`."""
    file, colon, name = text.rpartition(":")
    if colon and not name.isidentifier() and Path(file).exists() and not Path(text).exists():
        raise UsageError(f"{text}: {name!r} is no name of a program: {file}:NAME, or {file} for all")
    if colon and name.isidentifier() and not Path(text).exists():
        return Path(file), name
    return Path(text), None


def programs_of(path: Path, name: str | None) -> "list[Program[Any]]":
    """The programs of a file, or the one by this name. Raises `InputError` if there is none."""
    from pybpfasm.cli.python_files import programs

    found = programs(path)
    if name is None:
        return found
    wanted = [each for each in found if each.name == name]
    if not wanted:
        raise InputError(f"{path}: there is no program {name}: there are {', '.join(each.name for each in found)}")
    return wanted


def only_program(text: str) -> "Program[Any]":
    """The program of `FILE:NAME`; `FILE` alone will do where it has one. Raises `UsageError`, `InputError`."""
    path, name = split(text)
    found = programs_of(path, name)
    if len(found) > 1:
        names = ", ".join(each.name for each in found)
        raise UsageError(f"{path} has several programs ({names}): say which, as in {path}:{found[0].name}")
    return found[0]
