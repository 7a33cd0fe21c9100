"""Collections: loaded together, shared, pinned, filled, attached, and gone together."""

import errno
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import pytest
from cgroup_caller import Caller
from collection_objects import (
    CLANGS,
    HEAD,
    array,
    broken,
    collection,
    compiled,
    counting,
    program,
    program_array,
    tail_caller,
)
from written_modules import MakeModule

from pybpfasm import isa
from pybpfasm.compiler import compile_program
from pybpfasm.errors import BpfError, KernelError
from pybpfasm.kernel import sys as kernel
from pybpfasm.kernel.collection import Collection
from pybpfasm.kernel.events import RingBuffer
from pybpfasm.kernel.links.cgroup import query_cgroup
from pybpfasm.kernel.maps import Map, ShapeError
from pybpfasm.kernel.programs import Program
from pybpfasm.kernel.verifier import VerifierError
from pybpfasm.lang.types import LayoutError
from pybpfasm.spec import CollectionSpec, ProgramSpec
from pybpfasm.uapi import AttachType, Command, ProgramType

PACKET = bytes(64)
ZERO = bytes(4)


def u64(value: int) -> bytes:
    """A value of the maps here."""
    return value.to_bytes(8, "little")


def living(name: str) -> list[str]:
    """The kernel's maps and programs whose names begin so, after some time for it to free what nobody holds."""
    deadline = time.monotonic() + 10
    while found := [each for each in names() if each.startswith(name)]:
        if time.monotonic() > deadline:
            break
        time.sleep(0.02)
    return found


def names() -> list[str]:
    """The names of all maps and programs of the kernel."""
    found = []
    for command, opened in ((Command.MAP_GET_NEXT_ID, Map.by_id), (Command.PROG_GET_NEXT_ID, Program.by_id)):
        for number in ids(command):
            with suppress(KernelError), opened(number) as each:  # it may be gone by now
                found.append(each.info().name)
    return found


def ids(command: Command) -> set[int]:
    """The ids of all objects of a kind."""
    found: set[int] = set()
    attributes = kernel.new("id")
    with suppress(KernelError):  # the walk's end
        while True:
            kernel.bpf(command, attributes, "walk ids")
            found.add(attributes.next_id)
            attributes.id = attributes.next_id
    return found


@pytest.fixture
def leaves_nothing() -> Iterator[None]:
    """What the test leaves open: no descriptor of any kind that was not there before."""
    before = sorted(os.listdir("/proc/self/fd"))
    yield
    assert sorted(os.listdir("/proc/self/fd")) == before


@pytest.fixture
def pins(bpffs: Path) -> Path:
    """An empty folder for pins."""
    folder = bpffs / "pins"
    folder.mkdir()
    return folder


@pytest.fixture
def unique() -> str:
    """A name that nothing else has."""
    return f"t{uuid4().hex[:8]}"


# --- objects of clang -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("clang", CLANGS)
@pytest.mark.usefixtures("leaves_nothing")
def test_an_object_of_clang(clang: str) -> None:
    """Globals, a map of maps, a tail call, a ring buffer: all of it does what the C says."""
    with Collection.load(compiled(clang)) as loaded:
        assert set(loaded.programs) == {"called", "caller"}
        with RingBuffer(loaded.maps["events"]) as events:
            assert loaded.programs["caller"].run(PACKET).retval == 5
            assert events.drain() == [u64(8)]
        assert loaded.maps[".data"].lookup(ZERO) == u64(8)
        assert loaded.maps[".bss"].lookup(ZERO) == u64(1)
        assert loaded.maps["second"].lookup(ZERO) == u64(7)
        assert loaded.maps["first"].lookup(ZERO) == u64(0)
        assert loaded.maps[".rodata"].frozen


