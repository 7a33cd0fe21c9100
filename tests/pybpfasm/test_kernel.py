"""Maps, programs and links in the kernel: what they do, who owns their descriptors, what their errors say."""

import errno
import gc
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from cgroup_caller import Caller
from written_modules import MakeModule

from pybpfasm import Array, HashMap, PerCpuArray, SockHash, Struct, isa, u32, u64
from pybpfasm.compiler import compile_program
from pybpfasm.errors import BpfError, KernelError
from pybpfasm.kernel import features
from pybpfasm.kernel.links import Link, attach_cgroup, attach_sockmap
from pybpfasm.kernel.maps import Map, MapFullError, ShapeError, TypedMap, possible_cpus
from pybpfasm.kernel.pins import ensure_bpffs, is_bpffs
from pybpfasm.kernel.programs import Program
from pybpfasm.kernel.verifier import VerifierError
from pybpfasm.spec import MapSpec, ProgramSpec


class Pair(Struct):
    """A value of a map."""

    one: u64
    two: u32


class Cookie(Struct):
    """What user space reads from a map of sockets."""

    cookie: u64


HASH: Any = HashMap[u32, Pair](max_entries=3)
ARRAY: Any = Array[u32, Pair](max_entries=3)
PER_CPU: Any = PerCpuArray[u32, Pair](max_entries=2)
SOCKETS: Any = SockHash[u64, Cookie](max_entries=3)
KEY = (7).to_bytes(4, "little")
OTHER = (8).to_bytes(4, "little")

SOURCE = """
class Pair(Struct):
    one: u64
    two: u32

pairs = HashMap[u32, Pair](max_entries=3)

@bpf.connect4
def accept(ctx: SockAddr) -> int:
    p = pairs.lookup(7)
    if p is not None:
        p.one += 1
    return 1

@bpf.connect4
def refuse(ctx: SockAddr) -> int:
    return 0

@bpf.connect4
def rejected(ctx: SockAddr) -> int:
    count = ctx.type  # größer, ∑
    return count + 5

@bpf.connect4
def long_name_of_a_program(ctx: SockAddr) -> int:
    return 1

@bpf.sk_msg
def message(ctx: SkMsg) -> int:
    return 1

@bpf.sock_ops
def events(ctx: SockOps) -> int:
    return 1

@bpf.getsockopt
def option(ctx: Sockopt) -> int:
    return 1
"""


@pytest.fixture
def specs(write_module: MakeModule) -> dict[str, ProgramSpec]:
    """The compiled programs of SOURCE, by name."""
    programs = vars(write_module(SOURCE)).values()
    return {each.name: compile_program(each) for each in programs if type(each).__name__ == "Program"}


@pytest.fixture
def pairs() -> Iterator[Map]:
    """The hash map."""
    with Map.create(HASH.spec("pairs")) as made:
        yield made


def value(one: int = 0, two: int = 0) -> bytes:
    """A value's bytes."""
    return bytes(Pair(one=one, two=two))


# --- maps -------------------------------------------------------------------------------------------------------------


def test_entries_of_a_hash(pairs: Map) -> None:
    """An entry is there after an update and gone after a delete."""
    assert pairs.lookup(KEY) is None
    pairs.update(KEY, value(1, 2))
    assert pairs.lookup(KEY) == value(1, 2)
    pairs.update(KEY, value(3, 4))
    assert pairs.lookup(KEY) == value(3, 4)
    assert pairs.delete(KEY)
    assert not pairs.delete(KEY)
    assert pairs.lookup(KEY) is None


def test_what_the_kernel_says_of_a_map(pairs: Map) -> None:
    """Its type, sizes and name are those of the spec."""
    info = pairs.info()
    assert (info.type, info.key_size, info.value_size, info.max_entries, info.name) == (1, 4, 16, 3, "pairs")
    assert info.id > 0


def test_a_full_map_is_an_error_of_its_own(pairs: Map) -> None:
    """The fourth of three entries is refused; those that are there can still be changed."""
    for number in range(3):
        pairs.update(number.to_bytes(4, "little"), value())
    with pytest.raises(MapFullError, match=r"^cannot update map pairs: it is full, it holds 3 entries$") as caught:
        pairs.update(KEY, value())
    assert caught.value.errno == errno.E2BIG
    pairs.update((2).to_bytes(4, "little"), value(5))


