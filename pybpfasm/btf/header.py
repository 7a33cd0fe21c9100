"""The header of a blob, which says where its sections lie (include/uapi/linux/btf.h).

    byte 0       2        3       4               8           12          16          20
    +------------+--------+-------+---------------+-----------+-----------+-----------+-----------+
    | magic      | version| flags | header's size | types:    | types:    | strings:  | strings:  | layout: offset, size
    | 0xeB9F     | 1      | 0     | 24, 32 or more| offset    | size      | offset    | size      | (Linux 7.1)
    +------------+--------+-------+---------------+-----------+-----------+-----------+-----------+

Offsets count from the header's end, sizes are in bytes. The magic number tells the byte order of all but the strings.
The layout section has an entry for each kind, in their order: size of what follows the first three words (1 byte), size
of each counted element (1), flags (2). By it a reader skips kinds that it does not know.
"""

from __future__ import annotations

import struct
from typing import Literal

from pybpfasm.btf.error import BtfError
from pybpfasm.btf.value import Value

ByteOrder = Literal["little", "big"]

MAGIC = 0xEB9F
VERSION = 1
SIZE = 24
_SIZE_WITH_LAYOUT = 32


class Header(Value):
    """What a header says. Each section is a range of byte offsets in the blob."""

    byteorder: ByteOrder
    types: range
    strings: range
    layout: range


def struct_prefix(byteorder: ByteOrder) -> str:
    """The byte order as `struct` writes it."""
    return "<" if byteorder == "little" else ">"


def magic_byteorder(data: bytes, section: str) -> ByteOrder:
    """The byte order that the first two bytes tell; raises `BtfError` if they are no magic number."""
    if data[:2] == MAGIC.to_bytes(2, "little"):
        return "little"
    if data[:2] == MAGIC.to_bytes(2, "big"):
        return "big"
    raise BtfError(f"{data[:2].hex(' ') or 'nothing'} is not the magic number 0x{MAGIC:04x}", 0, section=section)


def parse_header(data: bytes) -> Header:
    """Read the header and check that the sections lie within the data.

    Raises `BtfError`.
    """
    byteorder = magic_byteorder(data, "BTF")
    prefix = struct_prefix(byteorder)
    if len(data) < SIZE:
        raise BtfError(f"the blob ends here, the header has {SIZE} bytes", len(data))
    _, version, flags, size, *sections = struct.unpack_from(prefix + "HBBIIIII", data)
    if (version, flags) != (VERSION, 0):
        raise BtfError(f"version {version} with flags {flags:#x} is not known, only version 1 without flags", 2)
    if not SIZE <= size <= len(data):
        raise BtfError(f"a header of {size} bytes, in a blob of {len(data)}: it has {SIZE} or more", 4)
    sections += struct.unpack_from(prefix + "II", data, SIZE) if size >= _SIZE_WITH_LAYOUT else (0, 0)
    header = Header(
        byteorder,
        _section("types", 8, size, sections[0], sections[1], len(data)),
        _section("strings", 16, size, sections[2], sections[3], len(data)),
        _section("layout", SIZE, size, sections[4], sections[5], len(data)),
    )
    _check_sections(header, data)
    return header


def _section(name: str, place: int, header_size: int, offset: int, size: int, end: int) -> range:
    start = header_size + offset
    if start + size > end:
        raise BtfError(f"the section of {name} is to end at byte {start + size}, the blob has {end}", place)
    return range(start, start + size)


def _check_sections(header: Header, data: bytes) -> None:
    if len(header.types) % 4:
        raise BtfError(f"the section of types has {len(header.types)} bytes, which is no multiple of 4", 12)
    if len(header.layout) % 4:
        raise BtfError(f"the layout section has {len(header.layout)} bytes, an entry has 4", SIZE + 4)
    if header.strings and data[header.strings[-1]]:
        raise BtfError("the last string is not ended by a zero byte", header.strings[-1])


def encode_header(byteorder: ByteOrder, types_size: int, strings_size: int, layout_size: int = 0) -> bytes:
    """The header of a blob whose types, strings and layout follow in this order."""
    size = _SIZE_WITH_LAYOUT if layout_size else SIZE
    fields = [MAGIC, VERSION, 0, size, 0, types_size, types_size, strings_size]
    if layout_size:
        fields += [types_size + strings_size, layout_size]
    return struct.pack(struct_prefix(byteorder) + "HBBIIIII" + ("II" if layout_size else ""), *fields)