@pytest.mark.parametrize("clang", CLANGS)
def test_constants_by_name(clang: str) -> None:
    """A constant of .rodata is set before the load, also a struct; the verifier drops what it rules out."""
    spec = compiled(clang)
    with Collection.load(spec, constants={"limit": 40}) as loaded:
        assert loaded.programs["caller"].run(PACKET).retval == 40
        long = len(loaded.programs["caller"].xlated())
    with Collection.load(spec, constants={"config": {"on": 1, "step": 0}}) as loaded:
        assert loaded.programs["caller"].run(PACKET).retval == 99
        assert len(loaded.programs["caller"].xlated()) < long
    with pytest.raises(BpfError, match=r"^the collection has no constant 'limits'.*; its constants: config, limit$"):
        Collection.load(spec, constants={"limits": 1})
    with pytest.raises(LayoutError):
        Collection.load(spec, constants={"limit": 1 << 32})
    with pytest.raises(BpfError, match="it has none that are named"):
        Collection.load(collection(counting(), array()), constants={"limit": 1})


@pytest.mark.parametrize("clang", CLANGS)
def test_programs_that_are_optional(clang: str) -> None:
    """A section with `?` in front is loaded when it is named, and then alone."""
    with Collection.load(compiled(clang), programs=["optional"]) as loaded:
        assert list(loaded.programs) == ["optional"]
        assert loaded.programs["optional"].run(PACKET).retval == 4


@pytest.mark.parametrize("clang", CLANGS)
def test_a_section_that_says_nothing(clang: str) -> None:
    """A program of unknown type is an error that names its section."""
    spec = compiled(clang, HEAD + 'SEC("nonsense") int lost(void *ctx) { return 0; }')
    text = r"^cannot load program lost: section 'nonsense' does not say of what type it is$"
    with pytest.raises(BpfError, match=text):
        Collection.load(spec)


# --- programs of our compiler -----------------------------------------------------------------------------------------


def test_programs_of_our_compiler(write_module: MakeModule, caller: Caller) -> None:
    """Two programs that share a map, attached to what they are declared for, both count a connection there."""
    module = write_module(
        """
        class Seen(Struct):
            count: u64

        seen = HashMap[u32, Seen](max_entries=4)

        @bpf.connect4
        def first(ctx: SockAddr) -> int:
            found = seen.lookup(1)
            if found is not None:
                found.count += 1
            return 1

        @bpf.connect4
        def second(ctx: SockAddr) -> int:
            found = seen.lookup(1)
            if found is not None:
                found.count += 100
            return 1
        """
    )
    specs = [compile_program(module.first), compile_program(module.second)]
    spec = CollectionSpec({each.name: each for each in specs}, {**specs[0].maps, **specs[1].maps})
    with Collection.load(spec) as loaded:
        key = (1).to_bytes(4, "little")
        loaded.maps["seen"].update(key, u64(0))
        made = loaded.attach_all(cgroup=caller.cgroup)
        assert set(made) == {"first", "second"} == set(loaded.links)
        caller.connect()
        assert loaded.maps["seen"].lookup(key) == u64(101)
    caller.connect()


# --- sharing and pins -------------------------------------------------------------------------------------------------


def test_a_map_of_the_callers() -> None:
    """The programs use the map that is given; it stays open when the collection is closed."""
    with Map.create(array()) as mine:
        with Collection.load(collection(counting(), array()), replace={"values": mine}) as loaded:
            assert loaded.maps["values"] is mine
            loaded.programs["count"].run(PACKET)
        assert mine.lookup(ZERO) == u64(1)


def test_a_given_map_of_another_shape() -> None:
    """It is refused, and the error says in what it differs; so is one that the collection has not."""
    with Map.create(array(entries=3)) as mine:
        text = r"^the map given for values is another than wanted: max_entries 3, not 1$"
        with pytest.raises(ShapeError, match=text):
            Collection.load(collection(counting(), array()), replace={"values": mine})
        with pytest.raises(BpfError, match=r"^the collection has no map 'other' to replace; its maps: values$"):
            Collection.load(collection(array()), replace={"other": mine})
        assert mine.lookup(ZERO) == u64(0)


