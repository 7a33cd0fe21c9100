"""Maps by bytes: batches, walks while the map changes, threads, and what goes wrong."""

import contextlib
import errno
import os
import re
import resource
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any, NoReturn
from unittest import mock

import attrs
import pytest
from sane_maps import INNER, NO_PREALLOC, PREFIX, SPECS, U32, U64, opened, u32, u64

from pybpfasm import btf
from pybpfasm.errors import BpfError, KernelError, UnsupportedFeatureError
from pybpfasm.kernel import sys as kernel
from pybpfasm.kernel.maps import (
    KINDS,
    Map,
    MapFullError,
    MapOperationError,
    TypedMap,
    create,
    possible_cpus,
)
from pybpfasm.kernel.maps.errors import ENOTSUPP
from pybpfasm.lang.types import LayoutError
from pybpfasm.spec import MapSpec, Untyped
from pybpfasm.uapi import MapCreateFlag, MapType, MapUpdateFlag

HASH = SPECS[MapType.HASH]
MANY = 3000


@pytest.fixture
def small() -> Iterator[Map]:
    """A hash of four entries."""
    with Map.create(HASH) as made:
        yield made


@pytest.fixture
def large() -> Iterator[Map]:
    """A hash with many entries in it: each number with its tenfold."""
    with Map.create(HASH.resized(2 * MANY)) as made:
        made.update_batch(tenfold())
        yield made


def tenfold() -> dict[bytes, bytes]:
    """What is in the large hash."""
    return {u32(number): u64(10 * number) for number in range(MANY)}


@pytest.fixture(params=["batches", "no batches"])
def with_and_without_batches(request: pytest.FixtureRequest) -> Iterator[None]:
    """A kernel that has batches, and one that answers as if it had none."""
    if request.param == "batches":
        yield
        return
    prepared = kernel.prepared

    def refusing(command: kernel.Command, attributes: object) -> Callable[[], int]:
        return fails(ENOTSUPP) if "BATCH" in command.name else prepared(command, attributes)

    with mock.patch.object(kernel, "prepared", refusing):
        yield


def fails(number: int) -> Callable[[], int]:
    """A system call that fails with an errno."""

    def call() -> int:
        kernel.ffi.errno = number
        return -1

    return call


# --- entries ----------------------------------------------------------------------------------------------------------


def test_flags_of_an_update(small: Map) -> None:
    """NOEXIST adds, EXIST replaces, and each says why it cannot."""
    small.update(u32(1), u64(1), MapUpdateFlag.NOEXIST)
    with pytest.raises(KernelError, match=r"^cannot update map t_hash: the key is there already, .*\(EEXIST\)$"):
        small.update(u32(1), u64(2), MapUpdateFlag.NOEXIST)
    small.update(u32(1), u64(3), MapUpdateFlag.EXIST)
    assert small.lookup(u32(1)) == u64(3)
    with pytest.raises(KernelError, match=r"^cannot update map t_hash: the key is not there, .*\(ENOENT\)$"):
        small.update(u32(2), u64(2), MapUpdateFlag.EXIST)
    with pytest.raises(KernelError, match=r"^cannot update map t_hash: the flags 0x100 do not suit .*\(EINVAL\)$"):
        small.update(u32(2), u64(2), 0x100)


def test_flags_do_not_stay(small: Map) -> None:
    """The flags of one operation are not those of the next."""
    small.update(u32(1), u64(1), MapUpdateFlag.NOEXIST)
    small.update(u32(1), u64(2))
    assert small.lookup(u32(1)) == u64(2)


@pytest.mark.parametrize("data", [b"1234", bytearray(b"1234"), memoryview(b"1234")])
def test_what_bytes_may_be(small: Map, data: bytes) -> None:
    """Keys are bytes, or what holds bytes."""
    small.update(data, u64(1))
    assert small.lookup(data) == u64(1)
    assert small.pop(data) == u64(1)
    assert not small.delete(data)


