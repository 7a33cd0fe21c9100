"""Arrays and arenas in this process's memory."""

import errno
import mmap
from collections.abc import Iterator

import attrs
import pytest
from map_programs import count, lookup, run
from sane_maps import SPECS, u32, u64

import pybpfasm as bpf
from pybpfasm import Struct, be16, htons
from pybpfasm.errors import KernelError
from pybpfasm.kernel import features
from pybpfasm.kernel.maps import Map, MapOperationError, MappedArena, MappedArray
from pybpfasm.lang.types import LayoutError
from pybpfasm.spec import MapSpec, Untyped
from pybpfasm.uapi import MapCreateFlag, MapType

MMAPABLE = int(MapCreateFlag.MMAPABLE)


class Pair(Struct):
    """A value that is no multiple of 8 bytes."""

    number: bpf.u32
    port: be16


@pytest.fixture
def array() -> Iterator[Map]:
    """An array that can be mapped."""
    with Map.create(attrs.evolve(SPECS[MapType.ARRAY], flags=MMAPABLE)) as made:
        yield made


def test_memory_is_the_maps(array: Map) -> None:
    """What one side writes, the other reads: memory, system calls and a program."""
    with array.map_memory() as mapped:
        assert len(mapped) == 4
        mapped[2] = u64(40)
        assert array.lookup(u32(2)) == u64(40)
        run(count("array", 2), {"array": array})
        assert mapped[2] == u64(41)
        mapped.memory[16:24].cast("Q")[0] = 50
        assert run(lookup("array", 2), {"array": array}) == 50
        assert [int.from_bytes(value, "little") for value in mapped] == [0, 0, 50, 0]


def test_memory_outlives_the_map(array: Map) -> None:
    """The mapping holds the kernel's map."""
    mapped = array.map_memory()
    array.close()
    mapped[0] = u64(1)
    assert mapped[0] == u64(1)
    mapped.close()
    mapped.close()


def test_typed_memory() -> None:
    """Values have the type that is named, or that of the spec."""
    spec = MapSpec("pairs", MapType.ARRAY, Untyped(4), Untyped(8), 3, MMAPABLE)
    with Map.create(spec) as pairs:
        mapped: MappedArray[Pair]
        with MappedArray(pairs, Pair) as mapped:
            mapped[1] = Pair(number=5, port=htons(80))
            assert mapped[1] == Pair(number=5, port=htons(80))
            with pytest.raises(IndexError, match=r"^there is no value 3, but 3 from 0 on$"):
                mapped[3]
            with pytest.raises(LayoutError):
                mapped[0] = 17  # type: ignore[assignment]  # as a careless user does
        numbers: MappedArray[int]
        with MappedArray(pairs, int) as numbers:
            assert numbers[1] == 5 | 80 << 40
    with Map.create(attrs.evolve(spec, value=Untyped(5))) as odd, odd.map_memory() as apart:
        apart[1] = b"12345"
        assert apart.memory[8:13] == b"12345"


def test_a_frozen_map_is_mapped_for_reading(array: Map) -> None:
    """Frozen, an array can be read in memory; writing it is refused, in words."""
    array.update(u32(1), u64(9))
    array.freeze()
    with pytest.raises(
        KernelError, match=r"map t_array into memory: it is frozen: map it with writable=False \(EPERM\)$"
    ):
        array.map_memory()
    with array.map_memory(writable=False) as mapped:
        assert mapped[1] == u64(9)
        with pytest.raises(TypeError):
            mapped[1] = u64(1)


def test_a_mapped_map_cannot_be_frozen(array: Map) -> None:
    """Whoever maps it could still write."""
    with (
        array.map_memory(),
        pytest.raises(KernelError, match=r"^cannot freeze map t_array: it is mapped writable, .*\(EBUSY\)$"),
    ):
        array.freeze()
    array.freeze()


def test_what_cannot_be_mapped() -> None:
    """A map that was not made for it, and types that have no such memory."""
    said = r"^cannot map map t_array into memory: .* without the flag MMAPABLE$"
    with Map.create(SPECS[MapType.ARRAY]) as array, pytest.raises(MapOperationError, match=said):
        array.map_memory()
    with Map.create(SPECS[MapType.HASH]) as table:
        with pytest.raises(
            MapOperationError, match=r"a map of type hash cannot be mapped as values, an array can$"
        ) as caught:
            table.map_memory()
        assert caught.value.errno == errno.EOPNOTSUPP
        with pytest.raises(MapOperationError, match=r"it is of type hash, not an arena$"):
            MappedArena(table)


@pytest.mark.needs(features.MAP_TYPES[MapType.ARENA])
def test_an_arenas_pages() -> None:
    """Pages are there once they are touched, and one process maps them once."""
    with Map.create(SPECS[MapType.ARENA]) as arena, MappedArena(arena) as mapped:
        assert len(mapped.memory) == 4 * mmap.PAGESIZE
        mapped.memory[mmap.PAGESIZE : mmap.PAGESIZE + 5] = b"hello"
        assert bytes(mapped.memory[mmap.PAGESIZE : mmap.PAGESIZE + 6]) == b"hello\0"
        with pytest.raises(KernelError, match=r"map t_arena into memory: .*\((EBUSY|EINVAL)\)$"):
            MappedArena(arena)
    placed = attrs.evolve(SPECS[MapType.ARENA], extra=1 << 44)
    with Map.create(placed) as arena, pytest.raises(MapOperationError, match=r"an address of its own \(map_extra\)"):
        MappedArena(arena)
