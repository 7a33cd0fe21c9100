"""Fields of a context: where each lies, how it may be accessed, and what its bytes mean.

A test sees a field as what it means: a port is a number and an address is text, whatever order their bytes have. A
program sees the bytes, laid out as uapi linux/bpf.h has them.
"""

import ipaddress
from collections.abc import Iterable
from typing import Any

import attrs

from pybpfasm.sim.errors import SimError
from pybpfasm.sim.memory import ByteOrder

_NARROW = {1: (1,), 2: (1, 2), 4: (1, 2, 4), 8: (1, 2, 4, 8)}


@attrs.frozen
class Kind:
    """What a field's bytes mean; this one is a number in the machine's byte order."""

    def pack(self, value: Any, width: int, order: ByteOrder) -> bytes:
        """The bytes of a value."""
        return (int(value) & ((1 << width * 8) - 1)).to_bytes(width, order)

    def unpack(self, data: bytes, order: ByteOrder) -> Any:
        """The value of bytes."""
        return int.from_bytes(data, order)


@attrs.frozen
class Signed(Kind):
    """A signed number in the machine's byte order."""

    def unpack(self, data: bytes, order: ByteOrder) -> Any:
        """The value of bytes."""
        return int.from_bytes(data, order, signed=True)


@attrs.frozen
class Port16(Kind):
    """A port whose two bytes in network order are a number of 16 bits, here in a field of 16 or 32."""

    def pack(self, value: Any, width: int, order: ByteOrder) -> bytes:
        """The bytes of a port."""
        swapped = int.from_bytes((int(value) & 0xFFFF).to_bytes(2, "big"), order)
        return swapped.to_bytes(width, order)

    def unpack(self, data: bytes, order: ByteOrder) -> Any:
        """The port."""
        low = int.from_bytes(data, order) & 0xFFFF
        return int.from_bytes(low.to_bytes(2, order), "big")


@attrs.frozen
class PaddedPort(Kind):
    """A port of 16 bits in network order with as many zero bits after it, which can be read with them."""

    def pack(self, value: Any, width: int, order: ByteOrder) -> bytes:  # noqa: ARG002 - the order is the network's
        """The bytes of a port."""
        return (int(value) & 0xFFFF).to_bytes(2, "big").ljust(width, b"\0")

    def unpack(self, data: bytes, order: ByteOrder) -> Any:  # noqa: ARG002 - the order is the network's
        """The port."""
        return int.from_bytes(data[:2], "big")


@attrs.frozen
class Port32(Kind):
    """A port widened to 32 bits in network order: ntohl() gives the number."""

    def pack(self, value: Any, width: int, order: ByteOrder) -> bytes:  # noqa: ARG002 - the order is the network's
        """The bytes of a port."""
        return (int(value) & 0xFFFF).to_bytes(width, "big")

    def unpack(self, data: bytes, order: ByteOrder) -> Any:  # noqa: ARG002 - the order is the network's
        """The port."""
        return int.from_bytes(data, "big")


@attrs.frozen
class Address(Kind):
    """An IPv4 or IPv6 address in network order, by its width; as text, or as a number."""

    def pack(self, value: Any, width: int, order: ByteOrder) -> bytes:  # noqa: ARG002 - the order is the network's
        """The bytes of an address."""
        kind = ipaddress.IPv4Address if width == 4 else ipaddress.IPv6Address
        try:
            return kind(value).packed
        except ValueError as error:
            raise SimError(f"a context's address: {error}") from None

    def unpack(self, data: bytes, order: ByteOrder) -> Any:  # noqa: ARG002 - the order is the network's
        """The address as text."""
        if len(data) == 4:
            return str(ipaddress.IPv4Address(data))
        address = ipaddress.IPv6Address(data)
        # Python's own text of these differs from version to version.
        return str(address) if address.ipv4_mapped is None else f"::ffff:{address.ipv4_mapped}"


@attrs.frozen
class Words(Kind):
    """An array of numbers, each of `each` bytes."""

    each: int = 4

    def pack(self, value: Any, width: int, order: ByteOrder) -> bytes:
        """The bytes of the numbers; what is missing at the end is zero."""
        parts = [(int(word) & ((1 << self.each * 8) - 1)).to_bytes(self.each, order) for word in value]
        return b"".join(parts).ljust(width, b"\0")[:width]

    def unpack(self, data: bytes, order: ByteOrder) -> Any:
        """The numbers."""
        return [int.from_bytes(data[at : at + self.each], order) for at in range(0, len(data), self.each)]


@attrs.frozen
class Pointer(Kind):
    """A pointer: `to` is what the field's name stands for, "object" for the attribute itself, else a packet's mark."""

    to: str = "object"


@attrs.frozen
class Field:
    """A field: its name is the attribute's; offset and width in bytes; which widths can be read and written.

    `writable_bytes` is how many bytes at its begin can be written; None: all of them.
    """

    name: str
    offset: int
    width: int
    kind: Kind
    reads: tuple[int, ...]
    writes: tuple[int, ...] = ()
    writable_bytes: int | None = None


Table = tuple[Field, ...]


def number(name: str, offset: int, width: int = 4, *, narrow: bool = False, writes: Iterable[int] = ()) -> Field:
    """A number in the machine's order, unsigned."""
    return Field(name, offset, width, Kind(), _NARROW[width] if narrow else (width,), tuple(writes))


def signed(name: str, offset: int, width: int = 4, *, writes: Iterable[int] = ()) -> Field:
    """A signed number in the machine's order."""
    return Field(name, offset, width, Signed(), (width,), tuple(writes))


def port16(name: str, offset: int, width: int = 4, *, reads: Iterable[int] = (4,), writes: Iterable[int] = ()) -> Field:
    """A port that htons() makes."""
    return Field(name, offset, width, Port16(), tuple(reads), tuple(writes))


def padded_port(name: str, offset: int) -> Field:
    """A port that htons() makes, with padding after it."""
    return Field(name, offset, 4, PaddedPort(), (1, 2, 4))


def port32(name: str, offset: int) -> Field:
    """A port that htonl() makes."""
    return Field(name, offset, 4, Port32(), (4,))


def network(name: str, offset: int, *, narrow: bool = False) -> Field:
    """A 16-bit number in network order, widened to 32 bits."""
    return Field(name, offset, 4, Port16(), (1, 2, 4) if narrow else (4,))


def address4(name: str, offset: int, *, narrow: bool = False, writes: Iterable[int] = ()) -> Field:
    """An IPv4 address."""
    return Field(name, offset, 4, Address(), (1, 2, 4) if narrow else (4,), tuple(writes))


def address6(name: str, offset: int, *, reads: Iterable[int] = (4,), writes: Iterable[int] = ()) -> Field:
    """An IPv6 address, four words."""
    return Field(name, offset, 16, Address(), tuple(reads), tuple(writes))


def words(
    name: str, offset: int, count: int, *, each: int = 4, reads: Iterable[int] = (), writes: Iterable[int] = ()
) -> Field:
    """An array of numbers."""
    return Field(name, offset, count * each, Words(each), tuple(reads) or (each,), tuple(writes))


def pointer(name: str, offset: int, to: str = "object", *, width: int = 8) -> Field:
    """A pointer; a program reads all of it, also where the field is but 32 bits wide."""
    return Field(name, offset, width, Pointer(to), (width,))
