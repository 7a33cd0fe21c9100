"""System calls on entries, prepared once and made often.

An entry call is a bpf(2) attribute structure with a key's and a value's memory behind it. Building these costs as much
as the call, so a map keeps a pool: an operation takes one out, or makes one, and puts it back. Taking and putting back
are single list operations, which Python makes atomic: threads and signal handlers never share one that is in use.
"""

from collections.abc import Callable
from typing import Any, Final, final

from pybpfasm.kernel import sys
from pybpfasm.uapi import Command

# What keys and values may be handed over as.
Data = bytes | bytearray | memoryview


@final
class EntryCall:
    """Memory for one key and one value, and the calls on them; each call returns -1 on failure, see `sys.last_errno`.

    `key` and `value` are of the sizes that the map was made with: what is assigned to their whole must have that
    length.
    """

    __slots__ = ("_held", "attributes", "delete", "key", "lookup", "pop", "update", "value")

    def __init__(self, fd: int, key_size: int, value_size: int) -> None:
        key = sys.buffer(key_size)
        value = sys.buffer(value_size)
        # A map without keys wants no address (___bpf_copy_key in kernel/bpf/syscall.c).
        self.attributes: Final = sys.new(
            "map_elem",
            map_fd=fd,
            key=sys.address(key) if key_size else 0,
            value_or_next_key=sys.address(value) if value_size else 0,
        )
        self._held = key, value
        self.key: Any = sys.view(key)
        self.value: Any = sys.view(value)
        self.lookup: Callable[[], int] = sys.prepared(Command.MAP_LOOKUP_ELEM, self.attributes)
        self.update: Callable[[], int] = sys.prepared(Command.MAP_UPDATE_ELEM, self.attributes)
        # Deleting, the kernel wants all fields after the key to be zero.
        key_only = sys.new("map_elem", map_fd=fd, key=self.attributes.key)
        self.delete: Callable[[], int] = sys.prepared(Command.MAP_DELETE_ELEM, key_only)
        self.pop: Callable[[], int] = sys.prepared(Command.MAP_LOOKUP_AND_DELETE_ELEM, self.attributes)


@final
class KeyWalk:
    """Goes from key to key (BPF_MAP_GET_NEXT_KEY)."""

    def __init__(self, key_size: int) -> None:
        self._key, self._next = sys.buffer(key_size), sys.buffer(key_size)
        self._attributes = sys.new("map_elem", value_or_next_key=sys.address(self._next))
        self._from, self._to = sys.view(self._key), sys.view(self._next)
        self._step = sys.prepared(Command.MAP_GET_NEXT_KEY, self._attributes)

    def next(self, fd: int) -> bytes | None:
        """The key after the last one; None on failure, see `sys.last_errno`: ENOENT is the end."""
        self._attributes.map_fd = fd
        if self._step() < 0:
            return None
        key: bytes = self._to[:]
        self._from[:] = key
        self._attributes.key = sys.address(self._key)
        return key