@pytest.mark.parametrize("key", [b"", b"123", b"12345", bytes(4096)])
def test_a_key_of_another_size(small: Map, key: bytes) -> None:
    """The kernel is not asked: it would read past the key's end."""
    said = rf"^a key of map t_hash takes 4 bytes, not {len(key)}$"
    for operation in (small.lookup, small.delete, small.pop, lambda each: small.update(each, u64(1))):
        with pytest.raises(LayoutError, match=said):
            operation(key)
    with pytest.raises(LayoutError, match=said):
        small.update_batch([(u32(1), u64(1)), (key, u64(1))])
    with pytest.raises(LayoutError, match=said):
        small.delete_batch([key])
    assert small.count() == 0


@pytest.mark.parametrize("value", [b"", b"1234567", b"123456789"])
def test_a_value_of_another_size(small: Map, value: bytes) -> None:
    """Nor would it stop at the value's end."""
    said = rf"^a value of map t_hash takes 8 bytes, not {len(value)}$"
    with pytest.raises(LayoutError, match=said):
        small.update(u32(1), value)
    with pytest.raises(LayoutError, match=said):
        small.update(u32(1), value, MapUpdateFlag.NOEXIST)
    with pytest.raises(LayoutError, match=said):
        small.update_batch([(u32(1), value)])


def test_what_is_no_bytes(small: Map) -> None:
    """A number is not a key: of which size, in which order?"""
    wrong: Any = 17  # what the type checker refuses, too
    said = r"^a key of map t_hash is 4 bytes, not 17: TypedMap takes values$"
    for operation in (small.lookup, small.delete, lambda key: small.update_batch([(key, u64(1))])):
        with pytest.raises(LayoutError, match=said):
            operation(wrong)
    with pytest.raises(LayoutError, match=said):
        small.delete_batch([wrong])
    wrong = "text"
    with pytest.raises(LayoutError, match=r"^a value of map t_hash is 8 bytes, not 'text': TypedMap takes values$"):
        small.update(u32(1), wrong)
    with pytest.raises(LayoutError, match=r"^map t_hash: packed keys are bytes in a row, not 'text'$"):
        small.update_packed(wrong, u64(1))
    with pytest.raises(LayoutError, match=r"bytes in a row: copy the view"):
        small.lookup(memoryview(bytes(8))[::2])


@pytest.mark.parametrize("entries", [[1, 2], [(b"1234",)], 5, [(1, 2, 3)]])
def test_a_batch_that_is_no_pairs(small: Map, entries: Any) -> None:
    """Entries are pairs, or a dict."""
    for batch in (small.update_batch, TypedMap.of(small).update_batch):
        with pytest.raises(LayoutError, match=r"^a batch for map t_hash is a dict, or pairs of a key and a value$"):
            batch(entries)


@pytest.mark.parametrize("flags", [-1, 1 << 64, "exist", 1.5])
def test_flags_that_are_none(small: Map, flags: Any) -> None:
    """What 64 bits cannot hold is no flag, and says so."""
    for operation in (
        lambda: small.update(u32(1), u64(1), flags),
        lambda: small.lookup(u32(1), flags),
        lambda: small.update_packed(u32(1), u64(1), flags),
    ):
        with pytest.raises(MapOperationError, match="map t_hash: flags are of MapUpdateFlag, not"):
            operation()
    assert small.count() == 0


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"max_entries": -1}, "max_entries is -1, which is no number that the kernel takes there"),
        ({"max_entries": 1 << 40}, "max_entries is 1099511627776"),
        ({"flags": 1 << 40}, "map_flags is 1099511627776"),
        ({"key": Untyped(-4)}, "key_size is -4"),
        ({"key": Untyped(0)}, "keys have no size"),
        ({"value": Untyped(0)}, "values have no size"),
        ({"flags": 1 << 31}, "one of these is not for maps of type hash.*flags 0x80000000"),
        ({"numa_node": 999}, "NUMA node 999"),
        ({"type": 999}, "this library knows no maps of type 999, nor does this kernel"),
    ],
)
def test_a_spec_that_cannot_be(changes: dict[str, Any], said: str) -> None:
    """One line that begins with what was attempted, and says which part of the spec is wrong."""
    with pytest.raises(BpfError, match=rf"^cannot create map t_hash: .*{said}"):
        Map.create(attrs.evolve(HASH, **changes))


