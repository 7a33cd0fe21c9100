"""What only the kernel can decide: each program runs there and in the interpreter, r0 and packet must be the same.

A program that the verifier refuses must end in the interpreter with an error.
"""

import os
import re
from collections.abc import Iterator

import attrs
import pytest
from shapes import bytes_at, call, context_argument, program, shape, stack_at

from pybpfasm import btf, isa, sim
from pybpfasm.isa import Alu, Atomic, Instruction, Jump
from pybpfasm.kernel import Map, Program, sys
from pybpfasm.kernel.runs import run_program
from pybpfasm.kernel.verifier import VerifierError
from pybpfasm.sim.contexts.fields import Field
from pybpfasm.spec import MapSpec, ProgramSpec, Untyped
from pybpfasm.uapi import AdjustRoomFlag, AttachType, Command, Helper, MapCreateFlag, MapType, ProgramType

KERNEL = (6, 18)  # whose answers these are; some helpers answered otherwise before
REFUSED = "refused"
Answer = tuple[int, bytes] | str

CTX = context_argument()
M32, M64 = (1 << 32) - 1, (1 << 64) - 1
ADDRESSES = bytes(6) + b"\x02\x02\x02\x02\x02\x02"
IP4 = ADDRESSES + bytes.fromhex("08004500003c00004000401100000a0000010a000002") + bytes(range(40))
IP6 = ADDRESSES + bytes.fromhex("86dd6000000000141140") + bytes(32) + bytes(range(40))
ARP = ADDRESSES + b"\x08\x06" + bytes(50)
PLAIN = bytes(range(128))


@pytest.fixture(autouse=True)
def _on_that_kernel() -> None:
    found = re.match(r"(\d+)\.(\d+)", os.uname().release)
    if found is None or (int(found[1]), int(found[2])) < KERNEL:
        pytest.skip(f"the answers are those of Linux {KERNEL[0]}.{KERNEL[1]}")
    if os.getuid() != 0:
        pytest.skip("needs root")


@attrs.frozen
class Case:
    """A program, what it is given, and what it is called in the list of tests."""

    name: str
    body: list[Instruction | isa.Label]
    map: MapSpec | None = None
    packet: bytes = PLAIN
    type: ProgramType = ProgramType.SCHED_CLS

    def spec(self) -> ProgramSpec:
        """The program."""
        attach = AttachType.XDP if self.type == ProgramType.XDP else AttachType(0)
        context = "xdp_md" if self.type == ProgramType.XDP else "__sk_buff"
        maps = {} if self.map is None else {self.map.name: self.map}
        return attrs.evolve(program(self.type, *self.body, attach=attach), context=context, maps=maps)


def in_kernel(case: Case, context: bytes = b"") -> Answer:
    """The low half of r0, and the packet afterwards."""
    spec = case.spec()
    maps = {name: Map.create(each) for name, each in spec.maps.items()}
    try:
        for each in maps.values():
            fill(each)
        with Program.load(spec, maps) as loaded:
            done = run_program(loaded, case.packet, context)
    except VerifierError:
        return REFUSED
    finally:
        for each in maps.values():
            each.close()
    return done.retval, done.data


def fill(map_: Map) -> None:
    """Give a map its contents, and keep user space from changing them."""
    if map_.spec.contents is not None:
        map_.update(bytes(4), map_.spec.contents)
        sys.bpf(Command.MAP_FREEZE, sys.new("map_elem", map_fd=map_.fd), "freeze a map")


def in_sim(case: Case) -> Answer:
    """The same of the interpreter; metadata is part of an XDP packet, as in a test run."""
    kind = sim.Xdp if case.type == ProgramType.XDP else sim.SkBuff
    try:
        result = sim.run(case.spec(), kind(packet=case.packet))
    except sim.SimError:
        return REFUSED
    ctx = result.ctx
    assert isinstance(ctx, sim.SkBuff | sim.Xdp)
    return result.ret & M32, (ctx.meta if isinstance(ctx, sim.Xdp) else b"") + ctx.packet


# --- maps -------------------------------------------------------------------------------------------------------------

THE_MAP = [isa.load_map(1, "m")]
BOTH = (isa.mov(7, 0), isa.load(8, 0, 10, -16), isa.alu_imm(Alu.MUL, 0, 3), isa.alu(Alu.ADD, 0, 7))
U32 = btf.Int("unsigned int", 4)
LOCK = btf.Struct("bpf_spin_lock", 4, (btf.Member("val", U32, 0),))
LOCKED = btf.Struct("locked", 8, (btf.Member("lock", LOCK, 0), btf.Member("number", U32, 4)))
UPDATED = (MapType.HASH, MapType.LRU_HASH, MapType.PERCPU_HASH, MapType.ARRAY, MapType.PERCPU_ARRAY, MapType.LPM_TRIE)


