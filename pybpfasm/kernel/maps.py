"""Maps in the kernel: create, open from a pin, read and write entries."""

import errno
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

import attrs

from pybpfasm import btf
from pybpfasm.errors import BpfError, KernelError
from pybpfasm.kernel import sys
from pybpfasm.kernel.descriptor import Descriptor
from pybpfasm.kernel.info import MapInfo, map_info
from pybpfasm.kernel.pins import open_pin, pin
from pybpfasm.lang.maps import MapDeclaration
from pybpfasm.lang.types import LayoutError, Struct, pack, unpack
from pybpfasm.spec import MapSpec, Untyped
from pybpfasm.uapi import Command, MapType

K = TypeVar("K")
V = TypeVar("V", bound=Struct)

# Object names in the kernel: 15 characters and a zero (BPF_OBJ_NAME_LEN).
NAME_BYTES = 15

_OBJECT_NAME = re.compile(r"[A-Za-z0-9_.]+")

# Map types whose keys and values the kernel will not take BTF for (their map_check_btf refuses it).
_WITHOUT_BTF = {MapType.SOCKHASH}


_PER_CPU = {MapType.PERCPU_ARRAY, MapType.PERCPU_HASH, MapType.LRU_PERCPU_HASH, MapType.PERCPU_CGROUP_STORAGE}


class ShapeError(BpfError):
    """A pinned map is not of the shape that is wanted; the text says in what they differ."""


class MapFullError(KernelError):
    """An entry could not be added because the map has as many as it may have."""


