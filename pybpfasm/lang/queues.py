"""Maps without keys: queues, stacks, filters; and ways to hand events to user space."""

import builtins
from collections.abc import Callable
from typing import Any, TypeVar

from pybpfasm.errors import BpfError
from pybpfasm.lang.buffers import Data
from pybpfasm.lang.contexts import Context
from pybpfasm.lang.dynptrs import Dynptr
from pybpfasm.lang.maps import BPF_ANY, MapDeclaration, V, method, only_in_program
from pybpfasm.lang.types import Record, u32
from pybpfasm.records import evolve
from pybpfasm.spec import MapSpec, Untyped
from pybpfasm.uapi import Helper, MapType

T = TypeVar("T", bound=Record)

BPF_F_CURRENT_CPU = 0xFFFFFFFF

# The smallest page there is; the kernel wants a multiple of its own.
_PAGE_BYTES = 4096


class _Keyless(MapDeclaration[None, V]):
    """Maps whose values a program cannot find by a key."""

    @property
    def key_annotation(self) -> Any:
        """There are no keys."""
        return None

    @property
    def value_annotation(self) -> Any:
        """The value's type as it was declared."""
        return self.types()[0]


class _Ordered(_Keyless[V]):
    """What queues and stacks have in common."""

    @method(Helper.MAP_PUSH_ELEM, "map", "value", "flags")
    def push(self, value: V, flags: int = BPF_ANY) -> int:
        """Add a value: 0, or -E2BIG; with BPF_EXIST a full one drops its oldest."""
        only_in_program("push")

    @method(Helper.MAP_POP_ELEM, "map", "into")
    def pop(self, into: V) -> int:
        """Move the next value into a struct: 0, or -ENOENT, and the struct is zero then."""
        only_in_program("pop")

    @method(Helper.MAP_PEEK_ELEM, "map", "into")
    def peek(self, into: V) -> int:
        """Copy the next value into a struct: 0, or -ENOENT, and the struct is zero then."""
        only_in_program("peek")


class Queue(_Ordered[V]):
    """BPF_MAP_TYPE_QUEUE: first in, first out. `Queue[Event](max_entries=64)`."""

    type = MapType.QUEUE


class Stack(_Ordered[V]):
    """BPF_MAP_TYPE_STACK: last in, first out."""

    type = MapType.STACK


class BloomFilter(_Keyless[V]):
    """BPF_MAP_TYPE_BLOOM_FILTER (Linux 5.16): whether a value was ever added; sometimes yes for one that was not."""

    type = MapType.BLOOM_FILTER

    @method(Helper.MAP_PUSH_ELEM, "map", "value", 0)
    def push(self, value: V) -> int:
        """Add a value: 0."""
        only_in_program("push")

    @method(Helper.MAP_PEEK_ELEM, "map", "value")
    def peek(self, value: V) -> int:
        """0 if the value may have been added, -ENOENT if it was not."""
        only_in_program("peek")


class _Untyped(MapDeclaration[Any, Any]):
    """Maps of which a program says nothing but the size."""

    @property
    def key_annotation(self) -> Any:
        """Keys are indices."""
        return u32

    @property
    def value_annotation(self) -> Any:
        """What user space sees is 4 bytes."""
        return u32


class RingBuf(_Untyped):
    """BPF_MAP_TYPE_RINGBUF: events in their order, for all CPUs. `max_entries` is its size in bytes, a power of two.

    What `reserve` gives has to be handed to `submit` or `discard` on every path.
    """

    type = MapType.RINGBUF

    @property
    def key_annotation(self) -> Any:
        """There are no keys."""
        return None

    @property
    def value_annotation(self) -> Any:
        """There are no values."""
        return None

    def reserve(self, as_type: builtins.type[T]) -> T | None:
        """Room for an event, to be filled in place; None if there is none."""
        only_in_program("reserve")

    def submit(self, event: Record, flags: int = 0) -> None:
        """Hand a reserved event over; it cannot be used afterwards."""
        only_in_program("submit")

    def discard(self, event: Record, flags: int = 0) -> None:
        """Give a reserved event's room back; it cannot be used afterwards."""
        only_in_program("discard")

    def reserve_dynptr(self, size: int) -> Dynptr:
        """Room for so many bytes; it has to be handed to its `submit` or `discard`, also if there is none."""
        only_in_program("reserve_dynptr")

    @method(Helper.RINGBUF_OUTPUT, "map", "data", "size", "flags", gives="signed")
    def output(self, data: Data, flags: int = 0) -> int:
        """Copy a struct, or other bytes, into the buffer: 0, or -EAGAIN if there is no room."""
        only_in_program("output")

    def spec(self, name: str, *, max_entries: int | None = None) -> MapSpec:
        """The map to create, as for others. Raises `BpfError` for a size that this type cannot have."""
        spec = super().spec(name, max_entries=max_entries)
        size = spec.max_entries
        if size < _PAGE_BYTES or size & (size - 1):
            raise BpfError(f"a ring buffer's size is a power of two and whole pages, not {size} bytes")
        return spec


class UserRingBuf(RingBuf):
    """BPF_MAP_TYPE_USER_RINGBUF (Linux 6.1): what user space has for a program. `max_entries` is its size in bytes."""

    type = MapType.USER_RINGBUF

    def drain(self, body: Callable[..., int], context: Record | None = None) -> int:
        """Call `body(data, context)` for each of the records, until it returns 1; how many there were, or an errno.

        `body` is a `@callback`, `data` a `Dynptr` to be read; without a context it has one parameter.
        """
        only_in_program("drain")


class PerfEventArray(_Untyped):
    """BPF_MAP_TYPE_PERF_EVENT_ARRAY: a buffer of events for each CPU."""

    type = MapType.PERF_EVENT_ARRAY

    def __init__(self, *, max_entries: int = 0, flags: int = 0, name: str | None = None) -> None:
        super().__init__(max_entries=max_entries, flags=flags, name=name)

    @method(Helper.PERF_EVENT_OUTPUT, "ctx", "map", "flags", "data", "size", gives="signed")
    def output(self, ctx: Context, data: Data, flags: int = BPF_F_CURRENT_CPU) -> int:
        """Copy a struct, or other bytes, into this CPU's buffer: 0, or a negative errno."""
        only_in_program("output")


class StackTrace(_Untyped):
    """BPF_MAP_TYPE_STACK_TRACE: stacks of up to `depth` return addresses, by number."""

    type = MapType.STACK_TRACE

    def __init__(self, *, max_entries: int, depth: int = 127, name: str | None = None) -> None:
        super().__init__(max_entries=max_entries, name=name)
        self.depth = depth

    @method(Helper.GET_STACKID, "ctx", "map", "flags", gives="signed")
    def id(self, ctx: Context, flags: int = 0) -> int:
        """The number of the current stack, or a negative errno."""
        only_in_program("id")

    def spec(self, name: str, *, max_entries: int | None = None) -> MapSpec:
        """The map to create, as for others."""
        return evolve(super().spec(name, max_entries=max_entries), value=Untyped(8 * self.depth))