def update(flags: int, key: int = 0) -> list[Instruction]:
    """Update at a key of 8 bytes or less."""
    key_at = [isa.store_imm(8, 10, -8, key), *stack_at(2, 8)]
    return call(Helper.MAP_UPDATE_ELEM, THE_MAP, key_at, [isa.store_imm(8, 10, -16, 1), *stack_at(3, 16)], flags)


def updated(kind: MapType) -> MapSpec:
    """A map to update."""
    trie = kind == MapType.LPM_TRIE
    return shape(kind, 8 if trie else 4, flags=int(MapCreateFlag.NO_PREALLOC) if trie else 0)


def prefix(length: int) -> Case:
    """A look-up of a prefix in a trie that has the empty one."""
    again = (
        isa.store_imm(4, 10, -8, length),
        *THE_MAP,
        *stack_at(2, 8),
        isa.call(Helper.MAP_LOOKUP_ELEM),
        isa.jump_if_imm(Jump.JEQ, 0, 0, "nothing"),
        isa.load(8, 0, 0, 0),
        isa.Label("nothing"),
    )
    return Case(f"prefix of {length}", [*update(0)[:-1], *again, isa.exit_program()], updated(MapType.LPM_TRIE))


def reserve(size: int) -> Case:
    """A record of a ring of a page: 1 if there is one."""
    then = (
        isa.jump_if_imm(Jump.JEQ, 0, 0, "none"),
        isa.mov(1, 0),
        isa.mov_imm(2, 0),
        isa.call(Helper.RINGBUF_DISCARD),
        isa.mov_imm(0, 1),
        isa.Label("none"),
    )
    ring = shape(MapType.RINGBUF, 0, 0, 4096)
    return Case(f"record of {size}", call(Helper.RINGBUF_RESERVE, THE_MAP, size, 0, after=then), ring)


def map_cases() -> Iterator[Case]:
    """Queues, flags of updates, tries, rings."""
    for kind in (MapType.QUEUE, MapType.STACK):
        for helper in (Helper.MAP_POP_ELEM, Helper.MAP_PEEK_ELEM):
            name = f"{helper.name} of an empty {kind.name}"
            yield Case(name, call(helper, THE_MAP, stack_at(2, 16), after=BOTH), shape(kind, 0))
    for kind in UPDATED:
        for flags in (*range(9), 16, 1 << 32):
            for key in (0,) if kind == MapType.LPM_TRIE else (0, 9):
                yield Case(f"update {kind.name} {key} flags {flags:#x}", update(flags, key), updated(kind))
    for kind in (MapType.HASH, MapType.ARRAY):
        for flags in range(8):
            spec = attrs.evolve(shape(kind), key=U32, value=LOCKED)
            yield Case(f"update {kind.name} with a lock, flags {flags}", update(flags), spec)
    yield from (prefix(length) for length in (0, 8, 32, 33, 64, 1000))
    yield from (reserve(size) for size in (8, 4072, 4079, 4080, 4081, 4084, 4088, 4089))


# --- checksums and numbers --------------------------------------------------------------------------------------------


def difference(old: str, new: str, seed: int) -> Case:
    """csum_diff of hexadecimal bytes."""
    sides = [bytes.fromhex(each) for each in (old, new)]
    body = call(
        Helper.CSUM_DIFF,
        bytes_at(1, sides[0] or bytes(4), 32),
        len(sides[0]),
        bytes_at(3, sides[1] or bytes(4), 64),
        len(sides[1]),
        seed,
    )
    return Case(f"csum_diff {old or '-'} {new or '-'} {seed:#x}", body)


def long_difference() -> Case:
    """csum_diff of more bytes than a stack has."""
    found = (
        isa.jump_if_imm(Jump.JEQ, 0, 0, "end"),
        isa.store_imm(8, 0, 0, 5),
        isa.store_imm(8, 0, 1016, 0x1234567),
        isa.mov(3, 0),
        isa.mov_imm(1, 0),
        isa.mov_imm(2, 0),
        isa.mov_imm(4, 1024),
        isa.mov_imm(5, 0),
        isa.call(Helper.CSUM_DIFF),
        isa.Label("end"),
    )
    key_at = [isa.store_imm(4, 10, -4, 0), *stack_at(2, 4)]
    body = call(Helper.MAP_LOOKUP_ELEM, THE_MAP, key_at, after=found)
    return Case("csum_diff of 1024", body, shape(MapType.ARRAY, 4, 1024, 1))


