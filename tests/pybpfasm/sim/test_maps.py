"""Maps from both sides: user space with the kernel's errors, and programs by helpers."""

import errno

import pytest
from shapes import a_map, call, result_of, shape, signed_answer, stack_at

from pybpfasm import isa, sim
from pybpfasm.isa import Alu, Jump
from pybpfasm.uapi import Helper, MapCreateFlag, MapType, MapUpdateFlag

KEY = [isa.store_imm(4, 10, -4, 1)]
THE_MAP = [isa.load_map(1, "m")]
AT_KEY = [*KEY, *stack_at(2, 4)]
AT_VALUE = [isa.store_imm(8, 10, -16, 42), *stack_at(3, 16)]


def refused(number: int) -> "pytest.RaisesExc[sim.MapError]":
    """The errno that a map must answer with."""
    return pytest.raises(sim.MapError, check=lambda error: error.errno == number)


HASHES = [MapType.HASH, MapType.PERCPU_HASH, MapType.LRU_HASH, MapType.LRU_PERCPU_HASH]


@pytest.mark.parametrize("kind", HASHES)
def test_hashes_from_user_space(kind: MapType) -> None:
    """Set, read, list, delete; NOEXIST and EXIST answer as the kernel does."""
    m = a_map(kind)
    m.update(1, 10)
    m.update(1, 11, MapUpdateFlag.EXIST)
    assert m.lookup(1) == (11).to_bytes(8, "little")
    assert m.items() == [(bytes([1, 0, 0, 0]), bytes([11]) + bytes(7))]
    with refused(errno.EEXIST):
        m.update(1, 12, MapUpdateFlag.NOEXIST)
    with refused(errno.ENOENT):
        m.update(2, 12, MapUpdateFlag.EXIST)
    assert m.delete(1)
    assert not m.delete(1)
    assert m.lookup(1) is None


def test_a_full_hash_refuses() -> None:
    """A hash that is full answers E2BIG, and still takes a key that it has."""
    m = a_map(MapType.HASH, max_entries=2)
    m.update(1, 1)
    m.update(2, 2)
    with refused(errno.E2BIG):
        m.update(3, 3)
    m.update(2, 22)
    assert len(m) == 2


def test_a_full_lru_hash_drops_the_least_recently_used() -> None:
    """A program's look-up counts as a use; the entry without one goes."""
    m = a_map(MapType.LRU_HASH, max_entries=2)
    m.update(1, 1)
    m.update(2, 2)
    assert signed_answer(call(Helper.MAP_LOOKUP_ELEM, THE_MAP, AT_KEY), maps={"m": m}) != 0
    m.update(3, 3)
    assert [key[0] for key in m.keys()] == [1, 3]  # noqa: SIM118 - a map is no dict


def test_arrays() -> None:
    """All entries are there; an index outside is E2BIG, deletion EINVAL, NOEXIST EEXIST."""
    m = a_map(MapType.ARRAY, max_entries=2)
    assert m.lookup(1) == bytes(8)
    assert m.lookup(2) is None
    m.update(1, 5)
    assert [value[0] for _, value in m.items()] == [0, 5]
    for number, key, flags in (
        (errno.E2BIG, 2, 0),
        (errno.EEXIST, 1, MapUpdateFlag.NOEXIST),
        (errno.EINVAL, 1, 1 << 9),
    ):
        with refused(number):
            m.update(key, 1, flags)
    with refused(errno.EINVAL):
        m.delete(1)


def test_per_cpu_values() -> None:
    """A program changes the value of its CPU; user space sees all of them."""
    m = a_map(MapType.PERCPU_ARRAY)
    body = call(Helper.MAP_UPDATE_ELEM, THE_MAP, AT_KEY, AT_VALUE, 0)
    assert signed_answer(body, maps={"m": m}, world=sim.World(cpu=2)) == 0
    assert [value[0] for value in m.lookup_per_cpu(1) or []] == [0, 0, 42, 0]
    other = call(Helper.MAP_LOOKUP_PERCPU_ELEM, THE_MAP, AT_KEY, 2, after=(isa.load(8, 0, 0, 0),))
    assert signed_answer(other, maps={"m": m}) == 42
    nobody = call(Helper.MAP_LOOKUP_PERCPU_ELEM, THE_MAP, AT_KEY, 4)
    assert signed_answer(nobody, maps={"m": m}) == 0


