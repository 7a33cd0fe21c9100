"""One suite over every type of map: made, asked, read and written, refused, pinned, and gone afterwards."""

import contextlib
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import pytest
from sane_maps import ENTRIES, SPECS, Entry, u32

from pybpfasm.errors import KernelError
from pybpfasm.kernel import features
from pybpfasm.kernel.maps import KINDS, Map, MapOperationError, Operation, ShapeError, possible_cpus
from pybpfasm.spec import Untyped
from pybpfasm.uapi import MapType

TYPES = [
    pytest.param(each, marks=pytest.mark.needs(features.MAP_TYPES[each]), id=each.name) for each in MapType if each
]

ATTEMPTED = {
    Operation.LOOKUP: "look up in map",
    Operation.UPDATE: "update map",
    Operation.DELETE: "delete from map",
    Operation.POP: "take from map",
    Operation.WALK: "walk through map",
}


@pytest.fixture(params=TYPES)
def made(request: pytest.FixtureRequest) -> Iterator[Map]:
    """A map of each type that this kernel has."""
    with Map.create(SPECS[request.param]) as created:
        yield created


@contextlib.contextmanager
def entry_for(map_: Map) -> Iterator[Entry]:
    """Something to put into a map; of types of which nothing can be put in, an entry of zeros."""
    if map_.spec.type in ENTRIES:
        with ENTRIES[map_.spec.type](map_) as entry:
            yield entry
    else:
        yield Entry(bytes(map_.spec.key.size), bytes(map_.spec.value.size), None)


def operations(map_: Map, entry: Entry) -> dict[Operation, Callable[[], object]]:
    """The operations on a map, each as a call."""
    many = [entry.value] * possible_cpus()
    per_cpu = map_.kind.per_cpu
    return {
        Operation.LOOKUP: lambda: map_.lookup_per_cpu(entry.key) if per_cpu else map_.lookup(entry.key),
        Operation.UPDATE: lambda: (
            map_.update_per_cpu(entry.key, many) if per_cpu else map_.update(entry.key, entry.value)
        ),
        Operation.DELETE: lambda: map_.delete(entry.key),
        Operation.POP: lambda: map_.pop_per_cpu(entry.key) if per_cpu else map_.pop(entry.key),
        Operation.WALK: lambda: list(map_.items_per_cpu() if per_cpu else map_.items()),
    }


def test_every_type_has_a_row_and_a_spec() -> None:
    """What uapi has is in the table of kinds and in this suite."""
    assert set(KINDS) == set(SPECS) == {each for each in MapType if each}


def test_info(made: Map) -> None:
    """The kernel says of the map what the spec said."""
    info, spec = made.info(), made.spec
    assert (info.type, info.name, info.max_entries) == (spec.type, spec.name, spec.max_entries)
    assert (info.key_size, info.value_size) == (spec.key.size, spec.value.size)


def test_types_are_kept(made: Map) -> None:
    """Opened by its id, a map has the types that it was made with, wherever the kernel takes types."""
    with Map.by_id(made.info().id) as again:
        wanted = made.spec.value
        if not made.kind.takes_btf and made.spec.type != MapType.STRUCT_OPS:
            wanted = Untyped(wanted.size)
        assert again.spec.value == wanted
        assert again.spec.name == made.spec.name


def test_what_a_type_lacks_is_one_line(made: Map) -> None:
    """An operation that the type does not have is an error that says so."""
    with entry_for(made) as entry:
        calls = operations(made, entry)
        for operation in made.kind.lacks - _emulated(made):
            said = (
                f"^cannot {ATTEMPTED[operation]} {made.spec.name}: a map of type {re.escape(made.kind.title)} has no "
            )
            with pytest.raises(MapOperationError, match=said + rf"{operation.value} \((ENOTSUPP|EOPNOTSUPP|EINVAL)\)$"):
                calls[operation]()


def _emulated(map_: Map) -> set[Operation]:
    """Look-up-and-delete is made of both where the kernel has these two alone; indices can be counted through."""
    has_both = not map_.kind.lacks & {Operation.LOOKUP, Operation.DELETE}
    return {Operation.POP} if has_both else set()


