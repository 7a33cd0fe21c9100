"""Programs that the kernel holds: their instructions, and the names of what they call."""

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from pybpfasm.cli.errors import InputError

if TYPE_CHECKING:
    from pybpfasm.isa import Instruction

_SYMBOLS = "/proc/kallsyms"
_UNKNOWN_CALL = re.compile(r"call unknown#(-?\d+)")
_BASE = "__bpf_call_base"


def is_loaded(name: str) -> bool:
    """Whether an input is `id:N`, or a name in a bpf file system."""
    if name.startswith("id:"):
        return True
    folder = Path(name).parent
    if not os.path.isdir(folder):
        return False
    try:
        from pybpfasm.kernel import is_bpffs
    except (ImportError, OSError):  # not on Linux, or without cffi
        return False
    return is_bpffs(folder)


def loaded_program(name: str) -> "tuple[str, list[Instruction]]":
    """The name of a loaded program and its instructions as the verifier left them.

    Raises `InputError` for an id that is no number, `KernelError` if there is no such program or this process may not
    see it.
    """
    from pybpfasm.kernel import Program

    if not name.startswith("id:"):
        with Program.open(Path(name)) as program:
            return program.spec.name, list(program.xlated())
    if not re.fullmatch(r"id:[0-9]{1,10}", name):
        raise InputError(f"{name}: an id is a number: id:12")
    with Program.by_id(int(name[3:])) as program:
        return program.spec.name, list(program.xlated())


def with_called_names(lines: list[str]) -> list[str]:
    """The lines of a loaded program, with names where calls have a distance from the kernel's `__bpf_call_base`.

    Lines stay as they are where the kernel does not show addresses (kptr_restrict).
    """
    wanted = {int(found[1]) for line in lines for found in _UNKNOWN_CALL.finditer(line)} - {0}
    names = _names_at(wanted) if wanted else {}
    return [_UNKNOWN_CALL.sub(lambda found: f"call {names.get(int(found[1]), 'unknown')}#{found[1]}", x) for x in lines]


def _names_at(distances: set[int]) -> dict[int, str]:
    try:
        with open(_SYMBOLS) as file:
            symbols = [line.split() for line in file]
    except OSError:
        return {}
    base = next((int(fields[0], 16) for fields in symbols if fields[2] == _BASE), 0)
    if not base:
        return {}
    wanted = {base + distance: distance for distance in distances}
    names: dict[int, str] = {}
    for address, _, symbol, *_ in symbols:
        distance = wanted.get(int(address, 16))
        if distance is not None:
            names.setdefault(distance, symbol)
    return names