def test_sizes_are_checked() -> None:
    """A key or a value of another size is EINVAL."""
    m = a_map(MapType.HASH)
    for key, value in ((b"12345", 1), (1, b"1"), (1 << 32, 1)):
        with refused(errno.EINVAL):
            m.update(key, value)


def test_the_longest_prefix_wins() -> None:
    """LPM trie: the most specific prefix that covers the address; prefixes themselves are updated and deleted."""
    m = a_map(MapType.LPM_TRIE, key=8, max_entries=3, flags=MapCreateFlag.NO_PREALLOC)

    def key(length: int, *address: int) -> bytes:
        return length.to_bytes(4, "little") + bytes(address)

    m.update(key(8, 10, 1, 2, 3), 8)
    m.update(key(24, 10, 1, 2, 0), 24)
    assert [m.lookup(key(32, *address)) for address in ((10, 1, 2, 9), (10, 9, 9, 9), (11, 0, 0, 1))] == [
        bytes([24]) + bytes(7),
        bytes([8]) + bytes(7),
        None,
    ]
    assert m.delete(key(24, 10, 1, 2, 77))
    assert m.lookup(key(32, 10, 1, 2, 9)) == bytes([8]) + bytes(7)
    with refused(errno.EINVAL):
        m.update(key(33, 1, 1, 1, 1), 0)
    m.update(key(0, 0, 0, 0, 0), 0)
    m.update(key(1, 0, 0, 0, 0), 1)
    with refused(errno.ENOSPC):
        m.update(key(2, 0, 0, 0, 0), 2)


@pytest.mark.parametrize(("kind", "order"), [(MapType.QUEUE, [1, 2]), (MapType.STACK, [2, 1])])
def test_queue_and_stack(kind: MapType, order: list[int]) -> None:
    """Programs push, peek and pop in the kind's order; full is E2BIG, empty is ENOENT, EXIST drops the oldest."""
    m = a_map(kind, key=0, max_entries=2)
    maps = {"m": m}

    def push(value: int, flags: int = 0) -> int:
        body = call(Helper.MAP_PUSH_ELEM, THE_MAP, [isa.store_imm(8, 10, -16, value), *stack_at(2, 16)], flags)
        return signed_answer(body, maps=maps)

    def take(helper: Helper) -> int:
        answer = (isa.jump_if_imm(Jump.JNE, 0, 0, "end"), isa.load(8, 0, 10, -16), isa.Label("end"))
        return signed_answer(call(helper, THE_MAP, stack_at(2, 16), after=answer), maps=maps)

    assert (push(1), push(2), push(3)) == (0, 0, -errno.E2BIG)
    assert [take(Helper.MAP_PEEK_ELEM), take(Helper.MAP_POP_ELEM), take(Helper.MAP_POP_ELEM)] == [order[0], *order]
    assert take(Helper.MAP_POP_ELEM) == -errno.ENOENT
    assert [push(1), push(2), push(3, MapUpdateFlag.EXIST)] == [0, 0, 0]
    assert sorted([take(Helper.MAP_POP_ELEM), take(Helper.MAP_POP_ELEM)]) == [2, 3]


def test_bloom_filter() -> None:
    """A value that was added may be there, another is not."""
    m = a_map(MapType.BLOOM_FILTER, key=0)
    body = call(Helper.MAP_PEEK_ELEM, THE_MAP, [isa.store_imm(8, 10, -16, 42), *stack_at(2, 16)])
    assert signed_answer(body, maps={"m": m}) == -errno.ENOENT
    push = call(Helper.MAP_PUSH_ELEM, THE_MAP, [isa.store_imm(8, 10, -16, 42), *stack_at(2, 16)], 0)
    assert signed_answer(push, maps={"m": m}) == 0
    assert signed_answer(body, maps={"m": m}) == 0