def number(helper: Helper, text: bytes, base: int) -> Case:
    """The answer and the low bits of the number."""
    then = (
        isa.load(8, 7, 10, -8),
        isa.alu_imm(Alu.LSH, 0, 16),
        isa.alu_imm(Alu.AND, 7, 0xFFFF),
        isa.alu(Alu.OR, 0, 7),
    )
    body = call(helper, bytes_at(1, text, 128), len(text), base, stack_at(4, 8), after=then)
    return Case(f"{helper.name} {text!r} base {base}", [isa.store_imm(8, 10, -8, 0x1111), *body])


NUMBERS: list[tuple[bytes, int]] = [
    (b"12", 0), (b"-12", 0), (b" \t-0x1f", 0), (b"0x", 0), (b"0xg", 0), (b"0xg", 16), (b"0X1f", 16), (b"1fg", 16),
    (b"08", 8), (b"08", 0), (b"-", 10), (b"+5", 10), (b"9223372036854775808", 0), (b"-9223372036854775808", 0),
    (b"-9223372036854775809", 0), (b"18446744073709551616", 0), (b"-99999999999999999999", 10), (b"   ", 0),
    (b"0" * 66 + b"1", 10), (b" " * 60 + b"12345678", 10), (b" " * 60 + b"-" + b"0" * 40 + b"12345678", 10),
    (b"5\x007", 10), (b"\xa05", 10), (b"\x0b\x0c\r5", 0), (b"\x855", 0), (b"5", 3), (b"5", 1 << 6), (b"\0", 10),
]  # fmt: skip


def number_cases() -> Iterator[Case]:
    """Checksums, and numbers from text."""
    for old in ("", "00000000", "ffffffff", "fffffffe00000001", "12345678"):
        for new in ("", "00000000", "ffffffff", "8765432100ff00ff"):
            yield from (difference(old, new, seed) for seed in (0, 1, 0xFFFF, M32))
    yield long_difference()
    for helper in (Helper.L3_CSUM_REPLACE, Helper.L4_CSUM_REPLACE):
        for offset in (0, 1, 126, 127, 65534, 65536, M32):
            for flags in (0, 2, 3, 4, 8, 0x10, 0x22, 0x28, 0x100):
                body = call(helper, CTX, offset, 5, 7, flags)
                yield Case(f"{helper.name} at {offset} flags {flags:#x}", body)
        yield Case(f"{helper.name} of zero", call(helper, CTX, 6, 5, 7, 0x28), packet=bytes(64))
    for helper in (Helper.STRTOL, Helper.STRTOUL):
        yield from (number(helper, text, base) for text, base in NUMBERS)


# --- packets ----------------------------------------------------------------------------------------------------------


def on_packet(helper: Helper, *arguments: int, packet: bytes = IP4, kind: ProgramType = ProgramType.SCHED_CLS) -> Case:
    """A helper of the context and numbers."""
    body = call(helper, CTX, *(each & M64 for each in arguments))
    version = {IP4: "IPv4", IP6: "IPv6", ARP: "ARP"}.get(packet, "?")
    return Case(f"{helper.name}{arguments} {version}", body, packet=packet, type=kind)


def after_a_longer_head(helper: Helper, *arguments: int | list[Instruction]) -> Case:
    """A call once the packet has 4 bytes more before it."""
    first = call(Helper.SKB_CHANGE_HEAD, CTX, 4, 0)[:-1]
    second = call(helper, CTX, *arguments)[1:]
    return Case(f"{helper.name} after skb_change_head", [isa.store_imm(8, 10, -8, 0), *first, *second], packet=IP4)


def room_cases() -> Iterator[Case]:
    """skb_adjust_room by protocol, distance, mode and flags."""
    for packet in (IP4, IP6, ARP):
        for distance in (0, 4, 20, -4, -20, -100, 4096, -4096, -4095):
            for mode in (0, 1, 2):
                yield on_packet(Helper.SKB_ADJUST_ROOM, distance, mode, 0, packet=packet)
    known = [int(flag) for flag in AdjustRoomFlag]
    ethernet = 14 << 56
    more = (6, 0x18, 0x1A, 0x180, 0x200, 0x42, 0x42 | ethernet, ethernet, 2 | ethernet, 2 | 21 << 56, 0x82)
    for flags in (*known, *more):
        for distance in (20, -20, -4):
            for packet in (IP4, IP6):
                yield on_packet(Helper.SKB_ADJUST_ROOM, distance, 1, flags, packet=packet)