def test_an_operation_after_a_failed_one(small: Map) -> None:
    """What failed leaves nothing behind in the prepared calls."""
    with pytest.raises(LayoutError):
        small.update(u32(1), b"short")
    assert small.lookup(u32(1)) is None
    small.update(u32(2), u64(2))
    assert dict(small.items()) == {u32(2): u64(2)}


def test_one_value_or_one_a_cpu(small: Map) -> None:
    """Operations for the one kind of map say what to use for the other."""
    with pytest.raises(BpfError, match=r"^map t_hash has one value for all CPUs: use lookup$"):
        small.lookup_per_cpu(u32(1))
    with Map.create(SPECS[MapType.PERCPU_HASH]) as per_cpu:
        with pytest.raises(BpfError, match=r"^map t_percpu_hash has a value for each CPU: use update_per_cpu, or"):
            per_cpu.update(u32(1), u64(1))
        with pytest.raises(
            LayoutError, match=rf"^map t_percpu_hash takes a value for each of {possible_cpus()} CPUs, not 0$"
        ):
            per_cpu.update_per_cpu(u32(1), [])
        with pytest.raises(LayoutError, match=r"^a value of map t_percpu_hash takes 8 bytes, not 1$"):
            per_cpu.update_per_cpu(u32(1), [b"1"] * possible_cpus())


def test_values_of_odd_sizes_on_each_cpu() -> None:
    """A value that is no multiple of 8 bytes is kept apart from the next CPU's."""
    spec = attrs.evolve(SPECS[MapType.PERCPU_HASH], value=Untyped(5))
    values = [bytes([cpu]) * 5 for cpu in range(possible_cpus())]
    with Map.create(spec) as made:
        made.update_per_cpu(u32(1), values)
        assert made.lookup_per_cpu(u32(1)) == values
        assert list(made.items_per_cpu()) == [(u32(1), values)]


# --- batches ----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("with_and_without_batches")
@pytest.mark.parametrize("type_", [MapType.HASH, MapType.LRU_HASH])
def test_many_at_once(type_: MapType) -> None:
    """Batches, and what stands in for them, write, read and remove the same entries."""
    with Map.create(SPECS[type_].resized(2 * MANY)) as made:
        assert made.update_batch(tenfold()) == MANY
        assert dict(made.items()) == tenfold()
        assert set(made.keys()) == set(tenfold())
        packed = list(made.walk_packed())
        assert sum(len(keys) for keys, _ in packed) == 4 * MANY
        assert sum(len(values) for _, values in packed) == 8 * MANY
        assert made.delete_batch([u32(1), u32(MANY), u32(2), u32(2)]) == 2
        assert made.count() == MANY - 2
        assert dict(made.pop_all()) == {key: value for key, value in tenfold().items() if key not in (u32(1), u32(2))}
        assert made.count() == 0


@pytest.mark.usefixtures("with_and_without_batches")
def test_many_at_once_in_an_array() -> None:
    """An array is written whole and read whole."""
    with Map.create(SPECS[MapType.ARRAY].resized(MANY)) as made:
        made.update_batch(tenfold())
        assert dict(made.items()) == tenfold()
        with pytest.raises(
            MapOperationError, match=r"^cannot delete from map t_array: a map of type array has no delete"
        ):
            made.delete_batch([u32(1)])


@pytest.mark.usefixtures("with_and_without_batches")
def test_many_at_once_for_each_cpu() -> None:
    """Packed, an entry of a per-CPU map has all CPUs' values."""
    cpus = possible_cpus()
    entries = {u32(number): u64(number) * cpus for number in range(MANY)}
    with Map.create(SPECS[MapType.PERCPU_HASH].resized(MANY)) as made:
        made.update_batch(entries)
        assert dict(made.items_per_cpu()) == {key: [key + bytes(4)] * cpus for key in entries}
        assert made.clear() == MANY


@pytest.mark.usefixtures("with_and_without_batches")
def test_many_prefixes() -> None:
    """A trie's prefixes come each once."""
    entries = {u32(32) + number.to_bytes(4, "big"): u64(number) for number in range(300)}
    with Map.create(SPECS[MapType.LPM_TRIE].resized(300)) as made:
        made.update_batch(entries)
        assert sorted(made.items()) == sorted(entries.items())
        assert made.clear() == 300