def test_keys_of_a_map(pairs: Map) -> None:
    """All keys come, once each, also while they are deleted."""
    wanted = {number.to_bytes(4, "little") for number in range(3)}
    for key in wanted:
        pairs.update(key, value())
    assert sorted(pairs.keys()) == sorted(wanted)
    for key in list(pairs.keys()):
        pairs.delete(key)
    assert list(pairs.keys()) == []


def test_the_walk_through_a_changing_map_ends(pairs: Map) -> None:
    """Deleting behind the walk makes the kernel start over; the walk ends all the same."""
    for number in range(3):
        pairs.update(number.to_bytes(4, "little"), value())
    seen = 0
    for key in pairs.keys():  # noqa: SIM118 - a map is no dict
        seen += 1
        pairs.delete(key)
        pairs.update(key, value())
    assert seen <= 3


def test_an_array_has_all_its_entries() -> None:
    """An array's entries are zero from the start, cannot be deleted, and end at its size."""
    with Map.create(ARRAY.spec("array")) as made:
        assert made.lookup((2).to_bytes(4, "little")) == value()
        assert made.lookup((3).to_bytes(4, "little")) is None
        assert len(list(made.keys())) == 3
        with pytest.raises(KernelError, match=r"^cannot delete from map array: .*\(EINVAL\)$"):
            made.delete(KEY)


def test_typed_entries(pairs: Map) -> None:
    """By its declaration's types a map takes and gives Python values."""
    typed: TypedMap[int, Pair] = TypedMap(HASH, pairs)
    assert typed.get(7) is None
    typed.set(7, Pair(one=1, two=2))
    typed.set(8, Pair(one=3, two=4))
    assert typed.get(7) == Pair(one=1, two=2)
    assert typed.read_all() == dict(typed.items()) == {7: Pair(one=1, two=2), 8: Pair(one=3, two=4)}
    assert sorted(typed.keys()) == [7, 8]
    assert typed.delete(7)
    assert not typed.delete(7)


def test_values_of_each_cpu() -> None:
    """A per-CPU map has one value for each CPU that there may be."""
    with Map.create(PER_CPU.spec("counts")) as made:
        typed: TypedMap[int, Pair] = TypedMap(PER_CPU, made)
        assert typed.per_cpu(1) == [Pair(one=0, two=0)] * possible_cpus()
        assert typed.per_cpu(5) == []


def test_another_size() -> None:
    """A spec can be resized before the map is made."""
    with Map.create(HASH.spec("pairs").resized(11)) as made:
        assert made.info().max_entries == 11
    with Map.create(HASH.spec("pairs", max_entries=12)) as made:
        assert made.info().max_entries == 12


def test_a_long_name_is_cut() -> None:
    """The kernel keeps 15 characters of a name."""
    with Map.create(HASH.spec("a_name_that_is_too_long")) as made:
        assert made.info().name == "a_name_that_is_"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (HASH.spec("pairs", max_entries=0), r"^cannot create map pairs: .*\(EINVAL\)$"),
        (attrs.evolve(HASH.spec("pairs"), flags=1 << 30), r"^cannot create map pairs: .*\(EINVAL\)$"),
        (HASH.spec("pairs", max_entries=0xFFFFFFFF), r"^cannot create map pairs: .*\((E2BIG|ENOMEM)\)$"),
    ],
)
def test_a_map_that_cannot_be(spec: MapSpec, message: str) -> None:
    """What the kernel refuses is one line that names the map."""
    with pytest.raises(KernelError, match=message):
        Map.create(spec)


# --- pins -------------------------------------------------------------------------------------------------------------


def test_a_pinned_map_outlives_its_descriptor(bpffs: Path) -> None:
    """Opened again by its pin, it is the same map with its entries."""
    with Map.create(HASH.spec("pairs")) as made:
        made.update(KEY, value(1))
        made.pin(bpffs / "pairs")
        number = made.info().id
    with Map.open(bpffs / "pairs", HASH.spec("pairs")) as again:
        assert again.info().id == number
        assert again.lookup(KEY) == value(1)


def test_a_pin_in_the_way(bpffs: Path, pairs: Map) -> None:
    """A name that is taken is refused by name."""
    pairs.pin(bpffs / "pairs")
    with pytest.raises(
        KernelError,
        match=rf"^cannot pin {bpffs}/pairs: the name is taken: open what is there, or remove it \(EEXIST\)$",
    ) as caught:
        pairs.pin(bpffs / "pairs")
    assert caught.value.errno == errno.EEXIST


