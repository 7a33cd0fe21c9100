"""What all contexts have: a table of fields, the region that shows them to a program, and a packet, if there is one."""

from typing import Any, ClassVar

import attrs

from pybpfasm.sim.contexts.fields import Field, Pointer, Table
from pybpfasm.sim.errors import AccessError, SimError
from pybpfasm.sim.memory import Memory, Region


class Context:
    """Base of contexts: the struct's name and size in uapi linux/bpf.h, and its fields."""

    uapi: ClassVar[str]
    struct_size: ClassVar[int]
    fields: ClassVar[Table] = ()
    # The attribute that holds the bytes between data and data_end; those of data_meta, if there can be some.
    packet_attribute: ClassVar[str | None] = None
    meta_attribute: ClassVar[str | None] = None

    def linear_length(self, length: int) -> int:
        """How many of the packet's bytes lie before data_end."""
        return length

    def place(self, memory: Memory, rules: "Rules") -> Region:
        """The region that shows this context to a program."""
        region = ContextRegion(self, memory, rules)
        memory.show(self, region)
        return region


@attrs.frozen
class Rules:
    """What a program type may do with a context beside what the table says (net/core/filter.c, …_is_valid_access).

    `hidden` fields cannot be accessed. If `writable` is given, only these fields can be written.
    """

    hidden: frozenset[str] = frozenset()
    writable: frozenset[str] | None = None


# A context that is reached by a pointer, such as another's socket.
READ_ONLY = Rules(writable=frozenset())


class Packet:
    """The bytes between data_meta and data_end of a run, with what moves them.

    `frame` is metadata and packet. What changes it ends all pointers that the program has, as the verifier says.
    Without metadata `start` and `end` may be anywhere in the packet; data and data_end point there.
    """

    def __init__(self, memory: Memory, name: str, meta: bytes, data: bytes, start: int, end: int) -> None:
        self._memory = memory
        self._name = name
        self._shown: list[Region] = []
        self.replace(data, meta, start, end)

    def replace(self, data: bytes, meta: bytes = b"", start: int = 0, end: int | None = None) -> None:
        """Set the bytes; `start` and `end` are where data and data_end point."""
        self.frame = bytearray(meta + data)
        self.meta = len(meta)
        self.start = start
        self.end = len(data) if end is None else end
        self._show()

    def invalidate(self, why: str) -> None:
        """End the pointers into the packet: `why` names the call that did it."""
        for region in self._shown:
            self._memory.end(region, f"{why} has ended all pointers into the {self._name}: load data again")
        self._shown.clear()
        self._show()

    @property
    def data(self) -> bytes:
        """The packet without metadata."""
        return bytes(self.frame[self.meta :])

    @property
    def metadata(self) -> bytes:
        """The metadata before it."""
        return bytes(self.frame[: self.meta])

    def address(self, mark: str) -> int:
        """Where data_meta ("meta"), data ("start") or data_end ("end") point."""
        if mark == "meta":
            return self._region.base
        if mark == "start":
            return self._region.base + (self.meta if self.start == 0 else 0)
        return self._region.base + self._region.size

    def _show(self) -> None:
        first = 0 if self.start == 0 else self.meta + self.start
        self._region = Region(self._name, memoryview(self.frame)[first : self.meta + self.end])
        self._region.atomic = False
        self._memory.add(self._region)
        self._shown.append(self._region)


