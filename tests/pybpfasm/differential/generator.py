"""Random programs that the verifier mostly takes: arithmetic, memory, atomics, maps, branches, loops, calls, packets.

A program ends with r0 made of all that it has computed; the same number, 64 bits wide, is left in map `result`.
"""

import random
from collections.abc import Callable, Iterable

from pybpfasm import btf, isa
from pybpfasm.isa import Alu, Atomic, Instruction, Jump, Label
from pybpfasm.spec import MapSpec, ProgramSpec
from pybpfasm.uapi import AttachType, Helper, MapType, ProgramType

PACKET = bytes(range(1, 101))

U32 = btf.Int("unsigned int", 4)
VALUE_BYTES = 64
BYTES = btf.Array(btf.Int("unsigned char", 1), VALUE_BYTES)
MAPS = {
    "result": MapSpec("result", MapType.ARRAY, U32, BYTES, 1),
    "slots": MapSpec("slots", MapType.ARRAY, U32, BYTES, 4),
    "cell": MapSpec("cell", MapType.ARRAY, U32, BYTES, 1),
    "table": MapSpec("table", MapType.HASH, U32, BYTES, 5),
}

_FRAME = 10
_CONTEXT = 6
_COUNTER = 9
_CLOBBERED = (1, 2, 3, 4, 5)
_WRITABLE = (0, 1, 2, 3, 4, 5, 7, 8)
# The stack: eight double words of numbers; below them, a key.
_WORDS = range(-64, 0, 8)
_KEY = -72

_NUMBERS = (
    0,
    1,
    2,
    3,
    7,
    8,
    31,
    32,
    63,
    64,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0x8000,
    0xFFFF,
    0x7FFFFFFF,
    -1,
    -2,
    -128,
    -0x80000000,
)
_PLAIN = (Alu.ADD, Alu.SUB, Alu.MUL, Alu.DIV, Alu.OR, Alu.AND, Alu.MOD, Alu.XOR, Alu.MOV)
_SHIFTS = (Alu.LSH, Alu.RSH, Alu.ARSH)
_CONDITIONS = [code for code in Jump if code not in (Jump.JA, Jump.CALL, Jump.EXIT, Jump.JCOND)]

Piece = Callable[[], None]