def test_pins_are_reused(pins: Path) -> None:
    """The second load goes on with the map that the first one pinned, and its entries."""
    spec = collection(counting(), array(pinned=True))
    with Collection.load(spec, pins=pins) as first:
        first.programs["count"].run(PACKET)
        number = first.maps["values"].info().id
    with Collection.load(spec, pins=pins) as second:
        assert second.maps["values"].info().id == number
        second.programs["count"].run(PACKET)
        assert second.maps["values"].lookup(ZERO) == u64(2)
    assert [each.name for each in pins.iterdir()] == ["values"]


def test_a_pin_of_another_shape(pins: Path, unique: str) -> None:
    """It is refused with what differs, and stays; a map that was made and pinned before it is gone again."""
    with Map.create(array(entries=3)) as other:
        other.pin(pins / "values")
    spec = collection(array(unique, pinned=True), counting(), array(pinned=True))
    with pytest.raises(ShapeError, match=r"pinned map .*/values is another than wanted: max_entries 3, not 1$"):
        Collection.load(spec, pins=pins)
    assert [each.name for each in pins.iterdir()] == ["values"]
    assert living(unique) == []


def test_a_map_to_be_pinned_nowhere() -> None:
    """Without a folder it is an error that says what to name."""
    with pytest.raises(BpfError, match=r"^map values asks to be pinned by its name: name a folder, pins="):
        Collection.load(collection(array(pinned=True)))