def test_a_program_writes_values_in_place() -> None:
    """A look-up gives the value itself; NULL that was not tested is named with the call that it came from."""
    m = a_map(MapType.HASH)
    body = call(Helper.MAP_LOOKUP_ELEM, THE_MAP, AT_KEY, after=(isa.store_imm(8, 0, 0, 7), isa.mov_imm(0, 0)))
    with pytest.raises(
        sim.AccessError, match="NULL: the result of map_lookup_elem at slot 6 was NULL, it must be tested"
    ):
        result_of(body, maps={"m": m})
    m.update(1, 1)
    assert result_of(body, maps={"m": m}).ret == 0
    assert m.lookup(1) == bytes([7]) + bytes(7)


def test_a_value_ends_where_it_ends() -> None:
    """An access past a value's end names the map."""
    m = a_map(MapType.ARRAY)
    body = call(Helper.MAP_LOOKUP_ELEM, THE_MAP, AT_KEY, after=(isa.load(4, 0, 0, 6),))
    with pytest.raises(sim.AccessError, match=r"read of 4 bytes at value of m\+6: value of m has bytes 0 to 7"):
        result_of(body, maps={"m": m})


def test_updates_and_deletes_of_programs() -> None:
    """map_update_elem and map_delete_elem answer with the kernel's errno."""
    m = a_map(MapType.HASH, max_entries=1)

    def update(flags: int) -> int:
        return signed_answer(call(Helper.MAP_UPDATE_ELEM, THE_MAP, AT_KEY, AT_VALUE, flags), maps={"m": m})

    assert update(MapUpdateFlag.EXIST) == -errno.ENOENT
    assert update(0) == 0
    assert update(MapUpdateFlag.NOEXIST) == -errno.EEXIST
    assert update(3) == -errno.EINVAL
    delete = call(Helper.MAP_DELETE_ELEM, THE_MAP, AT_KEY)
    assert (signed_answer(delete, maps={"m": m}), signed_answer(delete, maps={"m": m})) == (0, -errno.ENOENT)


def test_globals_and_read_only_maps() -> None:
    """The value of a one-entry array is reached directly; BPF_F_RDONLY_PROG forbids writing it."""
    m = a_map(MapType.ARRAY, max_entries=1, contents=bytes([1, 2, 3, 4]), flags=MapCreateFlag.RDONLY_PROG)
    read = [isa.load_map_value(1, "m", 2), isa.load(1, 0, 1, 0), isa.exit_program()]
    assert sim.run(read, maps={"m": m}).ret == 3
    with pytest.raises(sim.AccessError, match="value of m is read-only"):
        sim.run([isa.load_map_value(1, "m"), isa.store_imm(1, 1, 0, 0), isa.exit_program()], maps={"m": m})


def test_maps_by_number() -> None:
    """Instructions that name a map by descriptor or index find it in `maps` by number."""
    m = a_map(MapType.HASH)
    descriptor = isa.Instruction(0x18, 1, 1, 0, 5)
    body = [isa.mov_imm(0, 0), descriptor, isa.exit_program()]
    assert sim.run(body, maps={5: m}).ret == 0
    with pytest.raises(sim.SimError, match="map 5 is not given"):
        sim.run(body, maps={6: m})


def test_maps_of_maps() -> None:
    """A look-up in a map of maps gives a map to look up in; one of another shape is refused."""
    inner = shape(MapType.HASH)
    outer, m = a_map(MapType.ARRAY_OF_MAPS, inner=inner), a_map(MapType.HASH)
    m.update(1, 99)
    outer.set(1, m)
    then = (
        isa.jump_if_imm(Jump.JEQ, 0, 0, "end"),
        isa.mov(1, 0),
        *stack_at(2, 4),
        isa.call(Helper.MAP_LOOKUP_ELEM),
        isa.load(8, 0, 0, 0),
        isa.Label("end"),
    )
    assert signed_answer(call(Helper.MAP_LOOKUP_ELEM, THE_MAP, AT_KEY, after=then), maps={"m": outer}) == 99
    with refused(errno.EINVAL):
        outer.set(2, a_map(MapType.HASH, value=4))
    with refused(errno.E2BIG):
        outer.set(4, m)