def test_a_pin_that_is_missing(bpffs: Path) -> None:
    """A name without a pin is ENOENT, by name."""
    with pytest.raises(KernelError, match=rf"^cannot open pin {bpffs}/none: .*\(ENOENT\)$") as caught:
        Map.open(bpffs / "none", HASH.spec("pairs"))
    assert caught.value.errno == errno.ENOENT


@pytest.mark.parametrize(
    ("wanted", "difference"),
    [
        (HASH.spec("pairs", max_entries=4), "max_entries 3, not 4"),
        (ARRAY.spec("pairs"), "type hash, not array"),
        (attrs.evolve(HASH.spec("pairs"), key=PER_CPU.spec("x").value), "key_size 4, not 16"),
        (attrs.evolve(HASH.spec("pairs"), value=HASH.spec("x").key, flags=1), "value_size 16, not 4, flags 0, not 1"),
    ],
)
def test_a_pinned_map_of_another_shape(bpffs: Path, pairs: Map, wanted: MapSpec, difference: str) -> None:
    """A map of another shape is not taken; the error says in what it differs, and no descriptor is left."""
    pairs.pin(bpffs / "pairs")
    with pytest.raises(ShapeError, match=f"^the pinned map {bpffs}/pairs is another than wanted: {difference}$"):
        Map.open(bpffs / "pairs", wanted)


def test_where_a_bpf_file_system_is(bpffs: Path, tmp_path: Path) -> None:
    """A bpf file system is known as one; a directory in one is made; an ordinary full directory is refused."""
    assert is_bpffs(bpffs)
    assert not is_bpffs(tmp_path)
    ensure_bpffs(bpffs / "one" / "two")
    assert is_bpffs(bpffs / "one" / "two")
    full = tmp_path / "full"
    full.mkdir()
    (full / "file").touch()
    with pytest.raises(BpfError, match=f"^{full} is an ordinary directory that is not empty"):
        ensure_bpffs(full)


# --- programs ---------------------------------------------------------------------------------------------------------


def test_what_the_kernel_says_of_a_program(specs: dict[str, ProgramSpec], pairs: Map) -> None:
    """Its type, name, maps; equal instructions have an equal tag."""
    with Program.load(specs["accept"], {"pairs": pairs}) as one, Program.load(specs["accept"], {"pairs": pairs}) as two:
        assert (one.info().name, one.info().type) == ("accept", 18)
        assert one.info().map_ids == {pairs.info().id}
        assert one.info().tag == two.info().tag
        assert one.info().id != two.info().id


@pytest.mark.parametrize("name", ["message", "events", "option", "long_name_of_a_program"])
def test_every_kind_of_program_loads(specs: dict[str, ProgramSpec], name: str) -> None:
    """The smallest program of each kind passes the verifier."""
    with Program.load(specs[name], {}) as program:
        assert program.info().name == name[:15]


def test_a_rejected_program(specs: dict[str, ProgramSpec]) -> None:
    """The verifier's rejection is one line with the Python source line; the whole log is there on request."""
    with pytest.raises(VerifierError) as caught:
        Program.load(specs["rejected"], {})
    error = caught.value
    assert "\n" not in str(error)
    assert error.line is not None
    assert error.line.text == "return count + 5"
    place = f"{error.line.file}:{error.line.line}:{error.line.column}"
    assert str(error).startswith(
        f"the kernel rejected program rejected at {place}, `return count + 5`: {error.reason}: "
    )
    # Linux 6.8 writes the range as an interval, older kernels as a tristate number.
    assert re.search(r"R0 has .* should have been in (\[0, 1\]|\(0x0; 0x1\))$", error.reason)
    assert len(error.log.splitlines()) > 5
    # Kernels from 6.10 on add the file and the line.
    assert re.search(r"^; count = ctx.type  # größer, ∑( @ .*)?$", error.log, re.MULTILINE)
    assert Path(error.line.file).read_text().splitlines()[error.line.line - 1].strip() == "return count + 5"


