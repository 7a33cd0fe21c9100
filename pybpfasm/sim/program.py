"""A program as the machine runs it."""

import attrs

from pybpfasm.isa import Instruction
from pybpfasm.sim.decode import Code, decode
from pybpfasm.sim.memory import ByteOrder
from pybpfasm.spec import ProgramSpec, SourceLine


@attrs.frozen(eq=False)
class Program:
    """A program: its name, instructions, closures, and where its instructions come from."""

    name: str
    instructions: tuple[Instruction, ...]
    code: Code
    lines: tuple[SourceLine, ...] = ()
    spec: ProgramSpec | None = None


def program_of(name: str, instructions: tuple[Instruction, ...], order: ByteOrder, spec: ProgramSpec | None) -> Program:
    """A program, decoded for a machine's byte order."""
    return Program(name, instructions, decode(instructions, order), spec.lines if spec is not None else (), spec)
