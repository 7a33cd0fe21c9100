"""Typed views: the manners of a dict, and what keys and values may be."""

import errno
import os
import socket
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any

import attrs
import pytest
from sane_maps import SPECS, U32, U64, cgroup, opened

from pybpfasm import Array, HashMap, PerCpuArray, Struct, be16, be32, btf, htons, i32, i64, ip4, u8, u16, u32, u64
from pybpfasm.errors import KernelError
from pybpfasm.kernel import features
from pybpfasm.kernel.maps import BloomFilter, Map, MapFullError, PerCpuMap, TypedMap, TypedQueue, possible_cpus
from pybpfasm.lang.types import LayoutError, Length, pack
from pybpfasm.spec import MapSpec, Untyped
from pybpfasm.uapi import MapType, MapUpdateFlag


class Address(Struct):
    """A key that is padded at its end."""

    ip: be32
    port: be16


class Place(Struct):
    """A struct in a struct."""

    at: Address
    small: u8
    signed: i32


class Alone(Struct):
    """A struct of one field."""

    count: u64


class Stat(Struct):
    """A value, with a hole after its first field."""

    small: u8
    count: u64


STATS: Any = HashMap[u32, Stat](max_entries=4)
PLACES: Any = HashMap[Address, Place](max_entries=4)
COUNTS: Any = PerCpuArray[u32, Alone](max_entries=2)


@pytest.fixture
def stats() -> Iterator[TypedMap[int, Stat]]:
    """A hash of structs."""
    with Map.create(STATS.spec("stats")) as made:
        yield TypedMap(STATS, made)


def untyped(key: int, value: int, type_: MapType = MapType.HASH) -> MapSpec:
    """A map of which the sizes are known."""
    return MapSpec("untyped", type_, Untyped(key), Untyped(value), 4)


# --- manners ----------------------------------------------------------------------------------------------------------


def test_the_manners_of_a_dict(stats: TypedMap[int, Stat]) -> None:
    """Set, get, ask, count, walk and remove, as with a dict."""
    one, two = Stat(small=1, count=10), Stat(small=2, count=20)
    stats[1] = one
    stats.set(2, two)
    assert stats[1] == one
    assert stats.get(2) == two
    assert 1 in stats
    assert 3 not in stats
    assert len(stats) == 2
    assert sorted(stats) == sorted(stats.keys()) == [1, 2]
    assert dict(stats.items()) == stats.read_all() == {1: one, 2: two}
    assert sorted(each.count for each in stats.values()) == [10, 20]
    del stats[1]
    assert stats.pop(2) == two
    assert len(stats) == 0
    assert stats


def test_what_is_not_there(stats: TypedMap[int, Stat]) -> None:
    """A missing key is KeyError, or the default."""
    for operation in (lambda: stats[7], lambda: stats.pop(7), lambda: stats.__delitem__(7)):
        with pytest.raises(KeyError, match=r"^7$"):
            operation()
    assert stats.get(7) is None
    assert stats.get(7, "none") == "none"
    assert stats.pop(7, None) is None
    assert not stats.delete(7)


def test_flags_of_an_update(stats: TypedMap[int, Stat]) -> None:
    """An update can be told to add or to replace."""
    stats.update(1, Stat(small=1, count=1), MapUpdateFlag.NOEXIST)
    with pytest.raises(KernelError) as caught:
        stats.update(1, Stat(small=1, count=1), MapUpdateFlag.NOEXIST)
    assert caught.value.errno == errno.EEXIST


def test_many_at_once(stats: TypedMap[int, Stat]) -> None:
    """A mapping or pairs are written in a batch, keys are removed in one."""
    entries = {number: Stat(small=number, count=number) for number in range(4)}
    assert stats.update_batch(entries) == 4
    assert stats.update_batch(entries.items()) == 4
    assert stats.read_all() == entries
    assert stats.delete_batch([0, 1, 9]) == 2
    assert sorted(key for key, _ in stats.pop_all()) == [2, 3]
    stats.update_batch(entries)
    assert stats.clear() == 4
    with pytest.raises(MapFullError):
        stats.update_batch({number: Stat(small=1, count=1) for number in range(5)})


def test_deleting_while_walking(stats: TypedMap[int, Stat]) -> None:
    """A view can be emptied on the way through it."""
    stats.update_batch({number: Stat(small=1, count=1) for number in range(4)})
    for key in stats:
        del stats[key]
    assert len(stats) == 0