@pytest.mark.usefixtures("with_and_without_batches")
def test_a_batch_that_fills_the_map(small: Map) -> None:
    """The error tells how many entries were written before it."""
    said = r"^cannot update map t_hash: it is full, it holds 4 entries; 4 of 9 entries were done before$"
    with pytest.raises(MapFullError, match=said) as caught:
        small.update_batch((u32(number), u64(number)) for number in range(9))
    assert caught.value.done == 4
    assert caught.value.errno == errno.E2BIG
    assert sorted(small.keys()) == [u32(number) for number in range(4)]


def test_flags_of_a_batch(small: Map) -> None:
    """The kernel takes no flags with a batch; entry by entry they hold."""
    small.update(u32(2), u64(0))
    with pytest.raises(KernelError, match=r"the key is there already, .*\(EEXIST\); 2 of 3 entries were done before$"):
        small.update_batch(((u32(number), u64(number)) for number in range(3)), MapUpdateFlag.NOEXIST)
    assert small.lookup(u32(2)) == u64(0)


def test_a_bucket_that_is_fuller_than_the_room(large: Map) -> None:
    """The kernel says ENOSPC when a hash's bucket does not fit; the room grows until it does."""
    with mock.patch("pybpfasm.kernel.maps.batch._chunk", return_value=1):
        assert dict(large.items()) == tenfold()


def test_an_interrupted_batch_goes_on(large: Map) -> None:
    """EINTR, which older kernels said when an entry vanished under a look-up, ends nothing."""
    prepared, interruptions = kernel.prepared, iter([True] * 5)

    def interrupted(command: kernel.Command, attributes: Any) -> Callable[[], int]:
        call = prepared(command, attributes)

        def sometimes() -> int:
            if not next(interruptions, False):
                return call()
            attributes.count = 0  # as the kernel leaves it
            return fails(errno.EINTR)()

        return sometimes

    with mock.patch.object(kernel, "prepared", interrupted):
        assert dict(large.items()) == tenfold()


def test_packed_sizes(small: Map) -> None:
    """Packed keys and values are whole and as many."""
    with pytest.raises(LayoutError, match=r"^map t_hash: 7 bytes are no whole number of keys of 4 bytes$"):
        small.update_packed(bytes(7), bytes(8))
    with pytest.raises(LayoutError, match=r"^map t_hash: 2 keys, but another number of values$"):
        small.update_packed(bytes(8), bytes(8))
    with (
        Map.create(SPECS[MapType.QUEUE]) as queue,
        pytest.raises(LayoutError, match=r"has no keys: it takes single values$"),
    ):
        queue.update_batch([(b"", u64(1))])


def test_an_empty_batch(small: Map) -> None:
    """No entries are no error."""
    assert small.update_batch({}) == 0
    assert small.delete_batch([]) == 0
    assert list(small.items()) == list(small.pop_all()) == []


# --- a map that changes -----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("with_and_without_batches")
@pytest.mark.parametrize("type_", [MapType.HASH, MapType.LPM_TRIE])
def test_a_walk_survives_change(type_: MapType) -> None:
    """While others come and go, each entry that stays comes once, and the walk ends."""

    def key(number: int) -> bytes:
        return u32(32) + number.to_bytes(4, "big") if type_ == MapType.LPM_TRIE else u32(number)

    staying = {key(number): u64(number) for number in range(500)}
    with Map.create(SPECS[type_].resized(4 * MANY)) as made:
        made.update_batch(staying)
        stop = threading.Event()

        def churn() -> None:
            while not stop.is_set():
                for number in range(1000, 1100):
                    made.update(key(number), u64(0))
                for number in range(1000, 1100):
                    made.delete(key(number))

        thread = threading.Thread(target=churn)
        thread.start()
        try:
            for _ in range(5):
                seen = [each for each, _ in made.items()]
                assert len(seen) == len(set(seen))
                assert set(staying) <= set(seen)
        finally:
            stop.set()
            thread.join()