class ContextRegion(Region):
    """A context as memory: each access is one of a field."""

    __slots__ = ("_at", "_context", "_memory", "_packet", "_rules")

    def __init__(self, context: Context, memory: Memory, rules: Rules) -> None:
        super().__init__(context.uapi, bytearray())
        self.size = context.struct_size
        self.atomic = False
        self._context = context
        self._memory = memory
        self._rules = rules
        self._packet: Packet | None = None
        self._at = {
            offset: field for field in context.fields for offset in range(field.offset, field.offset + field.width)
        }

    @property
    def packet(self) -> Packet:
        """The context's packet. Raises `SimError` if it has none."""
        if self._packet is None:
            self._packet = self._new_packet()
        return self._packet

    def invalidate_packet(self, why: str) -> None:
        """End the pointers into the packet, if the program may have some."""
        if self._packet is not None:
            self._packet.invalidate(why)

    def finish(self) -> None:
        """Write what became of the packet back to the context."""
        context = self._context
        if self._packet is not None and context.packet_attribute is not None:
            setattr(context, context.packet_attribute, self._packet.data)
            if context.meta_attribute is not None:
                setattr(context, context.meta_attribute, self._packet.metadata)

    def load(self, offset: int, size: int) -> int:
        """The number of `size` bytes at `offset`."""
        field = self._field(offset, size, "read")
        if isinstance(field.kind, Pointer):
            return self._pointer(field, field.kind.to)
        data = field.kind.pack(getattr(self._context, field.name), field.width, self.order)
        at = offset - field.offset
        return int.from_bytes(data[at : at + size], self.order)

    def store(self, offset: int, size: int, value: int) -> None:
        """Write the low `size` bytes of a number at `offset`."""
        field = self._field(offset, size, "write")
        data = bytearray(field.kind.pack(getattr(self._context, field.name), field.width, self.order))
        at = offset - field.offset
        data[at : at + size] = (value & ((1 << size * 8) - 1)).to_bytes(size, self.order)
        setattr(self._context, field.name, field.kind.unpack(bytes(data), self.order))

    def read(self, offset: int, size: int) -> bytes:
        """Refused: a helper is not given a context as bytes."""
        raise self._refused(offset, size, "read", "it is a context, not bytes")

    def write(self, offset: int, data: bytes) -> None:
        """Refused: a helper is not given a context as bytes."""
        raise self._refused(offset, len(data), "write", "it is a context, not bytes")

    def check_writable(self, offset: int, size: int) -> None:
        """Refused: a helper is not given a context as bytes."""
        raise self._refused(offset, size, "write", "it is a context, not bytes")

    def _field(self, offset: int, size: int, verb: str) -> Field:
        if self.ended is not None:
            raise self.refused(offset, size, verb)
        field = self._at.get(offset)
        if field is None:
            raise self._refused(offset, size, verb, f"no field of struct {self.name} is there")
        if field.name in self._rules.hidden:
            raise self._refused(offset, size, verb, f"{field.name} is not for this type of program")
        at = offset - field.offset
        possible = field.reads if verb == "read" else self._writes(field, at)
        if not possible:
            raise self._refused(offset, size, verb, f"{field.name} is read-only")
        if size not in possible or offset % size or at + size > field.width:
            widths = " or ".join(map(str, possible))
            raise self._refused(offset, size, verb, f"{field.name} (at {field.offset}) takes {verb}s of {widths} bytes")
        return field

    def _writes(self, field: Field, at: int) -> tuple[int, ...]:
        if field.writable_bytes is not None and at >= field.writable_bytes:
            return ()
        writable = self._rules.writable
        return field.writes if writable is None or field.name in writable else ()

    def _pointer(self, field: Field, to: str) -> int:
        if to != "object":
            return self.packet.address(to)
        return address_of(getattr(self._context, field.name), self._memory, f"{self.name}.{field.name}")

    def _new_packet(self) -> Packet:
        context = self._context
        if context.packet_attribute is None:
            raise SimError(f"struct {context.uapi} has no packet")
        data = bytes(getattr(context, context.packet_attribute))
        meta = bytes(getattr(context, context.meta_attribute)) if context.meta_attribute else b""
        end = min(max(context.linear_length(len(data)), 0), len(data))
        return Packet(self._memory, context.packet_attribute, meta, data, 0, end)

    def _refused(self, offset: int, size: int, verb: str, why: str) -> AccessError:
        plural = "s" * (size != 1)
        return AccessError(f"{verb} of {size} byte{plural} at {self.name}{offset:+d}: {why}", self.name, offset, size)


def address_of(value: Any, memory: Memory, name: str) -> int:
    """The number that a program gets for a value: itself, or the address of an object, a context or bytes."""
    if value is None:
        return 0
    if isinstance(value, int):
        return value & 0xFFFFFFFF_FFFFFFFF
    shown = memory.shown(value)
    if shown is not None:
        return shown.base
    if isinstance(value, Context):
        return value.place(memory, READ_ONLY).base
    if isinstance(value, bytearray):
        return memory.address_of(value, name)
    data = value if isinstance(value, bytes) else getattr(value, "data", None)
    if not isinstance(data, bytes | bytearray):
        raise SimError(f"{name} is {type(value).__name__}: a number, bytes, a socket or a KernelObject can be given")
    # Bytes that may be equal are told apart by what holds them.
    return memory.show(value, Region(getattr(value, "name", name), bytearray(data), writable=False))