# --- what keys and values may be --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("annotation", "size", "values"),
    [
        (u8, 1, [0, 255]),
        (u16, 2, [0, 65535]),
        (u32, 4, [0, 0xFFFFFFFF]),
        (u64, 8, [0, (1 << 64) - 1]),
        (i32, 4, [-(1 << 31), (1 << 31) - 1]),
        (i64, 8, [-(1 << 63), (1 << 63) - 1]),
        (int, 1, [0, 255]),
        (int, 8, [0, (1 << 64) - 1]),
        (bytes, 3, [b"abc", bytes(3)]),
        (be16, 2, [htons(80)]),
        (be32, 4, [ip4("10.0.0.1")]),
        (IPv4Address, 4, [IPv4Address("10.0.0.1")]),
        (IPv6Address, 16, [IPv6Address("fe80::1")]),
        (IPv4Network, 8, [IPv4Network("10.0.0.0/8"), IPv4Network("0.0.0.0/0")]),
        (IPv6Network, 20, [IPv6Network("fe80::/10")]),
        (Address, 8, [Address(ip=ip4("10.0.0.1"), port=htons(80))]),
        (Place, 16, [Place(at=Address(ip=ip4("10.0.0.1"), port=htons(80)), small=7, signed=-1)]),
        (Alone, 8, [Alone(count=9)]),
    ],
)
def test_values_as_keys_and_values(annotation: Any, size: int, values: list[Any]) -> None:
    """Each kind of value goes into a map and comes out as it was: as key, as value, alone and in a batch."""
    with Map.create(untyped(size, size)) as made:
        view = TypedMap.of(made, annotation, annotation)
        for value in values:
            view[value] = value
            assert view[value] == value
        assert view.read_all() == dict(view.items()) == {value: value for value in values}
        view.clear()
        view.update_batch({value: value for value in values})
        assert set(view) == set(values)


@pytest.mark.parametrize("declared", [Address, Place, Alone, Stat])
def test_structs_are_packed_as_programs_have_them(declared: type[Struct]) -> None:
    """The quick way to pack a struct gives the bytes that the slow one gives, padding of zeros included."""
    at = Address(ip=ip4("1.2.3.4"), port=htons(5))
    value = {
        Address: at,
        Place: Place(at=at, small=255, signed=-2),
        Alone: Alone(count=1 << 63),
        Stat: Stat(small=1, count=2),
    }[declared]
    with Map.create(untyped(4, declared.__layout__.size)) as made:
        view = TypedMap.of(made, u32, declared)
        view[1] = value
        assert made.lookup(b"\1\0\0\0") == bytes(value) == pack(declared, value)
        assert type(view[1]) is declared


@pytest.mark.parametrize(
    ("annotation", "size", "value", "said"),
    [
        (u32, 4, -1, r"-1 does not fit u32"),
        (u32, 4, 1 << 32, r"4294967296 does not fit u32"),
        (u32, 4, "text", r"'text' does not fit u32"),
        (i32, 4, 1 << 31, r"2147483648 does not fit i32"),
        (bytes, 4, b"abc", r"b'abc' is no 4 bytes"),
        (IPv4Address, 4, "10.0.0.1", r"'10.0.0.1' is no IPv4Address"),
        (IPv4Network, 8, IPv6Address("::1"), r"IPv6Address\('::1'\) is no IPv4Network and no IPv4Address"),
        (be16, 2, 80, r"80 is no be16"),
        (Stat, 16, Alone(count=1), r"Alone\(count=1\) is no Stat"),
        (Stat, 16, Stat(small=300, count=1), r"300 does not fit u8"),
    ],
)
def test_a_value_that_does_not_fit(annotation: Any, size: int, value: Any, said: str) -> None:
    """What does not fit is named, alone and in a batch; nothing is written."""
    with Map.create(untyped(4, size)) as made:
        view = TypedMap.of(made, u32, annotation)
        with pytest.raises(LayoutError, match=said):
            view[1] = value
        with pytest.raises(LayoutError, match=said):
            view.update_batch({1: value})
        assert len(view) == 0


@pytest.mark.parametrize(
    ("key", "said"),
    [
        (u64, r"has 8 bytes, and the map 4"),
        (Stat, r"^Stat has 16 bytes, and the map 4$"),
        (IPv6Address, r"^IPv6Address has 16 bytes, and the map 4$"),
        (list, r"has no layout"),
        (str, r"has no layout"),
    ],
)
def test_a_type_that_does_not_fit_the_map(key: Any, said: str) -> None:
    """A type of another size, or of none, is refused when the view is made."""
    with Map.create(untyped(4, 8)) as made, pytest.raises(LayoutError, match=said):
        TypedMap.of(made, key)