def packet_cases() -> Iterator[Case]:
    """Sizes and bytes of packets."""
    for size in (13, 14, 100, 16065, 65535, 65536):
        yield on_packet(Helper.SKB_CHANGE_TAIL, size, 0)
    for size in (0, 4, 250, 16064 - len(IP4) + 1, 65000, M32):
        yield on_packet(Helper.SKB_CHANGE_HEAD, size, 0)
    yield after_a_longer_head(Helper.SKB_CHANGE_TAIL, 17, 0)
    yield after_a_longer_head(Helper.SKB_LOAD_BYTES_RELATIVE, 0, stack_at(3, 8), 4, 1)
    yield on_packet(Helper.SET_HASH_INVALID)
    yield from room_cases()
    yield from xdp_cases()


def xdp_cases() -> Iterator[Case]:
    """Begin, end, metadata and bytes of XDP's packets."""
    moves = {
        Helper.XDP_ADJUST_HEAD: (-4, -216, -217, -256, -257, 50, 100),
        Helper.XDP_ADJUST_TAIL: (4, -4, -100, 3520, 3521 - len(PLAIN)),
        Helper.XDP_ADJUST_META: (-4, -3, -32, -36, -212, -216, -220, -252, -256, 4),
    }
    for helper, distances in moves.items():
        for distance in distances:
            yield on_packet(helper, distance, packet=PLAIN, kind=ProgramType.XDP)
    for helper in (Helper.XDP_LOAD_BYTES, Helper.XDP_STORE_BYTES):
        for offset in (0, 120, 121, 65535, 65536, 70000, M32):
            body = [isa.store_imm(8, 10, -8, 5), *call(helper, CTX, offset, stack_at(3, 8), 8)]
            yield Case(f"{helper.name} at {offset}", body, type=ProgramType.XDP)


# --- text -------------------------------------------------------------------------------------------------------------

FORMATS: list[tuple[bytes, tuple[int, ...]]] = [
    (b"%d %u|%5d|%-5d|%05d|%+d|% d|%+05d|%-05d", (-5, -5, 5, 5, 5, 5, 5, 5, 5)),
    (b"%+u|%+x|% x|% u|%+05X|%-5u|", (7, 7, 7, 7, 7, 7)), (b"%lld %lu %lx %li", (-5, -5, -5, 3)),
    (b"%c%c|%5c|%-5c|%05c|", (65, 66, 67, 68, 69)), (b"%%|%%", ()), (b"%px|%5px|%-20px|%020px|", (1, 18, 18, 18)),
    (b"%-px|%+px|%pxabc|", (18, 18, 18)), (b"%pB|%pS|%ps", (0, 0, 0)), (b"%20pS|%-20ps|%20pB|", (0, 0, 0)),
    (b"%pK|%p|%p", (0, 0, 0)), (b"%pI4|%20pI4|%pi4", (0, 0, 0)), (b"%pI6|%pi6", (0, 0)),
    (b"%pI4abc|", (0,)), (b"%s|%10s|%pks|%9pks", (0, 0, 0, 0)), (b"a\tb\x0b\x0c\r\n\x80\xa0\xff", ()),
    (b"%#x", (5,)), (b"%#05x|", (7,)), (b"%5%", ()), (b"%5%", (1,)), (b"%pz", (1,)), (b"%p_", (0,)), (b"%p\xe9", (0,)),
    (b"\x01", ()), (b"\x1b", ()), (b"\x7f", ()), (b"%h", (1,)), (b"%hd", (1,)), (b"%o", (8,)), (b"%lc", (65,)),
    (b"%*d", (1, 2)), (b"%.3d", (1,)), (b"%l", (0,)), (b"%lllx", (0,)), (b"%", (1,)), (b"%d", ()), (b"%sx", (0,)),
    (b"%pksx", (0,)), (b"%pi", (0,)), (b"%pI5", (0,)), (b"%pkx", (0,)), (b"%05-d", (1,)), (b"%d", (1, 2)),
    (b"%1000d", (5,)),
]  # fmt: skip
_TEXT_BYTES = 72


