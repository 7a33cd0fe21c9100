"""What all maps have: a shape, access from Python with the kernel's errors, and access by a program.

The two sides differ as in the kernel: user space copies keys and values, a program gets pointers to values.
"""

from collections.abc import Iterator
from typing import NoReturn

from pybpfasm import btf
from pybpfasm.sim.errors import MapError, SimError
from pybpfasm.sim.linux_errno import Errno
from pybpfasm.sim.memory import ByteOrder
from pybpfasm.spec import MapSpec, Untyped
from pybpfasm.uapi import MapCreateFlag, MapType, MapUpdateFlag

Key = bytes | int

# The values of a key: one, or one for each CPU.
Values = list[bytearray]

PER_CPU = frozenset((MapType.PERCPU_HASH, MapType.PERCPU_ARRAY, MapType.LRU_PERCPU_HASH, MapType.PERCPU_CGROUP_STORAGE))

# An update of these looks at BPF_F_LOCK, to others it is not known (kernel/bpf/hashtab.c, arraymap.c).
_LOCKABLE = frozenset((MapType.HASH, MapType.ARRAY, MapType.PERCPU_ARRAY))


class Map:
    """A map. Keys and values are bytes; an integer key or value is laid out in the map's byte order.

    `cpus` counts the values of an entry of a per-CPU map. Methods raise `MapError`, whose errno is the kernel's.
    """

    def __init__(self, spec: MapSpec, *, cpus: int = 4, order: ByteOrder = "little") -> None:
        self.spec = spec
        self.name = spec.name
        self.type = spec.type
        self.key_size = spec.key.size
        self.value_size = spec.value.size
        self.max_entries = spec.max_entries
        self.order = order
        self.cpus = cpus if spec.type in PER_CPU else 1
        self.set_up()

    def set_up(self) -> None:
        """Make the map empty."""

    def __repr__(self) -> str:
        return f"<sim map {self.name}: {self.type.name}>"

    # --- user space ---------------------------------------------------------------------------------------------------

    def lookup(self, key: Key) -> bytes | None:
        """The value at `key`, or None. Of a per-CPU map, the value of CPU 0: see `lookup_per_cpu`."""
        values = self.find(self.key_bytes(key), touch=False)
        return None if values is None else bytes(values[0])

    def lookup_per_cpu(self, key: Key) -> list[bytes] | None:
        """The value at `key` on each CPU, or None."""
        values = self.find(self.key_bytes(key), touch=False)
        return None if values is None else [bytes(value) for value in values]

    def update(self, key: Key, value: Key, flags: int = 0) -> None:
        """Set the value at `key`, on all CPUs. Raises `MapError`: E2BIG, EEXIST, ENOENT, EINVAL."""
        self.put(self.key_bytes(key), [self.value_bytes(value)] * self.cpus, flags, list(range(self.cpus)))

    def update_per_cpu(self, key: Key, values: list[Key], flags: int = 0) -> None:
        """Set the value at `key` on each CPU."""
        if len(values) != self.cpus:
            self.refuse(Errno.EINVAL, f"{len(values)} values for {self.cpus} CPUs")
        self.put(self.key_bytes(key), [self.value_bytes(value) for value in values], flags, list(range(self.cpus)))

    def delete(self, key: Key) -> bool:
        """Remove the entry at `key`; False if there was none."""
        try:
            self.remove(self.key_bytes(key))
        except MapError as error:
            if error.errno == Errno.ENOENT:
                return False
            raise
        return True

    def items(self) -> list[tuple[bytes, bytes]]:
        """All entries; of a per-CPU map with the value of CPU 0."""
        return [(key, bytes(values[0])) for key, values in self.entries()]

    def keys(self) -> list[bytes]:
        """The keys of all entries."""
        return [key for key, _ in self.entries()]

    def __len__(self) -> int:
        return len(self.items())

    # --- programs -----------------------------------------------------------------------------------------------------

    def find(self, key: bytes, *, touch: bool = True) -> Values | None:
        """The values at `key`, in place; None if there are none. `touch` counts as a use, for LRU."""
        del key, touch
        self.unsupported("look-up")

    def put(self, key: bytes, values: list[bytes], flags: int, cpus: list[int]) -> None:
        """Set the values at `key`, of the CPUs that are listed."""
        del key, values, flags, cpus
        self.unsupported("update")

    def remove(self, key: bytes) -> None:
        """Remove the entry at `key`. Raises `MapError`: ENOENT."""
        del key
        self.unsupported("delete")

    def entries(self) -> Iterator[tuple[bytes, Values]]:
        """All entries, with values in place."""
        self.unsupported("walk")

    def push(self, value: bytes, flags: int) -> None:
        """Add a value to a queue, a stack or a bloom filter."""
        del value, flags
        self.unsupported("push")

    def pop(self) -> bytes:
        """Take the next value. Raises `MapError`: ENOENT."""
        self.unsupported("pop")

    def peek(self, value: bytes) -> bytes:
        """The next value, without taking it; a bloom filter is asked whether it may hold `value`."""
        del value
        self.unsupported("peek")

    # --- for the kinds of map -----------------------------------------------------------------------------------------

    @property
    def program_can_write(self) -> bool:
        """Whether a program may write values (BPF_F_RDONLY_PROG says no)."""
        return not self.spec.flags & MapCreateFlag.RDONLY_PROG

    @property
    def program_can_read(self) -> bool:
        """Whether a program may read values (BPF_F_WRONLY_PROG says no)."""
        return not self.spec.flags & MapCreateFlag.WRONLY_PROG

    def key_bytes(self, key: Key) -> bytes:
        """A key as bytes. Raises `MapError`: EINVAL for a wrong size."""
        return self._bytes(key, self.key_size, "key")

    def value_bytes(self, value: Key) -> bytes:
        """A value as bytes. Raises `MapError`: EINVAL for a wrong size."""
        return self._bytes(value, self.value_size, "value")

    def index(self, key: bytes) -> int:
        """The key of an array as a number."""
        return int.from_bytes(key, self.order)

    def check_flags(self, flags: int, *, exists: bool) -> None:
        """Apply NOEXIST and EXIST. Raises `MapError`: EEXIST, ENOENT, EINVAL."""
        self.check_known(flags)
        self.check_lock(flags)
        if flags & MapUpdateFlag.NOEXIST and exists:
            self.refuse(Errno.EEXIST, "the key is there already")
        if flags & MapUpdateFlag.EXIST and not exists:
            self.refuse(Errno.ENOENT, "the key is not there")

    def check_known(self, flags: int) -> None:
        """Refuse flags that no update has."""
        locking = int(MapUpdateFlag.LOCK) if self.type in _LOCKABLE else 0
        if not 0 <= flags & ~locking <= MapUpdateFlag.EXIST:
            self.refuse(Errno.EINVAL, f"flags {flags:#x} are not known")

    def check_lock(self, flags: int) -> None:
        """Refuse BPF_F_LOCK for a value without a bpf_spin_lock."""
        if flags & MapUpdateFlag.LOCK and not _has_lock(self.spec.value):
            self.refuse(Errno.EINVAL, "its value has no bpf_spin_lock")

    def refuse(self, number: Errno, why: str) -> NoReturn:
        """Raise what the kernel would return."""
        raise MapError(number, f"map {self.name}: {why} ({number.name})")

    def unsupported(self, what: str) -> NoReturn:
        """An operation that this kind of map does not have."""
        raise SimError(f"map {self.name} is of type {self.type.name}, which has no {what}")

    def _bytes(self, given: Key, size: int, what: str) -> bytes:
        if isinstance(given, int):
            if not -(1 << size * 8 - 1) <= given < 1 << size * 8 if size else given:
                self.refuse(Errno.EINVAL, f"{given} does not fit a {what} of {size} bytes")
            return (given & (1 << size * 8) - 1).to_bytes(size, self.order)
        if len(given) != size:
            self.refuse(Errno.EINVAL, f"a {what} has {size} bytes, not {len(given)}")
        return bytes(given)


def _has_lock(type_: btf.Type | Untyped) -> bool:
    """Whether a value has a bpf_spin_lock, which is a member of it or of a struct in it."""
    while isinstance(type_, btf.Typedef):
        type_ = type_.type
    if not isinstance(type_, btf.Struct):
        return False
    return type_.name == "bpf_spin_lock" or any(_has_lock(member.type) for member in type_.members)