def test_two_that_pin_at_once(pins: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If another process pins its map in the moment between, that one is used."""
    real = Map.pin
    rival = Map.create(array(pinned=True))

    def pin(self: Map, path: Path) -> None:
        if self is not rival:
            real(rival, path)
        real(self, path)

    monkeypatch.setattr(Map, "pin", pin)
    with rival, Collection.load(collection(array(pinned=True)), pins=pins) as loaded:
        assert loaded.maps["values"].info().id == rival.info().id


# --- entries ----------------------------------------------------------------------------------------------------------


def test_a_pinned_program_array_gets_the_new_programs(pins: Path) -> None:
    """Whoever jumps through the array of an earlier load reaches the programs of the later one."""

    def spec(verdict: int) -> CollectionSpec:
        target = program("target", isa.mov_imm(0, verdict), isa.exit_program())
        return collection(target, tail_caller("jumps"), program_array((0, "target"), pinned=True))

    with Collection.load(spec(41), pins=pins) as old:
        assert old.programs["caller"].run(PACKET).retval == 41
        with Collection.load(spec(42), pins=pins):
            assert old.programs["caller"].run(PACKET).retval == 42


# --- failures ---------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("leaves_nothing")
def test_a_rejected_program_undoes_all(pins: Path, unique: str) -> None:
    """The last program is bad: no map, no program, no pin is left, and the error is the verifier's."""
    maps = (array(f"{unique}a", pinned=True), array(f"{unique}b"), program_array())
    spec = collection(*maps, counting(f"{unique}c", f"{unique}a"), tail_caller("jumps"), broken())
    with pytest.raises(VerifierError, match="the kernel rejected program broken"):
        Collection.load(spec, pins=pins)
    assert list(pins.iterdir()) == []
    assert living(unique) == []


@pytest.mark.usefixtures("leaves_nothing")
def test_any_call_that_fails_undoes_all(pins: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever bpf call of the load fails, all that was made is gone, pins included."""
    spec = collection(array(pinned=True), array("more"), counting(), tail_caller("jumps"), program_array((0, "count")))
    real = kernel.bpf
    calls = 0
    failing = -1

    def bpf(command: Command, attributes: object, attempted: str) -> int:
        nonlocal calls
        calls += 1
        if calls == failing:
            raise kernel.failure(errno.ENOMEM, attempted)
        return real(command, attributes, attempted)

    monkeypatch.setattr(kernel, "bpf", bpf)
    Collection.load(spec, pins=pins).close()
    (pins / "values").unlink()
    needed, failed = calls, 0
    for number in range(1, needed + 1):
        calls, failing = 0, number
        before = sorted(os.listdir("/proc/self/fd"))
        try:
            Collection.load(spec, pins=pins).close()
        except KernelError:
            failed += 1
            assert list(pins.iterdir()) == []
        else:  # a call that may fail, a probe
            (pins / "values").unlink()
        assert sorted(os.listdir("/proc/self/fd")) == before
    assert failed >= 6


def test_closing_leaves_nothing(unique: str) -> None:
    """Maps and programs are gone from the kernel with the collection; closing twice is nothing."""
    spec = collection(counting(f"{unique}c", f"{unique}a"), array(f"{unique}a"))
    with Collection.load(spec) as loaded:
        assert sorted(set(names()) & {f"{unique}a", f"{unique}c"}) == [f"{unique}a", f"{unique}c"]
        loaded.close()
        assert living(unique) == []


def test_a_forgotten_collection_leaves_nothing(unique: str) -> None:
    """One that is not closed is when nobody has it any more."""
    Collection.load(collection(counting(f"{unique}c", f"{unique}a"), array(f"{unique}a")))
    assert living(unique) == []


# --- attaching --------------------------------------------------------------------------------------------------------


@pytest.fixture
def cgroup(caller: Caller) -> Iterator[Path]:
    """A cgroup of the test's own."""
    place = caller.cgroup / f"inner-{uuid4().hex[:8]}"
    place.mkdir()
    yield place
    place.rmdir()


def hooked(name: str, hook: AttachType, verdict: int = 1) -> ProgramSpec:
    """A program for a hook of cgroups."""
    code = (isa.mov_imm(0, verdict), isa.exit_program())
    return ProgramSpec(name, ProgramType.CGROUP_SOCK_ADDR, hook, "bpf_sock_addr", code, {})


def test_attaching_all_or_none(cgroup: Path) -> None:
    """If one cannot be attached, the others are detached again; a program without a place is told before."""
    one = hooked("one", AttachType.CGROUP_INET4_CONNECT)
    lookup = ProgramSpec("two", ProgramType.SK_LOOKUP, AttachType.SK_LOOKUP, "bpf_sk_lookup", one.instructions, {})
    with Collection.load(collection(one, lookup)) as loaded:
        with pytest.raises(BpfError, match=r"^program one \(cgroup_inet4_connect\) needs a target: cgroup=…$"):
            loaded.attach_all()
        with pytest.raises(KernelError):
            loaded.attach_all(cgroup=cgroup, netns=Path("/dev/null"))
        assert loaded.links == {}
        assert attached(cgroup) == []
        loaded.attach("one", cgroup=cgroup)
        assert len(attached(cgroup)) == 1
        with pytest.raises(BpfError, match=r"^the collection has no program 'three'; its programs: one, two$"):
            loaded.attach("three")
    assert attached(cgroup) == []


def test_programs_in_arrays_are_not_attached() -> None:
    """What others call is left alone; a program whose place nobody knows is an error that says so."""
    target = program("target", isa.mov_imm(0, 1), isa.exit_program())
    with Collection.load(collection(target, program_array((0, "target")))) as loaded:
        assert loaded.attach_all() == {}
    text = r"^cannot tell where to attach program target: it is of type sched_cls"
    with Collection.load(collection(target)) as loaded, pytest.raises(BpfError, match=text):
        loaded.attach_all(interface="lo")


def test_bpftool_sees_a_collection(caller: Caller) -> None:
    """Names of maps and programs are those of the spec."""
    with Collection.load(collection(counting(), array())) as loaded:
        number = loaded.programs["count"].info().id
        try:
            done = subprocess.run(
                ["bpftool", "prog", "show", "id", str(number)], capture_output=True, text=True, check=True
            )
        except FileNotFoundError:
            pytest.skip("bpftool is not installed")
        assert "name count" in done.stdout
        assert str(loaded.maps["values"].info().id) in done.stdout


def attached(cgroup: Path) -> list[int]:
    """What is attached to the cgroup's connect4 hook."""
    return list(query_cgroup(cgroup, AttachType.CGROUP_INET4_CONNECT).ids)
