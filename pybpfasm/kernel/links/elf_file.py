"""ELF files of user space: where functions lie in them, counted from the file's start, as uprobes want it."""

import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile

from pybpfasm.errors import BpfError, KernelError
from pybpfasm.kernel import sys

_SYMBOL_TABLES = (".symtab", ".dynsym")


@contextmanager
def elf_file(path: Path) -> Iterator[Any]:
    """The file as pyelftools reads it. Raises `KernelError` if it cannot be opened, `BpfError` if it is no ELF file."""
    try:
        with open(path, "rb") as stream:
            yield ELFFile(stream)
    except ELFError as error:
        raise BpfError(f"{path} is no ELF file that can be read: {error}") from None
    except OSError as error:
        if isinstance(error, KernelError):
            raise
        raise sys.failure(error.errno or errno.EIO, f"read {os.fspath(path)}") from None


def symbol_offsets(path: Path, names: Iterable[str]) -> dict[str, int]:
    """The offsets of functions in the file, by name; a name may have its version behind an `@`.

    Raises `BpfError` naming what is missing, or only referred to.
    """
    wanted = set(names)
    with elf_file(path) as elf:
        found = {name: file_offset(elf, address) for name, address in _functions(elf, wanted)}
    missing = sorted(wanted - {name for name, offset in found.items() if offset is not None})
    if missing:
        raise BpfError(f"{path} has no function {', '.join(missing)}: is it stripped, or in another library?")
    return {name: offset for name, offset in found.items() if offset is not None}


def file_offset(elf: Any, address: int) -> int | None:
    """Where in the file lies what is mapped at `address`; None if no segment has it."""
    for segment in elf.iter_segments("PT_LOAD"):
        start = segment["p_vaddr"]
        if start <= address < start + segment["p_filesz"]:
            return int(address - start + segment["p_offset"])
    return None


def _functions(elf: Any, wanted: set[str]) -> Iterator[tuple[str, int]]:
    """Those of the names that are functions of the file, with their addresses; the full table first."""
    bare = {name.partition("@")[0]: name for name in wanted}
    seen: set[str] = set()
    for table in _SYMBOL_TABLES:
        section = elf.get_section_by_name(table)
        for symbol in section.iter_symbols() if section is not None else ():
            name = bare.get(symbol.name.partition("@")[0])
            defined = symbol["st_shndx"] != "SHN_UNDEF" and symbol["st_info"]["type"] in ("STT_FUNC", "STT_GNU_IFUNC")
            if name is not None and defined and name not in seen:
                seen.add(name)
                yield name, symbol["st_value"]
