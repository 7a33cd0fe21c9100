"""Maps in the kernel, keys and values as bytes."""

import errno
import sys as python
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from struct import iter_unpack
from typing import TYPE_CHECKING, Any, Self, TypeVar

from pybpfasm.errors import BpfError, KernelError
from pybpfasm.kernel import sys
from pybpfasm.kernel.descriptor import Descriptor
from pybpfasm.kernel.info import MapInfo, map_info
from pybpfasm.kernel.maps.batch import NoBatchError, delete_batches, stopped, update_batches, walk_batches
from pybpfasm.kernel.maps.calls import Data, EntryCall, KeyWalk
from pybpfasm.kernel.maps.cpus import per_cpu_stride, possible_cpus
from pybpfasm.kernel.maps.create import arranged, create_map
from pybpfasm.kernel.maps.errors import ENOTSUPP, MapOperationError, ShapeError
from pybpfasm.kernel.maps.failures import freeze_failure, is_frozen, operation_failure
from pybpfasm.kernel.maps.kinds import Kind, Operation, kind_of
from pybpfasm.lang.types import LayoutError
from pybpfasm.spec import MapSpec
from pybpfasm.uapi import Command, MapType, MapUpdateFlag

if TYPE_CHECKING:
    from pybpfasm.kernel.maps.memory import MappedArray
    from pybpfasm.kernel.pins import StrPath

K = TypeVar("K")
V = TypeVar("V")

# So many entries are handed on at a time where they are read one by one.
_CHUNK = 4096