def test_deleting_on_the_walk(large: Map) -> None:
    """All entries can be removed while they are walked through."""
    for key in large.keys():  # noqa: SIM118 - a map is no dict
        large.delete(key)
    assert large.count() == 0


def test_threads_share_a_map(large: Map) -> None:
    """Many threads use one map at once, each gets its own answers."""
    wrong: list[object] = []

    def use(first: int) -> None:
        for number in range(first, MANY, 8):
            if large.lookup(u32(number)) != u64(10 * number):
                wrong.append(number)
            large.update(u32(number), u64(number))
            if large.pop(u32(number)) != u64(number):
                wrong.append(number)

    threads = [threading.Thread(target=use, args=(first,)) for first in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert large.count() == 0


def test_a_signal_handler_uses_the_map_that_it_interrupts(large: Map) -> None:
    """An operation in the midst of another, in the same thread, does not disturb it."""
    done = 0

    def handler(_signal: int, _frame: object) -> None:
        nonlocal done
        assert large.lookup(u32(5)) == u64(50)
        done += 1

    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    try:
        while done < 20:
            assert large.lookup(u32(7)) == u64(70)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


# --- ownership --------------------------------------------------------------------------------------------------------


def test_a_closed_maps_number_is_not_used_again(small: Map) -> None:
    """After a close, the number that the map had may be another object's: nothing is done to that."""
    small.update(u32(1), u64(1))
    fd = small.fd
    walk = small.keys()
    small.close()
    with Map.create(HASH) as other:
        assert other.fd == fd
        for operation in (small.lookup, small.delete, small.pop, lambda key: small.update(key, u64(9))):
            with pytest.raises(ValueError, match=r"^Map is closed$"):
                operation(u32(1))
        with pytest.raises(ValueError, match=r"^Map is closed$"):
            list(walk)
        assert other.count() == 0


def test_a_descriptor_that_is_closed_behind_the_maps_back() -> None:
    """An operation says that the descriptor is not the map's any more."""
    made = Map.create(HASH)
    os.close(made.fd)
    with pytest.raises(KernelError, match=r"^cannot look up in map t_hash: its descriptor was closed .*\(EBADF\)$"):
        made.lookup(u32(1))
    made.release()


# --- what goes wrong --------------------------------------------------------------------------------------------------


def test_an_index_past_the_end() -> None:
    """An array is not full, it has no such index."""
    with Map.create(SPECS[MapType.ARRAY]) as made:
        said = r"^cannot update map t_array: it has no such index, it holds 4 entries \(E2BIG\)$"
        with pytest.raises(KernelError, match=said) as caught:
            made.update(u32(4), u64(1))
        assert not isinstance(caught.value, MapFullError)
        assert made.lookup(u32(4)) is None


@pytest.mark.parametrize("type_", [MapType.LPM_TRIE, MapType.QUEUE, MapType.STACK])
def test_others_that_are_full(type_: MapType) -> None:
    """A trie, a queue and a stack are full as a hash is."""
    with Map.create(SPECS[type_]) as made:
        keys = [u32(32) + u32(number) for number in range(5)] if type_ == MapType.LPM_TRIE else [b""] * 5
        for key in keys[:4]:
            made.update(key, u64(1))
        with pytest.raises(
            MapFullError, match=rf"^cannot update map {made.spec.name}: it is full, it holds 4 entries$"
        ):
            made.update(keys[4], u64(1))


def test_an_lru_hash_is_never_full() -> None:
    """It forgets instead."""
    with Map.create(SPECS[MapType.LRU_HASH].resized(8)) as made:
        made.update_batch((u32(number), u64(number)) for number in range(1000))
        assert 0 < made.count() <= 1000


def test_a_value_that_is_no_descriptor() -> None:
    """What has to be behind a descriptor is named."""
    for type_, what in ((MapType.PROG_ARRAY, "program"), (MapType.ARRAY_OF_MAPS, "map"), (MapType.SOCKHASH, "socket")):
        with Map.create(SPECS[type_]) as made:
            value = (4000).to_bytes(made.spec.value.size, "little")
            said = rf"^cannot update map {made.spec.name}: the value is no open descriptor of a {what} \(EBADF\)$"
            with pytest.raises(KernelError, match=said):
                made.update(u32(1), value)


def test_a_descriptor_of_something_else() -> None:
    """A file is no program, no map and no socket."""
    with opened("/") as fd:
        for type_ in (MapType.PROG_ARRAY, MapType.HASH_OF_MAPS, MapType.SOCKMAP):
            with Map.create(SPECS[type_]) as made:
                value = fd.to_bytes(made.spec.value.size, "little")
                what = "socket" if type_ == MapType.SOCKMAP else "program" if type_ == MapType.PROG_ARRAY else "map"
                said = rf"^cannot update map {made.spec.name}: the value is no .*descriptor of a {what}"
                with pytest.raises(KernelError, match=said):
                    made.update(u32(1), value)


def test_an_inner_map_of_another_shape() -> None:
    """A map of maps takes maps of the shape that it was made for."""
    with Map.create(SPECS[MapType.HASH_OF_MAPS]) as outer, Map.create(HASH) as other:
        said = r"the value is no descriptor of a map that suits this map, .*\(EINVAL\)$"
        with pytest.raises(KernelError, match=said):
            outer.update(u32(1), u32(other.fd))


def test_a_key_that_is_no_descriptor() -> None:
    """Storage is found by its owner's descriptor."""
    with Map.create(SPECS[MapType.SK_STORAGE]) as made, opened("/") as fd:
        for key in (u32(4000), u32(fd)):
            with pytest.raises(
                KernelError, match=r"the key is no open descriptor of a socket, or it does not suit \(E"
            ):
                made.update(key, u64(1))
            with pytest.raises(
                KernelError, match=r"^cannot look up in map t_sk_storage: the key is no open descriptor"
            ):
                made.lookup(key)


def test_cgroup_storage_is_made_by_programs() -> None:
    """User space changes what is there, and adds nothing."""
    with Map.create(SPECS[MapType.CGROUP_STORAGE]) as made:
        said = r"^cannot update map t_cgroup_storag: there is no such entry: one is made when a program .*\(ENOENT\)$"
        with pytest.raises(KernelError, match=said):
            made.update(u64(1), u64(1))


def test_frozen_from_the_start() -> None:
    """Contents are set before a map is frozen."""
    spec = attrs.evolve(SPECS[MapType.ARRAY], max_entries=1, contents=u64(5), frozen=True)
    with Map.create(spec) as made:
        assert made.lookup(u32(0)) == u64(5)
        assert made.frozen
        with pytest.raises(KernelError, match=r"^cannot update map t_array: it is frozen \(EPERM\)$"):
            made.update(u32(0), u64(6))
        with pytest.raises(
            KernelError, match=r"^cannot freeze map t_array: it is .*frozen already.* \((EPERM|EBUSY)\)$"
        ):
            made.freeze()


@pytest.mark.parametrize("contents", [b"short", bytes(9)])
def test_contents_that_do_not_fit(contents: bytes) -> None:
    """A map whose contents cannot be set is not made; the fixture sees that nothing stays open."""
    with pytest.raises(LayoutError, match=rf"^a value of map t_array takes 8 bytes, not {len(contents)}$"):
        Map.create(attrs.evolve(SPECS[MapType.ARRAY], contents=contents))


@pytest.mark.parametrize(("flag", "how"), [(MapCreateFlag.RDONLY, "read-only"), (MapCreateFlag.WRONLY, "write-only")])
def test_a_descriptor_for_one_direction(flag: MapCreateFlag, how: str) -> None:
    """A descriptor that was asked for reading or writing alone says so."""
    said = rf"map t_hash: it was opened {how} \(EPERM\)$"
    with Map.create(attrs.evolve(HASH, flags=int(flag))) as made, pytest.raises(KernelError, match=said):
        made.update(u32(1), u64(1)) if flag == MapCreateFlag.RDONLY else made.lookup(u32(1))


# --- creation ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (HASH.resized(0), "max_entries is 0: it has to be a number of entries"),
        (attrs.evolve(SPECS[MapType.ARRAY], key=U64), "keys of a map of type array have 4 bytes, not 8"),
        (
            attrs.evolve(SPECS[MapType.PROG_ARRAY], value=U64),
            "values of a map of type program array have 4 bytes, not 8",
        ),
        (attrs.evolve(SPECS[MapType.SOCKHASH], value=Untyped(2)), "values of .* have 4 or 8 bytes, not 2"),
        (attrs.evolve(SPECS[MapType.QUEUE], key=U32), "keys of a map of type queue have 0 bytes, not 4"),
        (
            SPECS[MapType.RINGBUF].resized(5000),
            "max_entries, in bytes, is a power of 2 that is a multiple of 4096, not 5000",
        ),
        (
            SPECS[MapType.SK_STORAGE].resized(7),
            "a map of type socket storage has no number of entries: max_entries is 0",
        ),
        (attrs.evolve(SPECS[MapType.LPM_TRIE], flags=0), ".* trie needs the flag NO_PREALLOC"),
        (attrs.evolve(SPECS[MapType.SK_STORAGE], flags=0), "a map of type socket storage needs the flag NO_PREALLOC"),
    ],
)
def test_a_spec_that_no_map_can_have(spec: MapSpec, said: str) -> None:
    """EINVAL is explained by what the type of map asks for."""
    with pytest.raises(KernelError, match=rf"^cannot create map {spec.name}: {said} \((EINVAL|ENOTSUPP)\)$"):
        Map.create(spec)


