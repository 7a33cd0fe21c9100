"""Maps whose values a program finds by key: hashes, arrays, and the longest-prefix-match trie."""

from collections.abc import Iterator

from pybpfasm.sim.linux_errno import Errno
from pybpfasm.sim.maps.base import Map, Values
from pybpfasm.uapi import MapUpdateFlag


class HashMap(Map):
    """HASH, PERCPU_HASH. It is full when it has `max_entries`: an update then fails."""

    def set_up(self) -> None:
        """Make the map empty."""
        self._entries: dict[bytes, Values] = {}

    def find(self, key: bytes, *, touch: bool = True) -> Values | None:
        """The values at `key`, in place."""
        del touch
        return self._entries.get(key)

    def put(self, key: bytes, values: list[bytes], flags: int, cpus: list[int]) -> None:
        """Set the values at `key`: a new element, so that a pointer to the old one keeps the old value."""
        old = self._entries.get(key)
        self.check_flags(flags, exists=old is not None)
        if old is None:
            self.make_room()
            new = [bytearray(self.value_size) for _ in range(self.cpus)]
        else:
            # A per-CPU value is written in place, another replaces its element (kernel/bpf/hashtab.c).
            new = old if self.cpus > 1 else [bytearray(value) for value in old]
        for cpu in cpus:
            new[cpu][:] = values[cpu]
        self._entries[key] = new

    def remove(self, key: bytes) -> None:
        """Remove the entry at `key`."""
        if self._entries.pop(key, None) is None:
            self.refuse(Errno.ENOENT, "the key is not there")

    def entries(self) -> Iterator[tuple[bytes, Values]]:
        """All entries."""
        return iter(list(self._entries.items()))

    def make_room(self) -> None:
        """Called before an entry is added."""
        if len(self._entries) >= self.max_entries:
            self.refuse(Errno.E2BIG, f"it is full, it holds {self.max_entries} entries")


class LruHashMap(HashMap):
    """LRU_HASH, LRU_PERCPU_HASH: a full map drops the entry that was not used for the longest time.

    The kernel's choice is near that, not exact: it looks at a few entries, and keeps some free for each CPU.
    """

    def find(self, key: bytes, *, touch: bool = True) -> Values | None:
        """The values at `key`, in place; a program's look-up makes it the last to be dropped."""
        values = self._entries.get(key)
        if values is not None and touch:
            self._entries[key] = self._entries.pop(key)
        return values

    def put(self, key: bytes, values: list[bytes], flags: int, cpus: list[int]) -> None:
        """Set the values at `key`, and make it the last to be dropped."""
        super().put(key, values, flags, cpus)
        self._entries[key] = self._entries.pop(key)

    def make_room(self) -> None:
        """Drop the entry that was not used for the longest time, if the map is full."""
        if self._entries and len(self._entries) >= self.max_entries:
            del self._entries[next(iter(self._entries))]


class ArrayMap(Map):
    """ARRAY, PERCPU_ARRAY: all entries are there from the start, made of zeros."""

    def set_up(self) -> None:
        """Make all values zero, or the first as the spec has it."""
        # Values are made when they are first looked at: an array may have billions.
        self._values: dict[int, Values] = {}
        if self.spec.contents is not None and self.max_entries:
            self._values[0] = [bytearray(self.spec.contents.ljust(self.value_size, b"\0")[: self.value_size])]

    def find(self, key: bytes, *, touch: bool = True) -> Values | None:
        """The values at the index `key`, in place."""
        del touch
        index = self.index(key)
        if index >= self.max_entries:
            return None
        if index not in self._values:
            self._values[index] = [bytearray(self.value_size) for _ in range(self.cpus)]
        return self._values[index]

    def put(self, key: bytes, values: list[bytes], flags: int, cpus: list[int]) -> None:
        """Write the values at the index `key` in place."""
        self.check_known(flags)
        current = self.find(key)
        if current is None:
            self.refuse(Errno.E2BIG, f"index {self.index(key)} is outside, it has {self.max_entries} entries")
        if flags & MapUpdateFlag.NOEXIST:
            self.refuse(Errno.EEXIST, "all entries of an array are there from the start")
        self.check_lock(flags)
        for cpu in cpus:
            current[cpu][:] = values[cpu]

    def remove(self, key: bytes) -> None:
        """Refused: an array keeps its entries."""
        del key
        self.refuse(Errno.EINVAL, "an array's entries cannot be deleted")

    def entries(self) -> Iterator[tuple[bytes, Values]]:
        """All entries."""
        for index in range(self.max_entries):
            key = index.to_bytes(self.key_size, self.order)
            values = self.find(key)
            if values is not None:
                yield key, values


class LpmTrie(HashMap):
    """LPM_TRIE: a key is a prefix's length in bits, 32 bits wide, and the bytes it is a prefix of, in network order."""

    def find(self, key: bytes, *, touch: bool = True) -> Values | None:
        """The values at the longest prefix of `key` that is there."""
        del touch
        length, data = self._split(key)
        if length > len(data) * 8:
            return None
        for candidate in range(length, -1, -1):
            found = self._entries.get(self._masked(candidate, data))
            if found is not None:
                return found
        return None

    def put(self, key: bytes, values: list[bytes], flags: int, cpus: list[int]) -> None:
        """Set the value of a prefix."""
        super().put(self._prefix(key), values, flags, cpus)

    def remove(self, key: bytes) -> None:
        """Remove a prefix."""
        super().remove(self._prefix(key))

    def make_room(self) -> None:
        """A full trie has no space (kernel/bpf/lpm_trie.c: ENOSPC)."""
        if len(self._entries) >= self.max_entries:
            self.refuse(Errno.ENOSPC, f"it is full, it holds {self.max_entries} entries")

    def _split(self, key: bytes) -> tuple[int, bytes]:
        return int.from_bytes(key[:4], self.order), key[4:]

    def _prefix(self, key: bytes) -> bytes:
        length, data = self._split(key)
        if length > len(data) * 8:
            self.refuse(Errno.EINVAL, f"a prefix of {length} bits, a key has {len(data) * 8}")
        return self._masked(length, data)

    def _masked(self, length: int, data: bytes) -> bytes:
        bits = len(data) * 8
        kept = int.from_bytes(data, "big") >> (bits - length) << (bits - length)
        return length.to_bytes(4, self.order) + kept.to_bytes(len(data), "big")