def test_a_program_rejected_for_its_instructions(specs: dict[str, ProgramSpec]) -> None:
    """Instructions written by hand, without source lines, are rejected with the verifier's sentence."""
    spec = attrs.evolve(specs["refuse"], instructions=(isa.mov(0, 5), isa.exit_program()), name="unset")
    with pytest.raises(VerifierError, match=r"^the kernel rejected program unset.*: R5 !read_ok: R5 has no value"):
        Program.load(spec, {})


def test_a_program_without_its_map(specs: dict[str, ProgramSpec]) -> None:
    """A map that is not given is named."""
    with pytest.raises(BpfError, match=r"^the program refers to map pairs, which is not among those given$"):
        Program.load(specs["accept"], {})


# --- links ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def cgroup(caller: Caller) -> Iterator[int]:
    """A descriptor of the caller's cgroup."""
    fd = os.open(caller.cgroup, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def test_a_link_attaches_and_its_end_detaches(specs: dict[str, ProgramSpec], caller: Caller, cgroup: int) -> None:
    """While the link is open, connects in the cgroup are refused; once it is closed, they are not."""
    with Program.load(specs["refuse"], {}) as program, attach_cgroup(program, cgroup) as link:
        info = link.info()
        assert info.program_id == program.info().id
        assert info.target == caller.cgroup.stat().st_ino
        assert caller.connect()[0] == str(errno.EPERM)
    assert caller.connect()[0] == "connected"


def test_an_update_keeps_the_link(
    specs: dict[str, ProgramSpec], caller: Caller, cgroup: int, pairs: Map, bpffs: Path
) -> None:
    """Another program takes the place of the first; the link's id stays, also when it is opened by its pin."""
    with Program.load(specs["refuse"], {}) as first, attach_cgroup(first, cgroup) as link:
        link.pin(bpffs / "link")
        number = link.info().id
    assert caller.connect()[0] == str(errno.EPERM)
    pairs.update(KEY, value())
    with Program.load(specs["accept"], {"pairs": pairs}) as second:
        with Link.open(bpffs / "link") as again:
            again.update(second)
            assert again.info().id == number
            assert again.info().program_id == second.info().id
        assert caller.connect()[0] == "connected"
    assert pairs.lookup(KEY) == value(1)
    (bpffs / "link").unlink()
    assert detached(caller, pairs)


def detached(caller: Caller, pairs: Map) -> bool:
    """Whether connects soon go uncounted: the kernel lets go of an unpinned link in a worker of its own."""
    for _ in range(100):
        pairs.update(KEY, value())
        caller.connect()
        if pairs.lookup(KEY) == value():
            return True
        time.sleep(0.05)
    return False


def test_two_programs_on_one_cgroup(specs: dict[str, ProgramSpec], caller: Caller, cgroup: int, pairs: Map) -> None:
    """Links stand beside each other: one that refuses is enough."""
    pairs.update(KEY, value())
    with Program.load(specs["accept"], {"pairs": pairs}) as one, Program.load(specs["refuse"], {}) as two:
        with attach_cgroup(one, cgroup), attach_cgroup(two, cgroup):
            assert caller.connect()[0] == str(errno.EPERM)
        with attach_cgroup(one, cgroup):
            assert caller.connect()[0] == "connected"


def test_a_program_of_another_kind(specs: dict[str, ProgramSpec], cgroup: int) -> None:
    """A link takes no program of another kind, and a cgroup none for sockets' messages: each is one line."""
    with Program.load(specs["refuse"], {}) as program, attach_cgroup(program, cgroup) as link:
        with (
            Program.load(specs["events"], {}) as other,
            pytest.raises(KernelError, match=r"^cannot replace the attached"),
        ):
            link.update(other)
        with (
            Program.load(specs["message"], {}) as other,
            pytest.raises(KernelError, match=r"^cannot attach program message"),
        ):
            attach_cgroup(other, cgroup)


def test_attaching_to_what_is_no_cgroup(specs: dict[str, ProgramSpec], tmp_path: Path) -> None:
    """A directory that is no cgroup is refused by one line."""
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with (
            Program.load(specs["refuse"], {}) as program,
            pytest.raises(KernelError, match=r"^cannot attach program refuse"),
        ):
            attach_cgroup(program, fd)
    finally:
        os.close(fd)


def test_a_program_on_a_map_of_sockets(specs: dict[str, ProgramSpec]) -> None:
    """An sk_msg program is attached to a SOCKHASH, by a link where the kernel has one."""
    with (
        Map.create(SOCKETS.spec("sockets")) as sockets,
        Program.load(specs["message"], {}) as program,
        attach_sockmap(program, sockets) as attached,
    ):
        if isinstance(attached, Link):
            assert attached.info().target == sockets.info().id
            assert attached.info().program_id == program.info().id
        else:
            assert not features.SOCKMAP_LINK.supported()


# --- descriptors ------------------------------------------------------------------------------------------------------


def open_descriptors() -> set[str]:
    """The numbers of this process's open descriptors."""
    return set(os.listdir("/proc/self/fd"))


def test_no_descriptor_is_left(specs: dict[str, ProgramSpec], cgroup: int, bpffs: Path) -> None:
    """Success and failure of every operation leave as many descriptors as there were."""
    gc.collect()
    before = open_descriptors()
    with Map.create(HASH.spec("pairs")) as made, Program.load(specs["accept"], {"pairs": made}) as program:
        made.pin(bpffs / "pairs")
        with attach_cgroup(program, cgroup) as link, Map.open(bpffs / "pairs", HASH.spec("pairs")):
            link.info()
        for failing in (
            lambda: Program.load(specs["rejected"], {}),
            lambda: Program.load(specs["accept"], {}),
            lambda: Map.open(bpffs / "pairs", ARRAY.spec("pairs")),
            lambda: Map.create(HASH.spec("pairs", max_entries=0)),
            lambda: made.pin(bpffs / "pairs"),
        ):
            with pytest.raises(BpfError):
                failing()
    assert open_descriptors() == before


def test_ownership_of_a_descriptor() -> None:
    """Closing twice is nothing; a closed or given-away descriptor cannot be used; nobody else closes a given one."""
    made = Map.create(HASH.spec("pairs"))
    fd = made.release()
    made.close()
    os.fstat(fd)
    os.close(fd)
    with pytest.raises(ValueError, match=r"^Map is closed$"):
        made.lookup(KEY)
    other = Map.create(HASH.spec("pairs"))
    number = other.fileno()
    other.close()
    other.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(number)


def test_a_forgotten_object_closes_its_descriptor() -> None:
    """An object that nobody holds any more closes what it owns."""
    number = Map.create(HASH.spec("pairs")).fileno()
    gc.collect()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(number)


# --- without privilege ------------------------------------------------------------------------------------------------

UNPRIVILEGED = """
import os, sys
sys.path[:0] = {path!r}
from pybpfasm import HashMap, Struct, u32, u64, connect4, SockAddr
from pybpfasm.errors import KernelError
from pybpfasm.isa import exit_program, mov_imm
from pybpfasm.kernel import sys as kernel
from pybpfasm.kernel.maps import Map
from pybpfasm.kernel.programs import Program
from pybpfasm.spec import ProgramSpec
from pybpfasm.uapi import AttachType, ProgramType

class Pair(Struct):
    one: u64

pairs = HashMap[u32, Pair](max_entries=1).spec("pairs")
spec = ProgramSpec("accept", ProgramType.CGROUP_SOCK_ADDR, AttachType.CGROUP_INET4_CONNECT, "bpf_sock_addr",
                   (mov_imm(0, 1), exit_program()), {{}})
Map.create(pairs).close()  # parts are loaded when first used, and the user below may not read them
Program.load(spec, {{}}).close()
os.setgroups([])
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)
for attempt in (lambda: Map.create(pairs), lambda: Program.load(spec, {{}}), lambda: kernel.mount("bpf", "/tmp", "bpf"),
                lambda: kernel.unshare(kernel.CLONE_NEWNET)):
    try:
        attempt()
        print("done")
    except KernelError as error:
        print(error)
"""


def test_without_privilege() -> None:
    """A process without capabilities is told in one line each what it could not do and what it lacks."""
    source = UNPRIVILEGED.format(path=sys.path)
    found = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    assert found.stderr == ""
    bpf, admin = "it needs root, or CAP_BPF and CAP_NET_ADMIN (EPERM)", "it needs root, or CAP_SYS_ADMIN (EPERM)"
    assert found.stdout.splitlines() == [
        f"cannot load the types of map pairs (BTF): {bpf}",
        f"cannot load the source lines of program accept (BTF): {bpf}",
        f"cannot mount bpf on /tmp: {admin}",
        f"cannot create a namespace: {admin}",
    ]