def test_an_int_of_three_bytes() -> None:
    """`int` is an integer of the map's size, of which there has to be one."""
    with (
        Map.create(untyped(3, 8)) as made,
        pytest.raises(LayoutError, match=r"^no integer has 3 bytes: name the type$"),
    ):
        TypedMap.of(made, int)


def test_an_address_is_looked_up_among_prefixes() -> None:
    """The key of a look-up may be an address."""
    spec = attrs.evolve(SPECS[MapType.LPM_TRIE], key=Untyped(20))
    with Map.create(spec) as made:
        view = TypedMap.of(made, IPv6Network, u64)
        view[IPv6Network("2001:db8::/32")] = 32
        assert view[IPv6Address("2001:db8::7")] == 32
        assert IPv6Address("::1") not in view
        assert list(view) == [IPv6Network("2001:db8::/32")]


def test_a_declared_map_of_arrays() -> None:
    """A declaration's types are the view's, also those that programs do not have as values."""
    declared: Any = Array[u32, u64](max_entries=3)
    with Map.create(declared.spec("numbers")) as made:
        view: TypedMap[int, int] = TypedMap(declared, made)
        view[2] = 7
        assert list(view.items()) == [(0, 0), (1, 0), (2, 7)]
        assert len(view) == 3


# --- per-CPU maps -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("type_", [MapType.PERCPU_HASH, MapType.PERCPU_ARRAY])
def test_lists_of_values(type_: MapType) -> None:
    """A per-CPU map has the same manners, with a list for each key."""
    cpus = possible_cpus()
    values = list(range(100, 100 + cpus))
    with Map.create(SPECS[type_]) as made:
        view = PerCpuMap.of(made)
        view[1] = values
        view.set(2, values)
        assert view[1] == view.get(2) == values
        assert view.read_all()[1] == dict(view.items())[2] == values
        view.update_batch({3: values})
        assert 3 in view
        with pytest.raises(LayoutError, match=rf"^map .* takes a value for each of {cpus} CPUs, not 0$"):
            view[1] = []
        if type_ == MapType.PERCPU_HASH:
            assert view.pop(1) == values
            assert view.pop(1, None) is None
            with pytest.raises(KeyError):
                view.pop(1)
            with pytest.raises(KeyError):
                view[1]
            assert dict(view.pop_all()) == {2: values, 3: values}


def test_a_declared_per_cpu_map() -> None:
    """Both views know a declaration of a per-CPU map."""
    cpus = possible_cpus()
    with Map.create(COUNTS.spec("counts")) as made:
        lists: PerCpuMap[int, Alone] = PerCpuMap(COUNTS, made)
        lists[1] = [Alone(count=cpu) for cpu in range(cpus)]
        plain: TypedMap[int, Alone] = TypedMap(COUNTS, made)
        assert plain.per_cpu(1) == [Alone(count=cpu) for cpu in range(cpus)]
        plain.set_per_cpu(1, [Alone(count=7)] * cpus)
        assert lists[1] == [Alone(count=7)] * cpus


# --- values by BTF ----------------------------------------------------------------------------------------------------


def test_types_of_the_spec() -> None:
    """Without types of the caller's, the map's own decide: structs are dicts."""
    with Map.create(STATS.spec("stats")) as made:
        view = TypedMap.of(made)
        view[1] = {"small": 3, "count": 4}
        assert view[1] == {"small": 3, "count": 4}
        assert TypedMap(STATS, made)[1] == Stat(small=3, count=4)
        view[2] = {"count": 5}
        assert dict(view.items())[2] == {"small": 0, "count": 5}
        with pytest.raises(LayoutError, match=r"^value of map stats: Stat has no member size$"):
            view[3] = {"size": 5}


def test_types_that_the_kernel_kept() -> None:
    """A map that is opened by its id alone is read by the types that it was made with."""
    with Map.create(STATS.spec("stats")) as made:
        TypedMap(STATS, made)[1] = Stat(small=3, count=4)
        with Map.by_id(made.info().id) as again:
            assert TypedMap.of(again).read_all() == {1: {"small": 3, "count": 4}}


def test_without_types() -> None:
    """Where nothing is known but sizes, keys and values are bytes."""
    with Map.create(untyped(4, 2)) as made:
        view = TypedMap.of(made)
        view[b"1234"] = b"56"
        assert dict(view.items()) == {b"1234": b"56"}


