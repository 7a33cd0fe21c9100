"""Memory as regions, so that an access that leaves its object is found and named.

An address is the region's number and an offset into it:

63            32 31             0
+---------------+----------------+
| region number | offset, bytes  |
+---------------+----------------+

Regions have even numbers: an address below a region's start lies in the odd one before it, and is told so. They begin
high and at no round number, so that no plain number (a flag, a length, two numbers in one) is an address by chance.
"""

from collections import deque
from typing import Literal, get_args

from pybpfasm.sim.errors import AccessError, SimError
from pybpfasm.sim.registers import M32, M64

ByteOrder = Literal["little", "big"]
BYTE_ORDERS: tuple[ByteOrder, ...] = get_args(ByteOrder)

Buffer = bytearray | memoryview

# An offset in the upper half is one below the start of the region that follows.
_BELOW = 1 << 31
_NULL_PAGE = 1 << 16

# As the kernel's addresses, those of regions are negative as signed numbers.
_FIRST_REGION = 0xC3A59E72

STACK_BYTES = 512

# How many ended regions are still known by name; a program in a loop makes and ends very many.
_ENDED_KEPT = 1024


class Region:
    """An object in memory: a name for messages, bytes, and what is allowed.

    `written` has a byte for each byte of the object, 1 once it has a value; None: all have. A region that has `ended`
    says why. `owner` is what the region shows.
    """

    __slots__ = (
        "atomic",
        "data",
        "ended",
        "name",
        "number",
        "order",
        "owner",
        "readable",
        "size",
        "writable",
        "written",
    )

    def __init__(self, name: str, data: Buffer, *, readable: bool = True, writable: bool = True) -> None:
        self.name = name
        self.data = data
        self.size = len(data)
        self.readable = readable
        self.writable = writable
        self.atomic = True
        self.written: bytearray | None = None
        self.ended: str | None = None
        self.number = 0
        self.order: ByteOrder = "little"
        self.owner: object = None

    @property
    def base(self) -> int:
        """The address of its first byte."""
        return self.number << 32

    def load(self, offset: int, size: int) -> int:
        """The number of `size` bytes at `offset`."""
        end = offset + size
        if end > self.size or not self.readable or self.ended is not None:
            raise self.refused(offset, size, "read")
        if self.written is not None and self.written.find(0, offset, end) >= 0:
            raise self.refused(offset, size, "read")
        return int.from_bytes(self.data[offset:end], self.order)

    def store(self, offset: int, size: int, value: int) -> None:
        """Write the low `size` bytes of a number at `offset`."""
        end = offset + size
        if end > self.size or not self.writable or self.ended is not None:
            raise self.refused(offset, size, "write")
        self.data[offset:end] = (value & ((1 << (size << 3)) - 1)).to_bytes(size, self.order)
        if self.written is not None:
            self.written[offset:end] = b"\1" * size

    def read(self, offset: int, size: int) -> bytes:
        """`size` bytes at `offset`."""
        end = offset + size
        if end > self.size or not self.readable or self.ended is not None:
            raise self.refused(offset, size, "read")
        if self.written is not None and self.written.find(0, offset, end) >= 0:
            raise self.refused(offset, size, "read")
        return bytes(self.data[offset:end])

    def read_string(self, offset: int, limit: int | None) -> bytes:
        """The bytes at `offset` up to, and without, the first zero, or the first `limit` of them."""
        left = self.size - offset if limit is None else min(self.size - offset, limit)
        length = bytes(self.data[offset : offset + max(left, 0)]).find(0)
        if length >= 0:
            return self.read(offset, length + 1)[:-1]
        return self.read(offset, max(left, 0) + 1 if limit is None or limit > left else limit)

    def write(self, offset: int, data: bytes) -> None:
        """Write bytes at `offset`."""
        end = offset + len(data)
        if end > self.size or not self.writable or self.ended is not None:
            raise self.refused(offset, len(data), "write")
        self.data[offset:end] = data
        if self.written is not None:
            self.written[offset:end] = b"\1" * len(data)

    def check_writable(self, offset: int, size: int) -> None:
        """Raise what `write` of so many bytes would raise."""
        if offset + size > self.size or not self.writable or self.ended is not None:
            raise self.refused(offset, size, "write")

    def refused(self, offset: int, size: int, verb: str) -> AccessError:
        """Why an access is not possible."""
        place = f"{self.name}{_signed_offset(offset):+d}"
        what = f"{verb} of {size} byte{'s' * (size != 1)} at {place}"
        if self.ended is not None:
            reason = self.ended
        elif offset + size > self.size:
            reason = f"{self.name} has bytes 0 to {self.size - 1}" if self.size else f"{self.name} has no bytes"
        elif not (self.readable if verb == "read" else self.writable):
            reason = f"{self.name} is {'not readable' if verb == 'read' else 'read-only'}"
        else:
            assert self.written is not None  # noqa: S101 - nothing else is left
            first = self.written.find(0, offset, offset + size)
            reason = f"byte {self.name}{first:+d} was never written"
        return AccessError(f"{what}: {reason}", self.name, _signed_offset(offset), size)


