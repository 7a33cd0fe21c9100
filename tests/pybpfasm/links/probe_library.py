"""An ELF file with a function and probe points (USDT), mapped into the test's process: what uprobes are attached to.

    byte 0          0x1000                     0x2000               0x3000
    +--------------+--------------------------+--------------------+------------------------------+
    | ELF header   | probed: nop; nop; nop;   | semaphore          | notes, symbols, names,       |
    | segments     |         ret              | (2 bytes)          | section headers              |
    +--------------+--------------------------+--------------------+------------------------------+

Addresses in it are 0x400000 more than offsets, so that a mistake between the two shows.
"""

import ctypes
import mmap
import platform
import struct
from pathlib import Path

BASE = 0x400000
CODE, SEMAPHORE, TABLES = 0x1000, 0x2000, 0x3000
PROVIDER, PLAIN, GUARDED = "pybpfasm_test", "plain", "guarded"

_IS_X86 = platform.machine() == "x86_64"
_NOP, _RET = (b"\x90", b"\xc3") if _IS_X86 else (b"\x1f\x20\x03\xd5", b"\xc0\x03\x5f\xd6")
_MACHINE = 62 if _IS_X86 else 183
ARGUMENTS = "8@%rdi -4@$3 8@-8(%rbp)" if _IS_X86 else "8@x0 -4@3 8@[sp, 8]"

# Offsets of the instructions in the file: the function's start, then a place for each probe point.
FUNCTION = CODE
PLAIN_PLACES = (CODE + len(_NOP), CODE + 2 * len(_NOP))
GUARDED_PLACE = CODE + 2 * len(_NOP)

_SHT_PROGBITS, _SHT_SYMTAB, _SHT_STRTAB, _SHT_NOTE = 1, 2, 3, 7
_PROT_READ, _PROT_WRITE, _PROT_EXEC, _MAP_PRIVATE = 1, 2, 4, 2


def library_bytes() -> bytes:
    """The file."""
    notes = b"".join(
        [
            _note(PLAIN_PLACES[0], 0, PLAIN),
            _note(PLAIN_PLACES[1], 0, PLAIN),
            _note(GUARDED_PLACE, SEMAPHORE, GUARDED),
        ]
    )
    symbol_names = b"\0probed\0"
    symbols = bytes(24) + struct.pack("<IBBHQQ", 1, 0x12, 0, 1, BASE + FUNCTION, 4 * len(_NOP))
    names = b"\0.text\0.note.stapsdt\0.stapsdt.base\0.symtab\0.strtab\0.shstrtab\0"
    contents = (
        (".text", _SHT_PROGBITS, CODE, BASE + CODE, 4 * len(_NOP), 0, 0),
        (".stapsdt.base", _SHT_PROGBITS, CODE, BASE + CODE, 1, 0, 0),
        (".note.stapsdt", _SHT_NOTE, TABLES, 0, len(notes), 0, 0),
        (".symtab", _SHT_SYMTAB, TABLES + len(notes), 0, len(symbols), 5, 24),
        (".strtab", _SHT_STRTAB, TABLES + len(notes) + len(symbols), 0, len(symbol_names), 0, 0),
        (".shstrtab", _SHT_STRTAB, TABLES + len(notes) + len(symbols) + len(symbol_names), 0, len(names), 0, 0),
    )
    tables = notes + symbols + symbol_names + names
    headers_at = TABLES + len(tables) + -len(tables) % 8
    sections = bytes(64) + b"".join(
        struct.pack("<IIQQQQIIQQ", names.index(name.encode()), kind, 0, address, offset, size, link, 0, 1, entry)
        for name, kind, offset, address, size, link, entry in contents
    )
    header = struct.pack(
        "<16sHHIQQQIHHHHHH",
        *(b"\x7fELF\2\1\1", 3, _MACHINE, 1, 0, 64, headers_at, 0, 64, 56, 2, 64, len(contents) + 1, len(contents)),
    )
    segments = _segment(5, CODE, 0x1000) + _segment(6, SEMAPHORE, 0x1000)
    file = bytearray(headers_at)
    file[: len(header + segments)] = header + segments
    file[CODE : CODE + 4 * len(_NOP)] = _NOP * 3 + _RET
    file[TABLES : TABLES + len(tables)] = tables
    return bytes(file) + sections


def _note(place: int, semaphore: int, name: str) -> bytes:
    """A note as a program that prelink has moved by 0x10 has it: the difference is seen at .stapsdt.base."""
    moved = -0x10
    addresses = (BASE + place + moved, BASE + CODE + moved, BASE + semaphore + moved if semaphore else 0)
    text = b"\0".join(each.encode() for each in (PROVIDER, name, ARGUMENTS)) + b"\0"
    description = struct.pack("<3Q", *addresses) + text
    return struct.pack("<3I8s", 8, len(description), 3, b"stapsdt") + description + bytes(-len(description) % 4)


def _segment(flags: int, offset: int, size: int) -> bytes:
    return struct.pack("<IIQQQQQQ", 1, flags, offset, BASE + offset, BASE + offset, size, size, 0x1000)


class ProbeLibrary:
    """The file, and its code and semaphore as this process has them mapped."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.write_bytes(library_bytes())
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._libc.mmap.restype = ctypes.c_void_p
        self._libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
        self._libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
        with path.open("rb") as file:
            self._code = self._map(file.fileno(), _PROT_READ | _PROT_EXEC, CODE)
            self._data = self._map(file.fileno(), _PROT_READ | _PROT_WRITE, SEMAPHORE)
        self._function = ctypes.CFUNCTYPE(None)(self._code)

    def call(self) -> None:
        """Run the function."""
        self._function()

    @property
    def semaphore(self) -> int:
        """How many probes are attached to the guarded probe point."""
        return ctypes.c_uint16.from_address(self._data).value

    def close(self) -> None:
        """Unmap it."""
        for place in (self._code, self._data):
            self._libc.munmap(place, mmap.PAGESIZE)

    def _map(self, fd: int, protection: int, offset: int) -> int:
        place = self._libc.mmap(None, mmap.PAGESIZE, protection, _MAP_PRIVATE, fd, offset)
        assert place is not None
        assert place != ctypes.c_void_p(-1).value, ctypes.get_errno()
        return int(place)