# --- queues, filters --------------------------------------------------------------------------------------------------


def test_a_queue_and_a_stack() -> None:
    """One gives back the oldest value, the other the newest; full, they refuse or drop the oldest."""
    for type_, order in ((MapType.QUEUE, [2, 3, 4, 5]), (MapType.STACK, [5, 4, 3, 2])):
        with Map.create(SPECS[type_]) as made:
            view: TypedQueue[int] = TypedQueue(made)
            assert view.peek() is None
            for number in (1, 2, 3, 4):
                view.push(number)
            with pytest.raises(MapFullError):
                view.push(5)
            view.push(5, displace=True)
            assert view.peek() == order[0]
            assert list(view.drain()) == order
            assert view.pop() is None


@pytest.mark.needs(features.MAP_TYPES[MapType.BLOOM_FILTER])
def test_a_bloom_filter() -> None:
    """What was added is in it; most of what was not is not."""
    with Map.create(SPECS[MapType.BLOOM_FILTER].resized(1000)) as made:
        view: BloomFilter[int] = BloomFilter(made)
        for number in range(500):
            view.add(number)
        assert all(number in view for number in range(500))
        assert sum(number in view for number in range(1000, 2000)) < 200


def test_views_of_another_type() -> None:
    """A hash is no queue and no filter."""
    with Map.create(SPECS[MapType.HASH]) as made:
        with pytest.raises(LayoutError, match=r"^map t_hash is of type hash, not queue or stack$"):
            TypedQueue(made)
        with pytest.raises(LayoutError, match=r"^map t_hash is of type hash, not bloom_filter$"):
            BloomFilter(made)


# --- descriptors ------------------------------------------------------------------------------------------------------


def test_storage_by_its_owner() -> None:
    """The key of storage is whatever has the owner's descriptor."""
    with Map.create(SPECS[MapType.SK_STORAGE]) as made, socket.socket() as owner:
        view = TypedMap.of(made, value=u64)
        view[owner] = 5
        assert view[owner] == view[owner.fileno()] == 5
        assert view.pop(owner) == 5
        assert owner not in view


@pytest.mark.needs(features.MAP_TYPES[MapType.TASK_STORAGE])
def test_storage_of_a_process() -> None:
    """A process is known by its pidfd."""
    fd = os.pidfd_open(os.getpid())
    try:
        with Map.create(SPECS[MapType.TASK_STORAGE]) as made:
            view = TypedMap.of(made)
            view[fd] = 6
            assert view[fd] == 6
    finally:
        os.close(fd)


@pytest.mark.needs(features.MAP_TYPES[MapType.CGRP_STORAGE])
def test_storage_of_a_cgroup() -> None:
    """A cgroup is known by its directory."""
    with Map.create(SPECS[MapType.CGRP_STORAGE]) as made, cgroup() as directory, opened(directory) as fd:
        view = TypedMap.of(made)
        view[fd] = 7
        assert view.get(fd) == 7


def test_maps_in_a_map() -> None:
    """Put in as a map, read as its id, by which it can be opened again."""
    with Map.create(SPECS[MapType.HASH_OF_MAPS]) as made, Map.create(SPECS[MapType.HASH_OF_MAPS].inner) as inner:
        view = TypedMap.of(made)
        view[5] = inner
        assert dict(view.items()) == {5: inner.info().id}
        with Map.by_id(view[5]) as again:
            assert again.info().id == inner.info().id
        with pytest.raises(LayoutError, match=r"^value of map t_hash_of_maps: None does not fit u32$"):
            view[5] = None


def test_chars() -> None:
    """Text of a fixed length comes back without the zeros behind it."""
    from typing import Annotated

    class Named(Struct):
        name: Annotated[bytes, Length(6)]
        number: u16

    with Map.create(untyped(4, 8)) as made:
        view = TypedMap.of(made, u32, Named)
        view[1] = Named(name=b"abc", number=5)
        assert view[1] == Named(name=b"abc", number=5)
        assert made.lookup(b"\1\0\0\0") == b"abc\0\0\0\5\0"


def test_a_btf_type_as_the_callers() -> None:
    """A type can be named as BTF has it, for a map that has none."""
    with Map.create(untyped(4, 8)) as made:
        view = TypedMap.of(made, U32, btf.Struct("pair", 8, (btf.Member("a", U32, 0), btf.Member("b", U32, 4))))
        view[1] = {"a": 1, "b": 2}
        assert TypedMap.of(made, U32, U64)[1] == 1 | 2 << 32