def test_for_each_calls_back_with_each_entry() -> None:
    """for_each_map_elem adds up all values by its context; a callback that returns 1 stops it."""
    m = a_map(MapType.HASH)
    m.update(1, 10)
    m.update(2, 20)

    def add_up(answer: int) -> list[isa.Instruction]:
        return isa.link_functions(
            [
                ("main", [isa.store_imm(8, 10, -8, 0), isa.load_map(1, "m"), isa.load_function(2, "add"),
                          *stack_at(3, 8), isa.mov_imm(4, 0), isa.call(Helper.FOR_EACH_MAP_ELEM),
                          isa.load(8, 1, 10, -8), isa.alu_imm(Alu.MUL, 0, 1000), isa.alu(Alu.ADD, 0, 1),
                          isa.exit_program()]),
                ("add", [isa.load(8, 5, 3, 0), isa.load(8, 0, 4, 0), isa.alu(Alu.ADD, 0, 5), isa.store(8, 4, 0, 0),
                         isa.mov_imm(0, answer), isa.exit_program()]),
            ]
        )  # fmt: skip

    assert sim.run(add_up(0), maps={"m": m}).ret == 2030
    assert sim.run(add_up(1), maps={"m": m}).ret == 1010


def test_ring_buffer() -> None:
    """reserve, write, submit; a record that is still being written holds later ones back; a released one is dead."""
    m = a_map(MapType.RINGBUF, key=0, value=0, max_entries=4096)
    then = (
        isa.jump_if_imm(Jump.JEQ, 0, 0, "end"),
        isa.mov(7, 0),
        isa.store_imm(8, 7, 0, 5),
        isa.mov(1, 7),
        isa.mov_imm(2, 0),
        isa.call(Helper.RINGBUF_SUBMIT),
        isa.Label("end"),
        isa.mov_imm(0, 0),
    )
    body = call(Helper.RINGBUF_RESERVE, THE_MAP, 8, 0, after=then)
    result = result_of(body, maps={"m": m})
    assert [event.data for event in result.events] == [bytes([5]) + bytes(7)]
    assert m.consume() == [bytes([5]) + bytes(7)]
    with pytest.raises(sim.AccessError, match="ringbuf_submit has given the record away"):
        result_of([*body[:-2], isa.load(1, 0, 7, 0), isa.exit_program()], maps={"m": m})
    with pytest.raises(sim.SimError, match="still holds a record of m: ringbuf_submit or ringbuf_discard is missing"):
        result_of(call(Helper.RINGBUF_RESERVE, THE_MAP, 8, 0), maps={"m": m})
    assert signed_answer(call(Helper.RINGBUF_RESERVE, THE_MAP, 5000, 0), maps={"m": m}) == 0
    output = call(Helper.RINGBUF_OUTPUT, THE_MAP, [isa.store_imm(8, 10, -16, 42), *stack_at(2, 16)], 8, 0)
    full = a_map(MapType.RINGBUF, key=0, value=0, max_entries=32)
    assert [signed_answer(output, maps={"m": full}) for _ in range(2)] == [0, -errno.EAGAIN]


def test_perf_event_array() -> None:
    """perf_event_output sends a record by the CPU's ring."""
    m = a_map(MapType.PERF_EVENT_ARRAY)
    data = [isa.store_imm(8, 10, -16, 42), *stack_at(4, 16)]
    body = call(Helper.PERF_EVENT_OUTPUT, [isa.mov_imm(1, 0)], [isa.load_map(2, "m")], 0xFFFFFFFF, data, 8)
    result = result_of(body, maps={"m": m}, world=sim.World(cpu=3))
    assert (result.ret, m.records) == (0, [(3, bytes([42]) + bytes(7))])
    assert signed_answer(body, maps={"m": m}, world=sim.World(cpu=9)) == -errno.E2BIG