class Map(Descriptor):
    """A map of the kernel, keys and values as bytes of the map's sizes, in the machine's byte order.

    All operations may be called from several threads at once; the kernel orders them, each entry by itself. An iterator
    belongs to one thread. After `close`, operations raise ValueError, in all threads; what is closed while another
    thread is in the middle of an operation may be another object by then, as with any descriptor.
    After fork(2) both processes have the map. Operations raise `LayoutError` for keys and values of other sizes,
    `MapOperationError` where the map's type has no such operation, else `KernelError`.
    """

    def __init__(self, fd: int, spec: MapSpec) -> None:
        super().__init__(fd)
        self._calls: list[EntryCall] = []
        # Commands that this kernel does not have for this type of map.
        self._lacking: set[Command] = set()
        self._kind = kind_of(spec.type)
        self._per_cpu = self._kind.per_cpu
        self.spec = spec

    # --- making and finding -------------------------------------------------------------------------------------------

    @classmethod
    def create(cls, spec: MapSpec, *, inner: "Map | None" = None, numa_node: int | None = None) -> Self:
        """Create the map, fill it with the spec's `contents`, freeze it if the spec says so (Linux 5.2).

        A map of maps takes the shape of the maps in it from `inner`, or from the spec's. `numa_node` is where its
        memory is to be. A perf event array without a size has one entry a CPU. bpftool shows keys and values by the
        spec's BTF types, wherever the kernel takes such. Raises `KernelError`, `UnsupportedFeatureError` for a type of
        map that is newer than the kernel, `BpfError` for a name that cannot be.
        """
        spec = arranged(spec)
        # A spec read from an object may have it, see pybpfasm.interop.
        node = getattr(spec, "numa_node", None) if numa_node is None else numa_node
        made = cls(create_map(spec, node, None if inner is None else inner.fd), spec)
        try:
            # A struct_ops map's contents lack the programs.
            if spec.contents is not None and spec.type != MapType.STRUCT_OPS:
                made.update(bytes(spec.key.size), spec.contents)
            if spec.frozen:
                made.freeze()
        except BaseException:
            made.close()
            raise
        return made

    @classmethod
    def open(cls, path: "StrPath", spec: MapSpec | None = None) -> Self:
        """Open a pinned map, which must be of the spec's shape; without one it is whatever it is.

        Raises `KernelError`: ENOENT if nothing is pinned there; `ShapeError`.
        """
        from pybpfasm.kernel.pins import open_pin

        return cls._opened(open_pin(path), spec, f"the pinned map {path}")

    @classmethod
    def open_any_size(cls, path: "StrPath", spec: MapSpec) -> Self:
        """Open a pinned map of the spec's shape, however many entries it may have."""
        from pybpfasm.kernel.pins import open_pin

        with cls(open_pin(path), spec) as opened:
            size = opened.info().max_entries
        return cls.open(path, spec.resized(size))

    @classmethod
    def by_id(cls, number: int, spec: MapSpec | None = None) -> Self:
        """Open the map of an id, see `info`, as `open` does. It takes CAP_SYS_ADMIN.

        Raises `KernelError`: ENOENT if there is none (any more); `ShapeError`.
        """
        what = f"the map with id {number}"
        gone = KernelError(errno.ENOENT, f"there is no map with id {number}")
        if not 0 < number < 1 << 32:
            raise gone
        try:
            fd = sys.bpf(Command.MAP_GET_FD_BY_ID, sys.new("id", id=number), f"open {what}")
        except KernelError as error:
            raise gone if error.errno == errno.ENOENT else error from None
        return cls._opened(fd, spec, what)

    @classmethod
    def _opened(cls, fd: int, spec: MapSpec | None, what: str) -> Self:
        from pybpfasm.kernel.maps.describe import describe_map, differences
        from pybpfasm.kernel.pins import check_kind

        with Descriptor(fd) as held:
            check_kind(fd, "map", what)
            if spec is None:
                spec = describe_map(fd)
            elif found := differences(fd, spec):
                raise ShapeError(f"{what} is another than wanted: {', '.join(found)}")
            return cls(held.release(), spec)

    @property
    def kind(self) -> Kind:
        """What maps of this type are."""
        return self._kind

    @property
    def entry_size(self) -> int:
        """Bytes of what the kernel holds for a key: a value, or in a per-CPU map a value for each possible CPU."""
        size = self.spec.value.size
        return per_cpu_stride(size) * possible_cpus() if self._per_cpu else size

    def info(self) -> MapInfo:
        """What the kernel says of the map."""
        return map_info(self.fd)

    def pin(self, path: "StrPath") -> None:
        """Keep the map alive under a name in a bpf file system."""
        from pybpfasm.kernel.pins import pin

        pin(self.fd, path)

    def freeze(self) -> None:
        """Make the map read-only for user space, for good (Linux 5.2); programs may go on writing.

        Raises `KernelError`: EBUSY while it is mapped writable or being written; `MapOperationError` for a struct_ops
        map and one with timers in its values.
        """
        attempted = f"freeze map {self.spec.name}"
        try:
            sys.bpf(Command.MAP_FREEZE, sys.new("map_elem", map_fd=self.fd), attempted)
        except KernelError as error:
            raise freeze_failure(error, attempted) from None

    @property
    def frozen(self) -> bool:
        """Whether the map is frozen."""
        return is_frozen(self.fd)

    def map_memory(self, *, writable: bool = True) -> "MappedArray[bytes]":
        """Map an array's values into memory, see `MappedArray`."""
        from pybpfasm.kernel.maps.memory import MappedArray  # seldom needed

        return MappedArray(self, bytes, writable=writable)

    def close(self) -> None:
        """Close the descriptor; the map lives on as long as a program, a pin or another descriptor refers to it."""
        # Calls under way go back into the list that they came from: nobody uses the descriptor's number again.
        self._calls = []
        super().close()

    def release(self) -> int:
        """Give the descriptor away: the caller closes it."""
        self._calls = []
        return super().release()

    # --- single entries -----------------------------------------------------------------------------------------------

    def lookup(self, key: Data, flags: int = 0) -> bytes | None:
        """A copy of the value at `key`, or None. The flag LOCK takes the lock in the value meanwhile.

        A prefix trie finds the longest prefix that matches. Of a queue or stack, `lookup(b"")` is the next value.
        """
        if self._per_cpu:
            self._check_one_value("lookup_per_cpu")
        calls = self._calls
        try:
            call = calls.pop()
        except IndexError:
            call = self._new_call()
        try:
            if flags:
                call.attributes.flags = self._checked_flags(flags)
            call.key[:] = key
            if call.lookup() == 0:
                value: bytes = call.value[:]
                return value
            number = sys.last_errno()
        except (ValueError, TypeError, BufferError):
            raise self._misfit("key", key, self.spec.key.size) from None
        finally:
            if flags:
                call.attributes.flags = 0
            calls.append(call)
        self._raise_unless_missing(Operation.LOOKUP, number, flags)
        return None

    def update(self, key: Data, value: Data, flags: int = 0) -> None:
        """Set the value at `key`; `flags` are of `MapUpdateFlag`.

        Raises `MapFullError` if the map is full; `KernelError`: EEXIST and ENOENT as NOEXIST and EXIST ask for.
        Where values are descriptors (`kind`), `value` is a number of 4 bytes. `update(b"", value)` pushes to a queue.
        """
        if self._per_cpu:
            self._check_one_value("update_per_cpu")
        calls = self._calls
        try:
            call = calls.pop()
        except IndexError:
            call = self._new_call()
        try:
            if flags:
                call.attributes.flags = self._checked_flags(flags)
            call.key[:] = key
            call.value[:] = value
            if call.update() == 0:
                return
            number = sys.last_errno()
        except (ValueError, TypeError, BufferError):
            raise self._misfit_of_entry(key, value) from None
        finally:
            if flags:
                call.attributes.flags = 0
            calls.append(call)
        raise operation_failure(self, Operation.UPDATE, number, flags)

    def delete(self, key: Data) -> bool:
        """Remove the entry at `key`; False if there was none."""
        calls = self._calls
        try:
            call = calls.pop()
        except IndexError:
            call = self._new_call()
        try:
            call.key[:] = key
            if call.delete() == 0:
                return True
            number = sys.last_errno()
        except (ValueError, TypeError, BufferError):
            raise self._misfit("key", key, self.spec.key.size) from None
        finally:
            calls.append(call)
        self._raise_unless_missing(Operation.DELETE, number)
        return False

    def pop(self, key: Data) -> bytes | None:
        """Remove the entry at `key` and return its value, or None. `pop(b"")` takes the next value of a queue or stack.

        The kernel does this in one step for queues, stacks (4.20) and hashes (5.14). For others it is a look-up, then a
        delete, and what is written in between is lost.
        """
        self._check_one_value("pop_per_cpu")
        return self._pop(key)

    def may_contain(self, value: Data) -> bool:
        """Whether a bloom filter holds `value`: False is certain, True is not."""
        if self.spec.type != MapType.BLOOM_FILTER:
            raise BpfError(f"map {self.spec.name} is of type {self._kind.title}, not a bloom filter: use lookup")
        calls = self._calls
        call = self._call(calls)
        try:
            self._fill(call.value, "value", value)
            if call.lookup() == 0:
                return True
            number = sys.last_errno()
        finally:
            _give_back(call, calls)
        self._raise_unless_missing(Operation.LOOKUP, number)
        return False

    # --- single entries of per-CPU maps -------------------------------------------------------------------------------

    def lookup_per_cpu(self, key: Data) -> list[bytes] | None:
        """The value at `key` on each possible CPU, for a per-CPU map, or None."""
        self._check_per_cpu("lookup")
        data = self._read(key)
        return None if data is None else self._split_cpus(data)

    def update_per_cpu(self, key: Data, values: Sequence[Data], flags: int = 0) -> None:
        """Set the value at `key` on each possible CPU, for a per-CPU map: as many values as `possible_cpus()`.

        What programs write meanwhile is lost. Raises `MapFullError`.
        """
        self._check_per_cpu("update")
        self._write(key, self._join_cpus(values), flags)

    def pop_per_cpu(self, key: Data) -> list[bytes] | None:
        """Remove the entry at `key` of a per-CPU hash and return its values, or None, as `pop`."""
        self._check_per_cpu("pop")
        data = self._pop(key)
        return None if data is None else self._split_cpus(data)

    def items_per_cpu(self) -> Iterator[tuple[bytes, list[bytes]]]:
        """All entries of a per-CPU map, as `items`."""
        self._check_per_cpu("items")
        return ((key, self._split_cpus(data)) for key, data in self._entries())

    # --- all entries --------------------------------------------------------------------------------------------------

    def keys(self) -> Iterator[bytes]:
        """The keys, each once; those that come or go meanwhile may be missed. The walk always ends.

        A key that stays all the time is not missed where the kernel has batches for the map's type (`update_batch`).
        Where keys are indices, all of them come, whether something is there or not.
        """
        if self._kind.indexed:
            _ = self.fd  # raises if the map is closed
            return (index.to_bytes(4, python.byteorder) for index in range(self.spec.max_entries))
        if self._kind.value_is_fd or self._kind.lacks & {Operation.LOOKUP, Operation.WALK}:
            return self._walk_keys()
        return (key for key, _ in self._entries())

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """All entries, as `keys`; one that vanishes meanwhile is left out."""
        self._check_one_value("items_per_cpu")
        return self._entries()

    def count(self) -> int:
        """How many entries there are: a walk through the map, but for arrays, which are always full."""
        return sum(1 for _ in self.keys())

    def pop_all(self) -> Iterator[tuple[bytes, bytes]]:
        """Take all entries out: each comes once and is gone. Values of a per-CPU map come packed.

        One step an entry for hashes (5.6), so that nothing is lost; for others as `pop`.
        """
        if Command.MAP_LOOKUP_AND_DELETE_BATCH not in self._lacking:
            try:
                for keys, values in walk_batches(self, take=True):
                    yield from self._pairs(keys, values)
            except NoBatchError:
                self._lacking.add(Command.MAP_LOOKUP_AND_DELETE_BATCH)
            else:
                return
        for key in list(self.keys()):
            value = self._pop(key)
            if value is not None:
                yield key, value

    def clear(self) -> int:
        """Remove all entries that there are now; how many there were. Not for arrays, whose entries stay."""
        return self.delete_batch(list(self.keys()))

    # --- batches ------------------------------------------------------------------------------------------------------

    def update_batch(self, entries: Mapping[bytes, bytes] | Iterable[tuple[bytes, bytes]], flags: int = 0) -> int:
        """Set many entries, of a per-CPU map with the values of all CPUs packed; how many there were.

        The kernel has batches for arrays and hashes (5.6), tries and per-CPU arrays (5.13), maps of maps; others, and
        flags but LOCK, go entry by entry. Raises what `update` raises, at the first entry that fails: those before it
        are set.
        """
        keys, values = self.split_pairs(entries)
        self._check_sizes("key", keys, self.spec.key.size)
        self._check_sizes("value", values, self.entry_size)
        return self.update_packed(b"".join(keys), b"".join(values), flags)

    def split_pairs(self, entries: Mapping[K, V] | Iterable[tuple[K, V]]) -> tuple[list[K], list[V]]:
        """The keys and the values of a batch. Raises `LayoutError` for what is no pairs."""
        try:
            pairs = list(entries.items() if isinstance(entries, Mapping) else entries)
            return [key for key, _ in pairs], [value for _, value in pairs]
        except (TypeError, ValueError):
            raise LayoutError(f"a batch for map {self.spec.name} is a dict, or pairs of a key and a value") from None

    def update_packed(self, keys: Data, values: Data, flags: int = 0) -> int:
        """As `update_batch`, with keys and values packed: one behind the other, no gaps. The quickest way to write."""
        flags = self._checked_flags(flags)
        count = self._count_packed(keys, "keys", self.spec.key.size)
        if self._count_packed(values, "values", self.entry_size) != count:
            raise LayoutError(f"map {self.spec.name}: {count} keys, but another number of values")
        if not flags & ~MapUpdateFlag.LOCK and Command.MAP_UPDATE_BATCH not in self._lacking:
            try:
                update_batches(self, keys, values, count, flags)
            except NoBatchError:
                self._lacking.add(Command.MAP_UPDATE_BATCH)
            else:
                return count
        self._update_one_by_one(bytes(keys), bytes(values), count, flags)
        return count

    def delete_batch(self, keys: Iterable[bytes]) -> int:
        """Remove many entries; how many of them were there. As `update_batch`, but not for arrays."""
        wanted = list(keys)
        self._check_sizes("key", wanted, self.spec.key.size)
        if Command.MAP_DELETE_BATCH not in self._lacking:
            try:
                return delete_batches(self, b"".join(wanted), len(wanted))
            except NoBatchError:
                self._lacking.add(Command.MAP_DELETE_BATCH)
        return sum(self.delete(key) for key in wanted)

    def walk_packed(self) -> Iterator[tuple[bytes, bytes]]:
        """All entries, some thousands at a time: packed keys, packed values. The quickest way to read a map.

        Values of a per-CPU map come for all CPUs, each at a multiple of 8 bytes. As `keys` for what changes meanwhile,
        but a prefix trie's entries may come twice.
        """
        if Command.MAP_LOOKUP_BATCH not in self._lacking:
            try:
                yield from walk_batches(self)
            except NoBatchError:
                self._lacking.add(Command.MAP_LOOKUP_BATCH)
            else:
                return
        entries = self._entries()
        while chunk := list(islice(entries, _CHUNK)):
            yield b"".join(key for key, _ in chunk), b"".join(value for _, value in chunk)

    # --- parts: reading and writing -----------------------------------------------------------------------------------

    def _new_call(self) -> EntryCall:
        return EntryCall(self.fd, self.spec.key.size, self.entry_size)

    def _call(self, calls: list[EntryCall], flags: int = 0) -> EntryCall:
        """A call for this thread alone, until `_give_back`. What is called most does both in place, for speed."""
        try:
            call = calls.pop()
        except IndexError:
            call = self._new_call()
        if flags:
            call.attributes.flags = flags
        return call

    def _read(self, key: Data) -> bytes | None:
        """What the kernel holds at a key."""
        calls = self._calls
        call = self._call(calls)
        try:
            self._fill(call.key, "key", key)
            if call.lookup() == 0:
                value: bytes = call.value[:]
                return value
            number = sys.last_errno()
        finally:
            _give_back(call, calls)
        self._raise_unless_missing(Operation.LOOKUP, number)
        return None

    def _write(self, key: Data, value: Data, flags: int = 0) -> None:
        """Set what the kernel holds at a key."""
        calls = self._calls
        call = self._call(calls, self._checked_flags(flags))
        try:
            self._fill(call.key, "key", key)
            self._fill(call.value, "value", value)
            if call.update() == 0:
                return
            number = sys.last_errno()
        finally:
            _give_back(call, calls)
        raise operation_failure(self, Operation.UPDATE, number, flags)

    def _pop(self, key: Data) -> bytes | None:
        if Command.MAP_LOOKUP_AND_DELETE_ELEM not in self._lacking:
            calls = self._calls
            call = self._call(calls)
            try:
                self._fill(call.key, "key", key)
                if call.pop() == 0:
                    value: bytes = call.value[:]
                    return value
                number = sys.last_errno()
            finally:
                _give_back(call, calls)
            if number != ENOTSUPP or self._kind.lacks & {Operation.LOOKUP, Operation.DELETE}:
                self._raise_unless_missing(Operation.POP, number)
                return None
            self._lacking.add(Command.MAP_LOOKUP_AND_DELETE_ELEM)
        found = self._read(key)
        while found is not None and not self.delete(key):
            found = self._read(key)
        return found

    def _entries(self) -> Iterator[tuple[bytes, bytes]]:
        if Command.MAP_LOOKUP_BATCH not in self._lacking:
            # A trie's walk starts over when an entry vanishes under it.
            seen: set[bytes] | None = set() if self.spec.type == MapType.LPM_TRIE else None
            try:
                for keys, values in walk_batches(self):
                    pairs = self._pairs(keys, values)
                    yield from pairs if seen is None else _unseen(pairs, seen)
            except NoBatchError:
                self._lacking.add(Command.MAP_LOOKUP_BATCH)
            else:
                return
        for key in self.keys() if self._kind.indexed else self._walk_keys():
            value = self._read(key)
            if value is not None:
                yield key, value

    def _walk_keys(self) -> Iterator[bytes]:
        walk = KeyWalk(self.spec.key.size)
        # The kernel starts over when the key that it is given is gone. So keys are remembered, and the walk ends when
        # it has met as many of them again as there can be.
        seen: set[bytes] = set()
        repeated = 0
        while repeated <= self.spec.max_entries:
            key = walk.next(self.fd)
            if key is None:
                self._raise_unless_missing(Operation.WALK, sys.last_errno())
                return
            if key in seen:
                repeated += 1
                continue
            seen.add(key)
            yield key

    def _update_one_by_one(self, keys: bytes, values: bytes, count: int, flags: int) -> None:
        for done, (key, value) in enumerate(self._pairs(keys, values)):
            try:
                self._write(key, value, flags)
            except KernelError as error:
                raise stopped(error, done, count) from None

    def _raise_unless_missing(self, operation: Operation, number: int, flags: int = 0) -> None:
        """That there is no entry is no error; anything else is raised."""
        if number != errno.ENOENT:
            raise operation_failure(self, operation, number, flags)

    # --- parts: sizes -------------------------------------------------------------------------------------------------

    def _fill(self, memory: Any, what: str, data: Data) -> None:
        try:
            memory[:] = data
        except (ValueError, TypeError, BufferError):
            raise self._misfit(what, data, len(memory)) from None

    def _misfit(self, what: str, data: object, size: int) -> LayoutError:
        # The kernel reads as many bytes as the map's definition says, whatever we hand over.
        if not isinstance(data, Data):
            return LayoutError(f"a {what} of map {self.spec.name} is {size} bytes, not {data!r}: TypedMap takes values")
        if not memoryview(data).c_contiguous:
            return LayoutError(f"a {what} of map {self.spec.name} is {size} bytes in a row: copy the view by bytes()")
        return LayoutError(f"a {what} of map {self.spec.name} takes {size} bytes, not {memoryview(data).nbytes}")

    def _misfit_of_entry(self, key: object, value: object) -> LayoutError:
        size = self.spec.key.size
        if isinstance(key, Data) and memoryview(key).c_contiguous and memoryview(key).nbytes == size:
            return self._misfit("value", value, self.entry_size)
        return self._misfit("key", key, size)

    def _checked_flags(self, flags: Any) -> int:
        """Flags as the kernel's 64 bits. Raises `MapOperationError` for what these cannot hold."""
        if isinstance(flags, int) and 0 <= flags < 1 << 64:
            return flags
        text = f"cannot work on map {self.spec.name}: flags are of MapUpdateFlag, not {flags!r}"
        raise MapOperationError(errno.EINVAL, text)

    def _check_sizes(self, what: str, given: Sequence[Any], size: int) -> None:
        try:
            if set(map(len, given)) <= {size} and set(map(type, given)) <= {bytes}:
                return
        except TypeError:  # among them is something without a length
            pass
        for each in given:
            if not isinstance(each, Data) or not memoryview(each).c_contiguous or memoryview(each).nbytes != size:
                raise self._misfit(what, each, size)

    def _count_packed(self, data: Any, what: str, size: int) -> int:
        if not isinstance(data, Data) or not memoryview(data).c_contiguous:
            raise LayoutError(f"map {self.spec.name}: packed {what} are bytes in a row, not {data!r}")
        length = memoryview(data).nbytes
        if not size:
            raise LayoutError(f"map {self.spec.name} has no {what}: it takes single values")
        if length % size:
            raise LayoutError(f"map {self.spec.name}: {length} bytes are no whole number of {what} of {size} bytes")
        return length // size

    def _pairs(self, keys: bytes, values: bytes) -> Iterator[tuple[bytes, bytes]]:
        return zip(_split(keys, self.spec.key.size), _split(values, self.entry_size), strict=True)

    # --- parts: per-CPU maps ------------------------------------------------------------------------------------------

    def _check_one_value(self, instead: str) -> None:
        # The kernel reads and writes a value for each CPU here, far beyond a buffer for one.
        if self._per_cpu:
            raise BpfError(f"map {self.spec.name} has a value for each CPU: use {instead}, or a PerCpuMap")

    def _check_per_cpu(self, instead: str) -> None:
        if not self._per_cpu:
            raise BpfError(f"map {self.spec.name} has one value for all CPUs: use {instead}")

    def _split_cpus(self, data: bytes) -> list[bytes]:
        size, stride = self.spec.value.size, per_cpu_stride(self.spec.value.size)
        return [data[at : at + size] for at in range(0, len(data), stride)]

    def _join_cpus(self, values: Any) -> bytes:
        cpus, size = possible_cpus(), self.spec.value.size
        if not isinstance(values, Sequence) or isinstance(values, str | Data) or len(values) != cpus:
            given = len(values) if isinstance(values, Sequence) else repr(values)
            raise LayoutError(f"map {self.spec.name} takes a value for each of {cpus} CPUs, not {given}")
        self._check_sizes("value", values, size)
        return b"".join(bytes(value).ljust(per_cpu_stride(size), b"\0") for value in values)


def _give_back(call: EntryCall, calls: list[EntryCall]) -> None:
    call.attributes.flags = 0
    calls.append(call)


def _split(data: bytes, size: int) -> Iterator[bytes]:
    return chain.from_iterable(iter_unpack(f"{size}s", data))


def _unseen(pairs: Iterator[tuple[bytes, bytes]], seen: set[bytes]) -> Iterator[tuple[bytes, bytes]]:
    for key, value in pairs:
        if key not in seen:
            seen.add(key)
            yield key, value