class Map(Descriptor):
    """A map of the kernel, keys and values as bytes."""

    def __init__(self, fd: int, spec: MapSpec) -> None:
        super().__init__(fd)
        self.spec = spec

    @classmethod
    def create(cls, spec: MapSpec) -> "Map":
        """Create the map. Raises `KernelError`."""
        attributes = sys.new(
            "map_create",
            map_type=spec.type,
            key_size=spec.key.size,
            value_size=spec.value.size,
            max_entries=spec.max_entries,
            map_flags=spec.flags,
            map_name=object_name(spec.name),
        )
        if spec.type in _WITHOUT_BTF or isinstance(spec.key, Untyped) or isinstance(spec.value, Untyped):
            return cls(sys.bpf(Command.MAP_CREATE, attributes, f"create map {spec.name}"), spec)
        encoder = btf.Encoder()
        attributes.btf_key_type_id = encoder.type_id(spec.key)
        attributes.btf_value_type_id = encoder.type_id(spec.value)
        with load_btf(encoder.encode(), f"the types of map {spec.name}") as types:
            attributes.btf_fd = types.fd
            return cls(sys.bpf(Command.MAP_CREATE, attributes, f"create map {spec.name}"), spec)

    @classmethod
    def open(cls, path: Path, spec: MapSpec) -> "Map":
        """Open a pinned map, which must be of the spec's shape. Raises `KernelError` or `ShapeError`."""
        opened = cls(open_pin(path), spec)
        differences = _differences(opened.info(), spec)
        if differences:
            opened.close()
            raise ShapeError(f"the pinned map {path} is another than wanted: {', '.join(differences)}")
        return opened

    @classmethod
    def open_any_size(cls, path: Path, spec: MapSpec) -> "Map":
        """Open a pinned map of the spec's shape, however many entries it may have."""
        with cls(open_pin(path), spec) as opened:
            size = opened.info().max_entries
        return cls.open(path, spec.resized(size))

    def info(self) -> MapInfo:
        """What the kernel says of the map."""
        return map_info(self.fd)

    def pin(self, path: Path) -> None:
        """Keep the map alive under a name."""
        pin(self.fd, path)

    def lookup(self, key: bytes) -> bytes | None:
        """The value at `key`, or None."""
        self._check_plain("lookup_per_cpu")
        return self._lookup(key, self.spec.value.size)

    def lookup_per_cpu(self, key: bytes) -> list[bytes] | None:
        """The value at `key` on each possible CPU, for a per-CPU map, or None."""
        if self.spec.type not in _PER_CPU:
            raise BpfError(f"map {self.spec.name} has one value for all CPUs: use lookup")
        size = self.spec.value.size
        stride = -(-size // 8) * 8
        data = self._lookup(key, stride * possible_cpus())
        return None if data is None else [data[at : at + size] for at in range(0, len(data), stride)]

    def update(self, key: bytes, value: bytes, flags: int = 0) -> None:
        """Set the value at `key`. Raises `MapFullError` if the map is full."""
        self._check_plain("lookup_per_cpu; only programs can write it")
        _check_size(f"a value of map {self.spec.name}", value, self.spec.value.size)
        held, content = self._key(key), sys.buffer(value)
        attempted = f"update map {self.spec.name}"
        try:
            self._element(Command.MAP_UPDATE_ELEM, attempted, held, content, flags)
        except KernelError as error:
            if error.errno != errno.E2BIG:
                raise
            reason = f"cannot {attempted}: it is full, it holds {self.spec.max_entries} entries"
            raise MapFullError(errno.E2BIG, reason) from None

    def delete(self, key: bytes) -> bool:
        """Remove the entry at `key`; False if there was none."""
        return self._found(Command.MAP_DELETE_ELEM, "delete from", self._key(key), sys.NULL)

    def keys(self) -> Iterator[bytes]:
        """The keys. Entries that come or go meanwhile may be missed or seen twice; the walk always ends."""
        key = sys.NULL
        # The kernel starts over when the key it is given is gone: no more keys are taken than the map can hold.
        for _ in range(self.info().max_entries):
            following = sys.buffer(self.spec.key.size)
            if not self._found(Command.MAP_GET_NEXT_KEY, "walk through", key, following):
                return
            yield sys.contents(following)
            key = following

    def _lookup(self, key: bytes, size: int) -> bytes | None:
        value = sys.buffer(size)
        found = self._found(Command.MAP_LOOKUP_ELEM, "look up", self._key(key), value)
        return sys.contents(value) if found else None

    def _key(self, key: bytes) -> Any:
        _check_size(f"a key of map {self.spec.name}", key, self.spec.key.size)
        return sys.buffer(key)

    def _check_plain(self, instead: str) -> None:
        # The kernel reads and writes a value for each CPU here, far beyond a buffer for one.
        if self.spec.type in _PER_CPU:
            raise BpfError(f"map {self.spec.name} has a value for each CPU: use {instead}")

    def _found(self, command: Command, attempted: str, key: Any, value: Any) -> bool:
        try:
            self._element(command, f"{attempted} map {self.spec.name}", key, value)
        except KernelError as error:
            if error.errno == errno.ENOENT:
                return False
            raise
        return True

    def _element(self, command: Command, attempted: str, key: Any, value: Any, flags: int = 0) -> None:
        attributes = sys.new(
            "map_elem", map_fd=self.fd, key=sys.address(key), value_or_next_key=sys.address(value), flags=flags
        )
        sys.bpf(command, attributes, attempted)


class TypedMap(Generic[K, V]):
    """A map with the key and value types of its declaration. It does not own the map."""

    def __init__(self, declaration: MapDeclaration[K, V], map_: Map) -> None:
        self.map = map_
        self._key = declaration.key_annotation
        self._value = declaration.value_annotation

    def get(self, key: K) -> V | None:
        """The value at `key`, or None."""
        data = self.map.lookup(pack(self._key, key))
        return None if data is None else cast(V, unpack(self._value, data))

    def set(self, key: K, value: V) -> None:
        """Set the value at `key`. Raises `MapFullError` if the map is full."""
        self.map.update(pack(self._key, key), pack(self._value, value))

    def delete(self, key: K) -> bool:
        """Remove the entry at `key`; False if there was none."""
        return self.map.delete(pack(self._key, key))

    def keys(self) -> Iterator[K]:
        """The keys, as `Map.keys`."""
        return (cast(K, unpack(self._key, key)) for key in self.map.keys())  # noqa: SIM118 - a map is no dict

    def items(self) -> dict[K, V]:
        """All entries; one that vanishes meanwhile is left out."""
        found = ((key, self.get(key)) for key in list(self.keys()))
        return {key: value for key, value in found if value is not None}

    def per_cpu(self, key: K) -> list[V]:
        """The value of each possible CPU, for a per-CPU map."""
        return [cast(V, unpack(self._value, data)) for data in self.map.lookup_per_cpu(pack(self._key, key)) or ()]


def possible_cpus() -> int:
    """How many CPUs this kernel may ever have."""
    return count_cpus(Path("/sys/devices/system/cpu/possible").read_text())


def count_cpus(listed: str) -> int:
    """How many CPUs a list such as `0-3,8` names: 5."""
    ranges = [part.split("-") for part in listed.strip().split(",")]
    return sum(int(each[-1]) - int(each[0]) + 1 for each in ranges)


def _check_size(what: str, data: bytes, size: int) -> None:
    # The kernel reads as many bytes as the map's definition says, whatever we hand over.
    if len(data) != size:
        raise LayoutError(f"{what} takes {size} bytes, not {len(data)}")


def object_name(name: str) -> bytes:
    """A name as the kernel stores it, cut to what it keeps. Raises `BpfError` for characters that it refuses."""
    if not _OBJECT_NAME.fullmatch(name):
        raise BpfError(f"{name!r} is no name for a map or a program: letters, digits, `_` and `.` are possible")
    return name.encode()[:NAME_BYTES]


def load_btf(data: bytes, what: str) -> Descriptor:
    """Load BTF into the kernel; `what` it describes is named in the error."""
    held = sys.buffer(data)
    attributes = sys.new("btf_load", btf=sys.address(held), btf_size=len(data))
    return Descriptor(sys.bpf(Command.BTF_LOAD, attributes, f"load {what} (BTF)"))


def _differences(info: MapInfo, spec: MapSpec) -> list[str]:
    wanted = attrs.asdict(
        MapInfo(
            id=info.id,
            type=int(spec.type),
            key_size=spec.key.size,
            value_size=spec.value.size,
            max_entries=spec.max_entries,
            flags=spec.flags,
            name=info.name,
        )
    )
    found = attrs.asdict(info)
    return [f"{name} {found[name]}, not {wanted[name]}" for name in wanted if found[name] != wanted[name]]