class Generator:
    """Writes one program, which the seed decides wholly."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 - reproducible numbers are wanted
        self._items: list[Instruction | Label] = []
        self._numbers: set[int] = set()  # registers that hold a number
        self._reserved: set[int] = set()
        self._labels = 0
        self._functions: list[str] = []
        # The kernel wants type information of programs that have both.
        self._packets = self._random.random() < 0.5

    def program(self, length: int = 25) -> ProgramSpec:
        """A program of about `length` pieces."""
        self._emit(isa.mov(_CONTEXT, 1))
        for word in _WORDS:
            self._emit(isa.store_imm(8, _FRAME, word, self._number()))
        self._emit(isa.store_imm(8, _FRAME, _KEY, 0))
        for register in (*_WRITABLE, _COUNTER):
            self._fresh(register)
        self._pieces(length, self._choices())
        self._finish()
        for name in self._functions:
            self._function(name)
        instructions = tuple(isa.resolve_labels(self._items))
        return ProgramSpec("random", ProgramType.SCHED_CLS, AttachType(0), "__sk_buff", instructions, MAPS)

    # --- pieces -------------------------------------------------------------------------------------------------------

    def _choices(self) -> list[tuple[int, Piece]]:
        """What a program is made of, with weights."""
        return [
            (8, self._arithmetic),
            (8, self._arithmetic_immediate),
            (3, self._unary),
            (3, self._signed_move),
            (2, self._wide_immediate),
            (6, self._stack_access),
            (4, self._atomic),
            (2, self._ordered),
            (4, self._map_value),
            (3, self._map_element),
            (3, self._table),
            (2, self._context_field),
            (6, self._branch),
            (2, self._loop),
            (1, self._long_jump),
            (2, self._packet if self._packets else self._call),
        ]

    def _pieces(self, count: int, choices: list[tuple[int, Piece]]) -> None:
        weights, pieces = zip(*choices, strict=True)
        for piece in self._random.choices(pieces, weights, k=count):
            piece()

    def _arithmetic(self) -> None:
        code = self._random.choice((*_PLAIN, *_SHIFTS))
        bits = self._random.choice((32, 64))
        signed = code in (Alu.DIV, Alu.MOD) and self._random.random() < 0.5
        self._emit(isa.alu(code, self._target(), self._source(), bits=bits, signed=signed))

    def _arithmetic_immediate(self) -> None:
        code = self._random.choice((*_PLAIN, *_SHIFTS))
        bits = self._random.choice((32, 64))
        signed = code in (Alu.DIV, Alu.MOD) and self._random.random() < 0.5
        number = self._random.randrange(bits) if code in _SHIFTS else self._number()
        if code in (Alu.DIV, Alu.MOD):
            number = number or 5
        self._emit(isa.alu_imm(code, self._target(), number, bits=bits, signed=signed))

    def _unary(self) -> None:
        register, bits = self._target(), self._random.choice((16, 32, 64))
        swap = self._random.choice((isa.to_big_endian, isa.to_little_endian, isa.byte_swap))
        self._emit(self._random.choice((swap(register, bits), isa.neg(register), isa.neg(register, bits=32))))

    def _signed_move(self) -> None:
        bits = self._random.choice((32, 64))
        width = self._random.choice((8, 16) if bits == 32 else (8, 16, 32))
        self._emit(isa.mov_signed(self._target(), self._source(), width, bits=bits))

    def _wide_immediate(self) -> None:
        self._emit(isa.load_imm64(self._target(), self._random.getrandbits(64)))

    def _stack_access(self) -> None:
        size = self._random.choice((1, 2, 4, 8))
        at = self._random.choice(_WORDS) + self._random.randrange(0, 8, size)
        self._access(_FRAME, at, size)

    def _access(self, base: int, at: int, size: int) -> None:
        ways = [
            lambda: isa.load(size, self._target(base), base, at),
            lambda: isa.store(size, base, at, self._source(base)),
            lambda: isa.store_imm(size, base, at, self._number()),
        ]
        if size != 8:
            ways.append(lambda: isa.load_signed(size, self._target(base), base, at))
        self._emit(self._random.choice(ways)())

    def _atomic(self) -> None:
        size = self._random.choice((4, 8))
        at = self._random.choice(_WORDS) + self._random.randrange(0, 8, size)
        self._atomic_at(_FRAME, at, size)

    def _atomic_at(self, base: int, at: int, size: int) -> None:
        source = self._target(base)
        code = self._random.choice((Atomic.ADD, Atomic.OR, Atomic.AND, Atomic.XOR))
        plain = isa.atomic(code, size, base, at, source, fetch=self._random.random() < 0.6)
        others = [isa.exchange(size, base, at, source)]
        if base != 0 and 0 in self._numbers:
            others.append(isa.compare_exchange(size, base, at, source))
        self._emit(self._random.choice((plain, plain, *others)))

    def _ordered(self) -> None:
        size = self._random.choice((1, 2, 4, 8))
        at = self._random.choice(_WORDS) + self._random.randrange(0, 8, size)
        if self._random.random() < 0.5:
            self._emit(isa.load_acquire(size, self._target(), _FRAME, at))
        else:
            self._emit(isa.store_release(size, _FRAME, at, self._source()))

    def _map_value(self) -> None:
        """A value's address as an immediate, and an access or two."""
        start = self._random.randrange(0, VALUE_BYTES - 16, 8)
        self._emit(isa.load_map_value(1, "cell", start))
        self._numbers.discard(1)
        self._memory(1, 16)
        self._fresh(1)

    def _memory(self, base: int, size: int) -> None:
        for _ in range(self._random.randrange(1, 4)):
            width = self._random.choice((1, 2, 4, 8))
            at = self._random.randrange(0, size, width)
            if width >= 4 and self._random.random() < 0.4:
                self._atomic_at(base, at, width)
            else:
                self._access(base, at, width)

    def _map_element(self) -> None:
        """A look-up, and accesses where it found something."""
        self._key(self._random.randrange(6))
        self._map_call(self._random.choice(("slots", "table")), Helper.MAP_LOOKUP_ELEM)
        nothing = self._label()
        self._numbers.discard(0)
        self._emit(isa.jump_if_imm(Jump.JEQ, 0, 0, nothing))
        before = set(self._numbers)
        self._memory(0, VALUE_BYTES)
        self._emit(Label(nothing))
        self._numbers &= before
        self._fresh(0)

    def _table(self) -> None:
        """An entry made or removed; the answer is kept."""
        self._key(self._random.randrange(8))
        if self._random.random() < 0.35:
            self._map_call("table", Helper.MAP_DELETE_ELEM)
        else:
            self._map_call("table", Helper.MAP_UPDATE_ELEM, value=True)
        self._numbers.add(0)

    def _key(self, number: int) -> None:
        self._emit(isa.store_imm(4, _FRAME, _KEY, number))

    def _map_call(self, name: str, helper: Helper, *, value: bool = False) -> None:
        self._emit(isa.load_map(1, name))
        self._emit(isa.mov(2, _FRAME), isa.alu_imm(Alu.ADD, 2, _KEY))
        if value:
            self._emit(isa.mov(3, _FRAME), isa.alu_imm(Alu.ADD, 3, -64))
            self._emit(isa.mov_imm(4, self._random.choice((0, 0, 0, 1, 2))))
        self._emit(isa.call(helper))
        self._numbers -= set(_CLOBBERED)

    def _context_field(self) -> None:
        """Fields of struct __sk_buff: len, mark, cb[0] and cb[3]."""
        field = self._random.choice((0, 8, 48, 60))
        if field == 0 or self._random.random() < 0.5:
            self._emit(isa.load(4, self._target(), _CONTEXT, field))
        else:
            self._emit(isa.store(4, _CONTEXT, field, self._source()))

    def _packet(self) -> None:
        """A load of the packet that may miss it, which ends the program with 0."""
        size = self._random.choice((1, 2, 4))
        if self._random.random() < 0.5:
            self._emit(isa.load_packet(size, self._random.choice((0, 3, 14, 50, 96, 99))))
        else:
            register = self._target()
            self._emit(isa.alu_imm(Alu.AND, register, 0x3F), isa.load_packet_indirect(size, register, 4))
        self._numbers -= set(_CLOBBERED)
        self._numbers.add(0)

    def _branch(self) -> None:
        after, other = self._label(), self._label()
        before = set(self._numbers)
        self._emit(self._condition(other))
        self._inner()
        left = set(self._numbers)
        if self._random.random() < 0.4:
            self._emit(isa.jump(after), Label(other))
            self._numbers = set(before)
            self._inner()
            self._emit(Label(after))
        else:
            self._emit(Label(other))
            self._numbers = set(before)
        self._numbers &= left

    def _condition(self, label: str) -> Instruction:
        code, bits = self._random.choice(_CONDITIONS), self._random.choice((32, 64))
        if self._random.random() < 0.5:
            return isa.jump_if(code, self._source(), self._source(), label, bits=bits)
        return isa.jump_if_imm(code, self._source(), self._number(), label, bits=bits)

    def _inner(self) -> None:
        simple = [(weight, piece) for weight, piece in self._choices() if piece not in (self._branch, self._loop)]
        self._pieces(self._random.randrange(1, 5), simple)

    def _loop(self) -> None:
        if self._reserved:
            return
        again, rounds = self._label(), self._random.randrange(2, 6)
        self._emit(isa.mov_imm(_COUNTER, rounds))
        # What the body clobbers would be missing when it is run again.
        self._numbers -= set(_CLOBBERED)
        self._reserved.add(_COUNTER)
        self._emit(Label(again))
        self._pieces(3, [(2, self._stack_access), (3, self._arithmetic_immediate), (2, self._atomic)])
        self._emit(isa.alu_imm(Alu.SUB, _COUNTER, 1), isa.jump_if_imm(Jump.JNE, _COUNTER, 0, again))
        self._reserved.clear()

    def _long_jump(self) -> None:
        label = self._label()
        self._emit(isa.jump_long(label), Label(label))

    def _call(self) -> None:
        """Call a function of the program's own with two numbers."""
        for register in (1, 2):
            if register not in self._numbers:
                self._fresh(register)
        if not self._functions or self._random.random() < 0.5:
            name = f"function{len(self._functions)}"
            self._functions.append(name)
        else:
            name = self._random.choice(self._functions)
        self._emit(isa.call_function(name))
        self._numbers -= set(_CLOBBERED)
        self._numbers.add(0)

    def _function(self, name: str) -> None:
        self._emit(Label(name))
        self._numbers, self._reserved = {1, 2}, set()
        for register in (0, 3, 7):
            self._fresh(register)
        for word in _WORDS:
            self._emit(isa.store_imm(8, _FRAME, word, self._number()))
        self._pieces(5, [(3, self._arithmetic), (3, self._arithmetic_immediate), (2, self._stack_access)])
        self._emit(isa.mov(0, self._source()), isa.exit_program())

    def _finish(self) -> None:
        """Put all that was computed into one number."""
        for register in sorted(self._numbers - {7}):
            self._mix(register)
        for word in _WORDS:
            self._emit(isa.load(8, 1, _FRAME, word))
            self._mix(1)
        self._emit(isa.load_map_value(1, "result"), isa.store(8, 1, 0, 7), isa.mov(0, 7), isa.exit_program())

    def _mix(self, register: int) -> None:
        self._emit(isa.alu(Alu.XOR, 7, register), isa.alu_imm(Alu.MUL, 7, 0x1E3779B1), isa.mov(2, 7))
        self._emit(isa.alu_imm(Alu.RSH, 2, 29), isa.alu(Alu.XOR, 7, 2))

    # --- means --------------------------------------------------------------------------------------------------------

    def _emit(self, *items: Instruction | Label) -> None:
        self._items += items

    def _label(self) -> str:
        self._labels += 1
        return f"L{self._labels}"

    def _number(self) -> int:
        if self._random.random() < 0.7:
            return self._random.choice(_NUMBERS)
        return self._random.randrange(-(1 << 31), 1 << 31)

    def _fresh(self, register: int) -> None:
        self._emit(isa.mov_imm(register, self._number()))
        self._numbers.add(register)

    def _source(self, *but: int) -> int:
        """A register that holds a number."""
        return self._random.choice(sorted(self._numbers - set(but)))

    def _target(self, *but: int) -> int:
        """A register that holds a number and may be changed."""
        return self._random.choice(sorted(self._numbers - self._reserved - set(but)))


def programs(seeds: Iterable[int]) -> Iterable[ProgramSpec]:
    """A program for each seed."""
    return (Generator(seed).program() for seed in seeds)