def text_case(text: bytes, arguments: tuple[int, ...], size: int = _TEXT_BYTES) -> Case:
    """snprintf: its answer, mixed with all that it wrote."""
    contents = text + b"\0" + bytes(-(len(text) + 1) % 8)
    format_ = MapSpec(
        "f", MapType.ARRAY, Untyped(4), Untyped(len(contents)), 1, int(MapCreateFlag.RDONLY_PROG), contents=contents
    )
    numbers: list[Instruction] = [isa.store_imm(8, 10, -at, 0) for at in range(8, 80, 8)]
    for index, each in enumerate(arguments):
        numbers += [isa.load_imm64(0, each & M64), isa.store(8, 10, -160 + 8 * index, 0)]
    mixed = [(isa.alu_imm(Alu.MUL, 0, 31), isa.load(8, 1, 10, -at), isa.alu(Alu.XOR, 0, 1)) for at in range(8, 80, 8)]
    folded = (isa.mov(1, 0), isa.alu_imm(Alu.RSH, 1, 32), isa.alu(Alu.XOR, 0, 1))
    after = (*(each for group in mixed for each in group), *folded)
    body = call(
        Helper.SNPRINTF,
        [*numbers, *stack_at(1, _TEXT_BYTES)],
        size,
        [isa.load_map_value(3, "f", 0)],
        stack_at(4, 160),
        8 * len(arguments),
        after=after,
    )
    return Case(f"snprintf {text!r} {arguments} {size}", body, format_)


def text_cases() -> Iterator[Case]:
    """Formats, and buffers that are short."""
    yield from (text_case(text, arguments) for text, arguments in FORMATS)
    yield from (text_case(b"hello %d", (5,), size) for size in (1, 3, 8))


# --- memory -----------------------------------------------------------------------------------------------------------

ATOMICS: dict[str, Instruction] = {
    "add of 8 at -12": isa.atomic(Atomic.ADD, 8, 10, -12, 1),
    "add of 4 at -14": isa.atomic(Atomic.ADD, 4, 10, -14, 1),
    "add of 4 at -12": isa.atomic(Atomic.ADD, 4, 10, -12, 1),
    "xchg of 8 at -12": isa.exchange(8, 10, -12, 1),
    "cmpxchg of 8 at -12": isa.compare_exchange(8, 10, -12, 1),
    "acquire of 8 at -12": isa.load_acquire(8, 1, 10, -12),
    "acquire of 2 at -13": isa.load_acquire(2, 1, 10, -13),
    "acquire of 2 at -14": isa.load_acquire(2, 1, 10, -14),
    "acquire of the context": isa.load_acquire(4, 1, 6, 0),
    "release of 8 at -12": isa.store_release(8, 10, -12, 1),
    "release of 8 at -16": isa.store_release(8, 10, -16, 1),
    "release into the context": isa.store_release(4, 6, 8, 1),
}


def memory_cases() -> Iterator[Case]:
    """Atomic operations that are not aligned, or in a context."""
    stored = [isa.mov(6, 1), isa.store_imm(8, 10, -8, 1), isa.store_imm(8, 10, -16, 2), isa.mov_imm(0, 1)]
    for name, instruction in ATOMICS.items():
        body = [*stored, isa.mov_imm(1, 5), instruction, isa.load(8, 1, 10, -16), isa.alu(Alu.ADD, 0, 1)]
        yield Case(name, [*body, isa.exit_program()])


CASES = [*map_cases(), *number_cases(), *packet_cases(), *text_cases(), *memory_cases()]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_answers_are_the_same(case: Case) -> None:
    """r0 and the packet, or a refusal by the verifier and an error here."""
    assert in_sim(case) == in_kernel(case)


# --- contexts ---------------------------------------------------------------------------------------------------------

ETHERNET = {
    "zeros": bytes(64),
    "IPv4": IP4,
    "broadcast IPv6": b"\xff" * 6 + IP6[6:],
    "multicast": b"\x01" + IP4[1:],
    "another's": b"\x02" + ARP[1:],
    "IPX": bytes(14) + b"\xff\xff" + bytes(60),
    "802.3": bytes(12) + b"\x05\xff" + bytes(60),
}
# A test run sees neither addresses nor sockets, and pointers differ.
NOT_COMPARED = {"data", "data_end", "data_meta", "sk", "flow_keys", "cb"}
SEEN = [
    field
    for field in sim.SkBuff.fields
    if field.name not in NOT_COMPARED | {"family", "remote_ip4", "local_ip4", "remote_ip6", "local_ip6"}
    and not field.name.endswith("_port")
]


@pytest.mark.parametrize("packet", ETHERNET.values(), ids=ETHERNET)
@pytest.mark.parametrize("field", SEEN, ids=lambda field: field.name)
def test_fields_are_those_of_a_test_run(field: Field, packet: bytes) -> None:
    """A `SkBuff` with nothing but a packet looks as one of a test run with nothing but a packet."""
    case = Case(field.name, [isa.load(field.width, 0, 1, field.offset), isa.exit_program()], packet=packet)
    assert in_sim(case) == in_kernel(case, context=bytes(sim.SkBuff.struct_size))
