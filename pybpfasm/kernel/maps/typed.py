"""Maps by Python values: views of a map, with the manners of a dict."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Generic, TypeVar, cast, overload

from pybpfasm.kernel.maps.codecs import Codec, codec_of, per_cpu, references
from pybpfasm.kernel.maps.map import Map
from pybpfasm.lang.maps import MapDeclaration
from pybpfasm.lang.types import LayoutError
from pybpfasm.spec import Untyped
from pybpfasm.uapi import MapType

K = TypeVar("K")
V = TypeVar("V")
D = TypeVar("D")

_MISSING: Any = object()


class TypedMap(Generic[K, V]):
    """A map with the key and value types of its declaration. It does not own the map.

    Where values are descriptors (`Map.kind`), whatever has a `fileno()` is taken, and an id or a cookie comes back.
    Threads may share a view, as they may the map. Its methods raise what the map's do.
    """

    def __init__(self, declaration: MapDeclaration[K, V], map_: Map) -> None:
        self._set_up(
            map_, _key_codec(map_, declaration.key_annotation), _value_codec(map_, declaration.value_annotation)
        )

    @classmethod
    def of(cls, map_: Map, key: Any = None, value: Any = None) -> TypedMap[Any, Any]:
        """A view by the types given: those of `pybpfasm.lang`, `bytes`, `int`, addresses of `ipaddress`, or BTF types.

        Without one, the type is that of the map's spec: its BTF type, as plain Python values
        (`pybpfasm.kernel.maps.btf_values`), or bytes. Keys of a prefix trie may be `IPv4Network` and `IPv6Network`.
        Raises `LayoutError` for a type of another size.
        """
        made = cls.__new__(cls)
        made._set_up(map_, _key_codec(map_, key), _value_codec(map_, value))
        return made

    def _set_up(self, map_: Map, key: Codec, value: Codec) -> None:
        self.map = map_
        self._key, self._value = key, value

    # --- single entries -----------------------------------------------------------------------------------------------

    def __getitem__(self, key: K) -> V:
        """The value at `key`. Raises KeyError if there is none."""
        data = self.map.lookup(self._key.pack(key))
        if data is None:
            raise KeyError(key)
        return cast(V, self._value.unpack(data))

    def __setitem__(self, key: K, value: V) -> None:
        """Set the value at `key`. Raises `MapFullError` if the map is full."""
        self.map.update(self._key.pack(key), self._value.pack(value))

    def __delitem__(self, key: K) -> None:
        """Remove the entry at `key`. Raises KeyError if there is none."""
        if not self.map.delete(self._key.pack(key)):
            raise KeyError(key)

    def __contains__(self, key: K) -> bool:
        """Whether there is an entry at `key`; in a prefix trie, one that matches."""
        return self.map.lookup(self._key.pack(key)) is not None

    @overload
    def get(self, key: K) -> V | None: ...
    @overload
    def get(self, key: K, default: D) -> V | D: ...
    def get(self, key: K, default: Any = None) -> Any:
        """The value at `key`, or `default`."""
        data = self.map.lookup(self._key.pack(key))
        return default if data is None else self._value.unpack(data)

    def set(self, key: K, value: V) -> None:
        """Set the value at `key`. Raises `MapFullError` if the map is full."""
        self.map.update(self._key.pack(key), self._value.pack(value))

    def update(self, key: K, value: V, flags: int = 0) -> None:
        """Set the value at `key` by flags of `MapUpdateFlag`. Raises `KernelError`: EEXIST, ENOENT as they ask for."""
        self.map.update(self._key.pack(key), self._value.pack(value), flags)

    def delete(self, key: K) -> bool:
        """Remove the entry at `key`; False if there was none."""
        return self.map.delete(self._key.pack(key))

    @overload
    def pop(self, key: K) -> V: ...
    @overload
    def pop(self, key: K, default: D) -> V | D: ...
    def pop(self, key: K, default: Any = _MISSING) -> Any:
        """Remove the entry at `key`, see `Map.pop`, and return its value, or `default`; KeyError without one."""
        data = self.map.pop(self._key.pack(key))
        if data is not None:
            return self._value.unpack(data)
        if default is _MISSING:
            raise KeyError(key)
        return default

    # --- all entries --------------------------------------------------------------------------------------------------

    def keys(self) -> Iterator[K]:
        """The keys, as `Map.keys`."""
        return (cast(K, self._key.unpack(key)) for key in self.map.keys())  # noqa: SIM118 - a map is no dict

    def values(self) -> Iterator[V]:
        """The values, as `Map.items`."""
        return (value for _, value in self.items())

    def items(self) -> Iterator[tuple[K, V]]:
        """All entries, as `Map.items`; `dict(view.items())` is a copy."""
        key, value = self._key.unpack, self._value.unpack
        return ((key(raw_key), value(raw_value)) for raw_key, raw_value in self.map.items())

    def __iter__(self) -> Iterator[K]:
        return self.keys()

    def __len__(self) -> int:
        """How many entries there are: a walk through the map."""
        return self.map.count()

    def __bool__(self) -> bool:
        """True, as for any object: whether there are entries is a question of `len`, which walks."""
        return True

    def clear(self) -> int:
        """Remove all entries that there are now; how many there were."""
        return self.map.clear()

    def pop_all(self) -> Iterator[tuple[K, V]]:
        """Take all entries out, as `Map.pop_all`."""
        key, value = self._key.unpack, self._value.unpack
        return ((key(raw_key), value(raw_value)) for raw_key, raw_value in self.map.pop_all())

    # --- batches ------------------------------------------------------------------------------------------------------

    def update_batch(self, entries: Mapping[K, V] | Iterable[tuple[K, V]], flags: int = 0) -> int:
        """Set many entries, as `Map.update_batch`; how many there were."""
        keys, values = self.map.split_pairs(entries)
        return self.map.update_packed(self._key.pack_all(keys), self._value.pack_all(values), flags)

    def delete_batch(self, keys: Iterable[K]) -> int:
        """Remove many entries, as `Map.delete_batch`; how many of them were there."""
        return self.map.delete_batch(self._key.pack(key) for key in keys)

    def read_all(self) -> dict[K, V]:
        """All entries, read in batches: the quickest way to a copy."""
        found: dict[K, V] = {}
        for keys, values in self.map.walk_packed():
            found.update(zip(self._key.unpack_all(keys), self._value.unpack_all(values), strict=True))
        return found

    # --- per-CPU maps -------------------------------------------------------------------------------------------------

    def per_cpu(self, key: K) -> list[V]:
        """The value of each possible CPU, for a per-CPU map; none if there is no entry."""
        return [cast(V, self._value.unpack(data)) for data in self.map.lookup_per_cpu(self._key.pack(key)) or ()]

    def set_per_cpu(self, key: K, values: Iterable[V], flags: int = 0) -> None:
        """Set the value of each possible CPU, for a per-CPU map."""
        self.map.update_per_cpu(
            self._key.pack(key), [self._value.pack(value) for value in _listed(values, self.map)], flags
        )


class PerCpuMap(TypedMap[K, list[V]]):
    """A per-CPU map: each value is a list of one for each possible CPU, in their order. It does not own the map."""

    def __init__(self, declaration: MapDeclaration[K, V], map_: Map) -> None:
        self._set_up(
            map_, _key_codec(map_, declaration.key_annotation), _value_codec(map_, declaration.value_annotation)
        )

    def _set_up(self, map_: Map, key: Codec, value: Codec) -> None:
        super()._set_up(map_, key, value)
        # A whole entry, packed as the kernel has it.
        self._entry = per_cpu(value)

    @classmethod
    def of(cls, map_: Map, key: Any = None, value: Any = None) -> PerCpuMap[Any, Any]:
        """A view by the types given, as `TypedMap.of`; `value` is the type of one CPU's value."""
        made = cls.__new__(cls)
        made._set_up(map_, _key_codec(map_, key), _value_codec(map_, value))
        return made

    def __getitem__(self, key: K) -> list[V]:
        """The values at `key`. Raises KeyError if there are none."""
        found = self.map.lookup_per_cpu(self._key.pack(key))
        if found is None:
            raise KeyError(key)
        return [cast(V, self._value.unpack(data)) for data in found]

    def __setitem__(self, key: K, value: list[V]) -> None:
        """Set the values at `key`, as many as there are possible CPUs."""
        self.update(key, value)

    def __contains__(self, key: K) -> bool:
        return self.map.lookup_per_cpu(self._key.pack(key)) is not None

    def get(self, key: K, default: Any = None) -> Any:
        """The values at `key`, or `default`."""
        try:
            return self[key]
        except KeyError:
            return default

    def set(self, key: K, value: list[V]) -> None:
        """Set the values at `key`."""
        self.update(key, value)

    def update(self, key: K, value: list[V], flags: int = 0) -> None:
        """Set the values at `key`."""
        self.map.update_per_cpu(
            self._key.pack(key), [self._value.pack(each) for each in _listed(value, self.map)], flags
        )

    def pop(self, key: K, default: Any = _MISSING) -> Any:
        """Remove the entry at `key` and return its values, or `default`; KeyError without one."""
        found = self.map.pop_per_cpu(self._key.pack(key))
        if found is not None:
            return [self._value.unpack(data) for data in found]
        if default is _MISSING:
            raise KeyError(key)
        return default

    def items(self) -> Iterator[tuple[K, list[V]]]:
        """All entries, as `Map.items_per_cpu`."""
        key, value = self._key.unpack, self._value.unpack
        return ((key(raw_key), [value(each) for each in raw]) for raw_key, raw in self.map.items_per_cpu())

    def pop_all(self) -> Iterator[tuple[K, list[V]]]:
        """Take all entries out, as `Map.pop_all`."""
        return ((self._key.unpack(key), self._entry.unpack(values)) for key, values in self.map.pop_all())

    def update_batch(self, entries: Mapping[K, list[V]] | Iterable[tuple[K, list[V]]], flags: int = 0) -> int:
        """Set many entries, as `Map.update_batch`; how many there were."""
        keys, values = self.map.split_pairs(entries)
        return self.map.update_packed(self._key.pack_all(keys), self._entry.pack_all(values), flags)

    def read_all(self) -> dict[K, list[V]]:
        """All entries, read in batches."""
        return dict(self.items())


