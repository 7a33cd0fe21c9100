"""Whatever instructions a program has, it ends with a number or a SimError."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shapes import a_map

from pybpfasm import isa, sim
from pybpfasm.isa import Alu, Instruction
from pybpfasm.isa.opcodes import LD_IMM64
from pybpfasm.isa.validity import FIELDS, UNKNOWN, problem
from pybpfasm.sim.helpers import HELPERS
from pybpfasm.uapi import Helper, MapType
from pybpfasm.uapi.prototypes import Parameter, prototype

END = (isa.mov_imm(0, 0), isa.exit_program())


def check_one_line(error: sim.SimError) -> None:
    """An error's text is one line."""
    assert "\n" not in str(error)


@st.composite
def _instructions(draw: st.DrawFn) -> Instruction:
    opcodes = [opcode for opcode, fields in enumerate(FIELDS) if fields != UNKNOWN]
    chance = random.Random(draw(st.integers(0, 1 << 32)))  # noqa: S311 - tests need no secrets
    while True:
        opcode = chance.choice(opcodes)
        imm = chance.choice((0, 1, 8, 16, 32, 64, -1, 0xE1, 0xF1, chance.randrange(220), chance.getrandbits(31)))
        if opcode == LD_IMM64:
            imm = abs(imm)
        fields = (
            opcode,
            chance.randrange(11) if chance.random() < 0.8 else 0,
            chance.choice((0, 1, 2, chance.randrange(11))),
            chance.choice((0, 1, 2, -8, -16, 8, 16, chance.randrange(-200, 200))),
            imm,
        )
        for candidate in (
            fields,
            (opcode, fields[1], fields[2], 0, imm),
            (opcode, fields[1], 0, 0, imm),
            (opcode, 0, 0, 0, imm),
        ):
            if problem(*candidate) is None:
                return Instruction(*candidate)


_START = [
    isa.mov(6, 1), isa.mov(7, 10), isa.alu_imm(Alu.ADD, 7, -16), isa.store_imm(8, 10, -8, 0),
    isa.store_imm(8, 10, -16, 5), isa.mov_imm(0, 0), isa.mov(8, 2), isa.mov_imm(9, 3), isa.mov(3, 7),
    isa.mov_imm(4, 8), isa.mov(5, 7), isa.mov(2, 7),
]  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.lists(_instructions(), max_size=25), st.sampled_from([None, "skb", "xdp", "sock_ops"]), st.booleans())
def test_any_instructions_end_in_a_result_or_a_simerror(
    body: list[Instruction], context: str | None, traced: bool
) -> None:
    """Whatever decode() can give ends, with a number or a SimError and nothing else."""
    contexts = {"skb": sim.SkBuff(packet=bytes(64)), "xdp": sim.Xdp(packet=bytes(64)), "sock_ops": sim.SockOps()}
    program = [*_START, *body, isa.exit_program()]
    assert isa.decode(isa.encode(program)) == program
    try:
        if context is None:
            result = sim.run(program, mem=bytes(16), step_limit=2000, trace=traced)
        else:
            result = sim.run(program, contexts[context], step_limit=2000, trace=traced)
    except sim.SimError as error:
        check_one_line(error)
    else:
        assert 0 <= result.ret < 1 << 64


# What a parameter is given most of the time, by its name or its type.
CONTEXT_NAMES = frozenset(["ctx", "skb", "skops", "xdp_md", "msg", "reuse", "bpf_socket", "regs", "bpf_sock"])
MAP_NAMES = frozenset(("ringbuf", "map"))


def _argument(chance: random.Random, register: int, parameter: Parameter) -> list[Instruction]:
    if chance.random() < 0.15:
        return [isa.load_imm64(register, chance.choice([0, 1, (1 << 64) - 1, chance.getrandbits(64)]))]
    if parameter.type == "struct bpf_map *" or parameter.name in MAP_NAMES:
        return [isa.load_map(register, "m")]
    if parameter.name in CONTEXT_NAMES:
        return [isa.mov(register, 6)]
    if parameter.type.endswith("*"):
        return (
            [isa.mov(register, 7), isa.alu_imm(Alu.ADD, register, -8)]
            if chance.random() < 0.5
            else [isa.mov(register, 8)]
        )
    return [isa.load_imm64(register, chance.choice([0, 0, 1, 2, 4, 8, 14, 16, 64, 1 << 31]))]


CONTEXTS = (
    lambda: sim.SkBuff(packet=bytes(40), linear=20),
    lambda: sim.Xdp(packet=bytes(40)),
    lambda: sim.SockOps(op=15, skb_data=bytes(range(40))),
    lambda: sim.SkMsg(data=bytes(9)),
    lambda: sim.Arguments([1, b"two"]),
    lambda: sim.Sysctl(write=1),
)


@pytest.mark.parametrize("helper", sorted(HELPERS), ids=lambda helper: helper.name.lower())
def test_helpers_survive_wild_arguments(helper: Helper) -> None:
    """A helper that gets pointers and numbers of all kinds gives a number or a SimError, whatever map and context."""
    chance = random.Random(helper)  # noqa: S311 - tests need no secrets
    kinds = [MapType.HASH, MapType.ARRAY, MapType.SOCKMAP, MapType.RINGBUF, MapType.SK_STORAGE, MapType.LPM_TRIE]
    for context in CONTEXTS:
        for kind in kinds:
            arguments = [
                _argument(chance, register, parameter)
                for register, parameter in enumerate(prototype(helper).parameters, start=1)
            ]
            program = [*_START, isa.mov(8, 7), *(each for part in arguments for each in part), isa.call(helper)]
            try:
                sim.run([*program, *END], context(), maps={"m": a_map(kind)}, step_limit=3000)
            except sim.SimError as error:
                check_one_line(error)