def test_more_than_there_is_memory_for() -> None:
    """So many entries are named, with their size."""
    said = r": 4294967295 entries of 4 \+ 8 bytes are more than the kernel may hold, .*\((E2BIG|ENOMEM)\)$"
    with pytest.raises(KernelError, match=said):
        Map.create(HASH.resized(0xFFFFFFFF))


@pytest.mark.parametrize(
    ("release", "error", "said"),
    [
        ("5.10.0-test", UnsupportedFeatureError, r"does not support maps of type arena: it needs Linux 6\.9 or later$"),
        (
            "99.1",
            KernelError,
            r"^cannot create map t_arena: this kernel was built without maps of type arena \(EINVAL\)$",
        ),
    ],
)
def test_a_type_that_the_kernel_does_not_have(release: str, error: type[BpfError], said: str) -> None:
    """A type that is newer than the kernel is told from one that was left out of it, and from a mistake."""
    spec = attrs.evolve(SPECS[MapType.ARENA], flags=1 << 30 | int(MapCreateFlag.MMAPABLE))
    without = mock.patch.object(create, "supports_map_type", return_value="no")
    running = mock.patch.object(os, "uname", return_value=mock.Mock(release=release))
    with without, running, pytest.raises(error, match=said):
        Map.create(spec)


def test_a_map_of_maps_without_a_shape() -> None:
    """The shape of the maps in it has to be known."""
    with pytest.raises(
        BpfError, match=r"^cannot create map t_array_of_maps: a map of maps needs the shape of the maps in it"
    ):
        Map.create(attrs.evolve(SPECS[MapType.ARRAY_OF_MAPS], inner=None))