@pytest.mark.parametrize("type_", [each for each in TYPES if each.values[0] in ENTRIES])
def test_an_entry(type_: MapType, require: Callable[..., None]) -> None:
    """What is put in is read back, as itself, an id or a cookie, and can be taken out."""
    if type_ == MapType.INODE_STORAGE:
        require(features.INODE_STORAGE_ENTRIES)
    with Map.create(SPECS[type_]) as map_, entry_for(map_) as entry:
        lacks = map_.kind.lacks
        map_.update(entry.key, entry.value)
        if entry.read is not None:
            assert map_.lookup(entry.key) == entry.read
        if entry.read is not None and Operation.WALK not in lacks:
            assert (entry.key, entry.read) in list(map_.items())
            assert entry.key in list(map_.keys())
        if Operation.DELETE not in lacks:
            assert map_.delete(entry.key)
            assert entry.read is None or map_.lookup(entry.key) is None
            assert_gone(map_, entry)
            map_.update(entry.key, entry.value)
        if entry.read is not None and (Operation.POP not in lacks or Operation.DELETE not in lacks):
            assert map_.pop(entry.key) == entry.read
            assert map_.pop(entry.key) is None


def assert_gone(map_: Map, entry: Entry) -> None:
    """A second delete finds nothing; a device or CPU map and a socket map have no word for that."""
    if map_.spec.type in (MapType.DEVMAP, MapType.CPUMAP, MapType.XSKMAP):
        assert map_.delete(entry.key)  # they exchange what is there for nothing
    elif map_.spec.type == MapType.SOCKMAP:
        with pytest.raises(KernelError, match=r"\(EINVAL\)$"):
            map_.delete(entry.key)
    else:
        assert not map_.delete(entry.key)


@pytest.mark.parametrize(
    "type_",
    [each for each in TYPES if each.values[0] in (MapType.PERCPU_HASH, MapType.PERCPU_ARRAY, MapType.LRU_PERCPU_HASH)],
)
def test_an_entry_of_each_cpu(type_: MapType) -> None:
    """Each CPU has a value of its own, which is written and read as a list."""
    values = [(100 + cpu).to_bytes(8, "little") for cpu in range(possible_cpus())]
    with Map.create(SPECS[type_]) as map_:
        map_.update_per_cpu(u32(1), values)
        assert map_.lookup_per_cpu(u32(1)) == values
        assert dict(map_.items_per_cpu())[u32(1)] == values
        if Operation.DELETE not in map_.kind.lacks:
            assert map_.pop_per_cpu(u32(1)) == values
            assert map_.lookup_per_cpu(u32(1)) is None


def test_pinned_and_opened_again(made: Map, bpffs: Path) -> None:
    """A pin keeps the map; it opens by the same spec or by none, and not by one of another shape."""
    place = bpffs / "pinned"
    made.pin(place)
    for wanted in (made.spec, None):
        with Map.open(place, wanted) as again:
            assert again.info().id == made.info().id
    other = attrs.evolve(made.spec, max_entries=made.spec.max_entries + 1)
    with pytest.raises(ShapeError, match=rf"^the pinned map {place} is another than wanted: max_entries "):
        Map.open(place, other)


def test_gone_with_its_last_descriptor(made: Map) -> None:
    """Nothing of ours keeps a closed map alive."""
    number = made.info().id
    with entry_for(made) as entry:
        made.close()
        for call in operations(made, entry).values():
            with pytest.raises(ValueError, match=r"^Map is closed$"):
                call()
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:  # the kernel frees it a little later
        try:
            Map.by_id(number).close()
        except KernelError:
            break
        time.sleep(0.01)
    with pytest.raises(KernelError, match=rf"^there is no map with id {number}$"):
        Map.by_id(number)


def test_frozen(made: Map) -> None:
    """A frozen map says so when it is written."""
    if made.spec.type == MapType.STRUCT_OPS:
        with pytest.raises(MapOperationError, match=r"^cannot freeze map t_struct_ops: such a map.*\(ENOTSUPP\)$"):
            made.freeze()
        return
    with entry_for(made) as entry:
        made.freeze()
        assert made.frozen
        with pytest.raises(KernelError, match=rf"^cannot update map {made.spec.name}: it is frozen \(EPERM\)$"):
            operations(made, entry)[Operation.UPDATE]()


def test_no_descriptor_leaks_on_failure(made: Map) -> None:
    """A map that cannot be made leaves nothing open; the suite's fixture counts descriptors."""
    wrong = attrs.evolve(made.spec, flags=1 << 30)
    with pytest.raises(KernelError, match=rf"^cannot create map {made.spec.name}: .*\(EINVAL\)$"):
        Map.create(wrong)