@pytest.mark.parametrize(
    ("kind", "owner", "get"),
    [
        (MapType.TASK_STORAGE, Helper.GET_CURRENT_TASK_BTF, Helper.TASK_STORAGE_GET),
        (MapType.CGRP_STORAGE, Helper.GET_CURRENT_TASK_BTF, Helper.CGRP_STORAGE_GET),
    ],
)
def test_storage_of_kernel_objects(kind: MapType, owner: Helper, get: Helper) -> None:
    """An object's value is made once and found again in the next run of the same world."""
    m, world = a_map(kind), sim.World()
    then = (
        isa.mov(2, 0),
        isa.load_map(1, "m"),
        isa.mov_imm(3, 0),
        isa.mov_imm(4, 1),
        isa.call(get),
        isa.load(8, 1, 0, 0),
        isa.alu_imm(Alu.ADD, 1, 1),
        isa.store(8, 0, 0, 1),
        isa.mov(0, 1),
    )
    body = call(owner, after=then)
    assert [signed_answer(body, maps={"m": m}, world=world) for _ in range(2)] == [1, 2]
    assert m.value_of(world.task) == bytes([2]) + bytes(7)


def test_socket_storage() -> None:
    """sk_storage_get without CREATE is NULL for a new socket; delete answers ENOENT then."""
    m, ctx = a_map(MapType.SK_STORAGE, max_entries=0), sim.SockOps()
    sock = [isa.load(8, 2, 6, 184)]
    lookup = call(Helper.SK_STORAGE_GET, THE_MAP, sock, 0, 0)
    assert signed_answer(lookup, ctx, maps={"m": m}) == 0
    delete = call(Helper.SK_STORAGE_DELETE, THE_MAP, sock)
    assert signed_answer(delete, ctx, maps={"m": m}) == -errno.ENOENT
    create = call(Helper.SK_STORAGE_GET, THE_MAP, sock, 0, 1, after=(isa.store_imm(8, 0, 0, 3),))
    result_of(create, ctx, maps={"m": m})
    assert m.value_of(ctx.sk) == bytes([3]) + bytes(7)
    assert signed_answer(delete, ctx, maps={"m": m}) == 0


def test_tail_calls() -> None:
    """A tail call goes on in the other program with the same context; after 33 of them it fails."""
    m = a_map(MapType.PROG_ARRAY)
    go = [isa.load_map(2, "m"), isa.mov_imm(3, 1), isa.call(Helper.TAIL_CALL), isa.mov_imm(0, 5), isa.exit_program()]
    assert sim.run(go, sim.SockOps(), maps={"m": m}).ret == 5
    m.set(1, [isa.load(4, 0, 1, 0), isa.exit_program()])
    result = sim.run(go, sim.SockOps(op=77), maps={"m": m})
    assert result.ret == 77
    assert set(result.coverages) == {"program", "m[1]"}
    again = [isa.mov(6, 1), *go]
    m.set(1, again)
    result = sim.run(again, sim.SockOps(), maps={"m": m})
    assert (result.ret, result.steps) == (5, 33 * 4 + 6)


def test_what_a_map_does_not_have() -> None:
    """An operation that a kind of map lacks is an error that names map and kind."""
    with pytest.raises(sim.SimError, match="map m is of type QUEUE, which has no look-up"):
        a_map(MapType.QUEUE, key=0).lookup(b"")
    with pytest.raises(sim.SimError, match="map m is of type ARENA, which is not simulated"):
        a_map(MapType.ARENA)
    with pytest.raises(sim.SimError, match="is not the address of a map"):
        sim.run(call(Helper.MAP_LOOKUP_ELEM, [isa.mov(1, 10)], AT_KEY))