class TypedQueue(Generic[V]):
    """A queue (first in, first out) or a stack (last in, first out). It does not own the map (Linux 4.20)."""

    def __init__(self, map_: Map, value: Any = None) -> None:
        _check_type(map_, MapType.QUEUE, MapType.STACK)
        self.map = map_
        self._value = _value_codec(map_, value)

    def push(self, value: V, *, displace: bool = False) -> None:
        """Add a value. A full map raises `MapFullError`, or with `displace` drops its oldest value."""
        # BPF_EXIST says so, of all flags (queue_stack_map_push_elem in kernel/bpf/queue_stack_maps.c).
        self.map.update(b"", self._value.pack(value), 2 if displace else 0)

    def pop(self) -> V | None:
        """Take the next value; None if there is none."""
        data = self.map.pop(b"")
        return None if data is None else cast(V, self._value.unpack(data))

    def peek(self) -> V | None:
        """The next value, which stays; None if there is none."""
        data = self.map.lookup(b"")
        return None if data is None else cast(V, self._value.unpack(data))

    def drain(self) -> Iterator[V]:
        """Take value after value, until there is none."""
        while (data := self.map.pop(b"")) is not None:
            yield cast(V, self._value.unpack(data))


class BloomFilter(Generic[V]):
    """A bloom filter (Linux 5.16): what was added is in it, and seldom what was not. It does not own the map."""

    def __init__(self, map_: Map, value: Any = None) -> None:
        _check_type(map_, MapType.BLOOM_FILTER)
        self.map = map_
        self._value = _value_codec(map_, value)

    def add(self, value: V) -> None:
        """Add a value; none can be taken out again."""
        self.map.update(b"", self._value.pack(value))

    def __contains__(self, value: V) -> bool:
        """False: it was not added. True: it was, or happens to look alike."""
        return self.map.may_contain(self._value.pack(value))


def _key_codec(map_: Map, annotation: Any) -> Codec:
    size = map_.spec.key.size
    is_fd = map_.kind.key_is_fd
    found = references(size, signed=True) if is_fd else codec_of(_chosen(annotation, map_.spec.key), size)
    return found.naming(f"key of map {map_.spec.name}")


def _value_codec(map_: Map, annotation: Any) -> Codec:
    size = map_.spec.value.size
    is_fd = map_.kind.value_is_fd
    found = references(size) if is_fd else codec_of(_chosen(annotation, map_.spec.value), size)
    return found.naming(f"value of map {map_.spec.name}")


def _listed(values: Any, map_: Map) -> Iterable[Any]:
    if isinstance(values, Iterable):
        return values
    raise LayoutError(f"value of map {map_.spec.name}: {values!r} is no list of values, one for each CPU")


def _chosen(annotation: Any, known: Any) -> Any:
    if annotation is not None:
        return annotation
    return bytes if isinstance(known, Untyped) else known


def _check_type(map_: Map, *possible: MapType) -> None:
    if map_.spec.type not in possible:
        raise LayoutError(
            f"map {map_.spec.name} is of type {map_.kind.title}, not {' or '.join(t.name.lower() for t in possible)}"
        )