def test_a_map_of_maps_by_example() -> None:
    """The shape can be that of a map that there is."""
    spec = attrs.evolve(SPECS[MapType.ARRAY_OF_MAPS], inner=None)
    with Map.create(INNER) as inner, Map.create(spec, inner=inner) as outer:
        outer.update(u32(1), u32(inner.fd))
        assert outer.lookup(u32(1)) == u32(inner.info().id)


def test_a_table_of_functions_that_the_kernel_does_not_have() -> None:
    """A struct_ops map is for a table of the kernel's."""
    with pytest.raises(
        BpfError, match=r"^cannot create map t_struct_ops: this kernel has no struct_ops table no_such_ops$"
    ):
        Map.create(attrs.evolve(SPECS[MapType.STRUCT_OPS], value=btf.Struct("no_such_ops", 8)))


def test_a_numa_node() -> None:
    """The node is passed on: the first is there always, another one seldom."""
    with Map.create(HASH, numa_node=0) as made:
        assert made.info().flags & MapCreateFlag.NUMA_NODE
    with pytest.raises(KernelError, match=r"^cannot create map t_hash: .*\(EINVAL\)$"):
        Map.create(HASH, numa_node=1000)


def test_a_perf_event_array_has_an_entry_a_cpu() -> None:
    """Without a size it gets the one that is of use."""
    with Map.create(SPECS[MapType.PERF_EVENT_ARRAY]) as made:
        assert made.info().max_entries == made.spec.max_entries == possible_cpus()