def stack_region(name: str) -> Region:
    """A function's stack: bytes without a value."""
    region = Region(name, bytearray(STACK_BYTES))
    region.written = bytearray(STACK_BYTES)
    return region


class Memory:
    """All regions of a run, and access by address."""

    def __init__(self, order: ByteOrder) -> None:
        self.order = order
        # What the text about an access to NULL adds: which call's result it may be.
        self.null_hint = ""
        self._regions: dict[int, Region] = {}
        self._of_owner: dict[int, Region] = {}
        self._next = _FIRST_REGION
        self._ended: deque[int] = deque()

    def add(self, region: Region) -> int:
        """Place a region; its address is returned."""
        region.number = self._next
        region.order = self.order
        self._regions[self._next] = region
        self._next += 2
        return region.base

    def end(self, region: Region, reason: str) -> None:
        """From now on each access to the region fails, and says why; its bytes are let go."""
        region.ended = reason
        region.data = bytearray()
        region.written = None
        self._ended.append(region.number)
        if len(self._ended) > _ENDED_KEPT:
            self._regions.pop(self._ended.popleft(), None)

    def shown(self, owner: object) -> Region | None:
        """The region that shows an object, if one was placed."""
        return self._of_owner.get(id(owner))

    def show(self, owner: object, region: Region) -> int:
        """Place the region that shows an object; the object is kept alive with it."""
        region.owner = owner
        self._of_owner[id(owner)] = region
        return self.add(region)

    def address_of(self, owner: Buffer, name: str, *, writable: bool = True, readable: bool = True) -> int:
        """The address of an object's bytes, the same each time."""
        region = self._of_owner.get(id(owner))
        if region is None:
            return self.show(owner, Region(name, owner, writable=writable, readable=readable))
        return region.base

    def region_at(self, address: int) -> Region | None:
        """The region that an address lies in."""
        return self._regions.get(address >> 32)

    def load(self, address: int, size: int) -> int:
        """The number of `size` bytes at an address."""
        region = self._regions.get(address >> 32)
        if region is None:
            raise self._nowhere(address, size, "read")
        return region.load(address & M32, size)

    def store(self, address: int, size: int, value: int) -> None:
        """Write the low `size` bytes of a number at an address."""
        region = self._regions.get(address >> 32)
        if region is None:
            raise self._nowhere(address, size, "write")
        region.store(address & M32, size, value)

    def atomic(self, address: int, size: int, verb: str = "write") -> Region:
        """The region of an atomic operation. Raises `SimError` where none is possible, as in a context."""
        region = self._regions.get(address >> 32)
        if region is None:
            raise self._nowhere(address, size, verb)
        if not region.atomic:
            raise SimError(f"{region.name} takes no atomic operation")
        if address & (size - 1):
            place = f"{region.name}{_signed_offset(address & M32):+d}"
            raise SimError(f"an atomic {verb} of {size} bytes at {place} is not aligned: no verifier lets it pass")
        return region

    def read(self, address: int, size: int) -> bytes:
        """`size` bytes at an address; none are read if `size` is 0."""
        if size == 0:
            return b""
        region = self._regions.get(address >> 32)
        if region is None:
            raise self._nowhere(address, size, "read")
        return region.read(address & M32, size)

    def write(self, address: int, data: bytes) -> None:
        """Write bytes at an address."""
        if data:
            region = self._regions.get(address >> 32)
            if region is None:
                raise self._nowhere(address, len(data), "write")
            region.write(address & M32, data)

    def check_writable(self, address: int, size: int) -> None:
        """Raise what `write` of so many bytes would raise."""
        if size:
            region = self._regions.get(address >> 32)
            if region is None:
                raise self._nowhere(address, size, "write")
            region.check_writable(address & M32, size)

    def read_string(self, address: int, limit: int | None = None) -> bytes:
        """The bytes at an address up to, and without, the first zero, or the first `limit` of them."""
        region = self._regions.get(address >> 32)
        if region is None:
            raise self._nowhere(address, 1, "read")
        return region.read_string(address & M32, limit)

    def _nowhere(self, address: int, size: int, verb: str) -> AccessError:
        address &= M64
        what = f"{verb} of {size} byte{'s' * (size != 1)} at"
        if address < _NULL_PAGE:
            place = "NULL" if address == 0 else f"NULL+{address}"
            return AccessError(f"{what} {place}: {self.null_hint or 'the pointer is NULL'}", None, address, size)
        following = self._regions.get((address >> 32) + 1)
        if following is not None and address & M32 >= _BELOW:
            return following.refused(address & M32, size, verb)
        return AccessError(f"{what} {address:#x}: the number is no address", None, None, size)


def _signed_offset(offset: int) -> int:
    return offset - (1 << 32) if _BELOW <= offset <= M32 else offset