@pytest.mark.parametrize("type_", list(KINDS))
def test_without_the_capability(type_: MapType) -> None:
    """EPERM names the capability that the type of map takes."""
    refused = KernelError(errno.EPERM, "refused")
    with mock.patch.object(create.sys, "bpf", side_effect=refused), mock.patch.object(create, "load_btf"):
        spec = attrs.evolve(SPECS[type_], inner=None)
        wanted = "CAP_BPF and CAP_NET_ADMIN" if KINDS[type_].needs_net_admin else "CAP_BPF"
        with pytest.raises(KernelError, match=re.escape(f"{spec.name}: it needs root, or {wanted} (EPERM)")):
            create.create_map(spec, None, 0)


def test_an_id_of_no_map() -> None:
    """An id that no map has is ENOENT, in words."""
    for number in (0, -1, 0x7FFFFFFF, 1 << 40):
        with pytest.raises(KernelError, match=rf"^there is no map with id {number}$") as caught:
            Map.by_id(number)
        assert caught.value.errno == errno.ENOENT


def test_prefix_keys_without_a_struct() -> None:
    """A trie whose keys are bytes is made all the same, without types."""
    for key in (Untyped(8), btf.Array(btf.Int("unsigned char", 1), 8), PREFIX):
        with Map.create(MapSpec("trie", MapType.LPM_TRIE, key, U64, 4, NO_PREALLOC)) as made:
            made.update(u32(8) + bytes(4), u64(1))
            assert made.lookup(u32(32) + bytes(4)) == u64(1)


def test_as_a_user_without_privileges() -> None:
    """A process without capabilities may use an open map, and may not make one of a guarded type."""
    with Map.create(HASH) as made:
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            _without_privileges(made, writing)
        os.close(writing)
        os.waitpid(child, 0)
        with os.fdopen(reading) as answers:
            refused, used = answers.read().splitlines()
        assert refused == "cannot create map t_lru_hash: it needs root, or CAP_BPF (EPERM)"
        # Before Linux 5.19 sysctl unprivileged_bpf_disabled took entries, too (c8644cd0efe7).
        assert used == "done" or re.match(r"cannot update map t_hash: it needs root, or .* \(EPERM\)$", used)
        assert made.lookup(u32(1)) == (u64(1) if used == "done" else None)


def _without_privileges(made: Map, answers: int) -> NoReturn:
    """What the child does: it ends here."""
    try:
        os.setgroups([])
        os.setresuid(65534, 65534, 65534)
        for attempt in (_make_a_guarded_map, lambda: made.update(u32(1), u64(1))):
            try:
                attempt()
                os.write(answers, b"done\n")
            except KernelError as error:
                os.write(answers, f"{error}\n".encode())
    finally:
        os._exit(0)


def _make_a_guarded_map() -> None:
    Map.create(attrs.evolve(SPECS[MapType.LRU_HASH], key=Untyped(4))).close()


@contextlib.contextmanager
def descriptors_to_spare(spare: int) -> Iterator[None]:
    """So many more descriptors can be opened."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with opened("/"), contextlib.ExitStack() as lowest:  # the lowest numbers that are free, all below the last
        numbers = [lowest.enter_context(opened("/")) for _ in range(spare)]
        lowest.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (numbers[-1] + 1 if numbers else 1, limits[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@pytest.mark.parametrize("spare", [0, 1])
@pytest.mark.parametrize("type_", [MapType.HASH, MapType.HASH_OF_MAPS])
def test_out_of_descriptors(type_: MapType, spare: int) -> None:
    """A map takes two, one of them for its types or its inner map, and leaves none behind when it cannot be made."""
    said = r"^cannot .*: this process is out of file descriptors: raise its limit \(ulimit -n\) \(EMFILE\)$"
    with descriptors_to_spare(spare), pytest.raises(KernelError, match=said):
        Map.create(SPECS[type_])
    with descriptors_to_spare(2):
        Map.create(SPECS[type_]).close()
