"""Programs from functions: each with the functions that it calls behind it, in the order in which libbpf puts them.

    section "xdp"            .text                     a program's instructions
    +-----------------+      +--------+--------+       +-----------------+--------+--------+
    | prog: call a    |  +   | a: ... | b: ... |   ->  | prog: call a    | a: ... | b: ... |
    +-----------------+      +--------+--------+       +-----------------+--------+--------+

A function is relocated once, and its calls are set in each program that it is in.
"""

from collections.abc import Iterator
from contextlib import suppress
from functools import cached_property

import attrs

from pybpfasm.btf import BtfError, CoreRelocation
from pybpfasm.interop.container import Relocation
from pybpfasm.interop.core import Resolver
from pybpfasm.interop.debug_info import DebugInfo
from pybpfasm.interop.error import ElfError
from pybpfasm.interop.functions import SLOT_BYTES, Code, Function, Place, programs
from pybpfasm.interop.layout import Layout
from pybpfasm.interop.relocate import function_target, relocated
from pybpfasm.isa import Instruction
from pybpfasm.isa.opcodes import LD_IMM64
from pybpfasm.spec import FunctionInfo, SourceLine

# All programs of an object together, with their lines: each has its own copy of what it calls.
_MOST_INSTRUCTIONS = 4_000_000


@attrs.frozen
class Part:
    """A function, relocated but for its references to other functions: index, slot and target of each."""

    function: Function
    instructions: tuple[Instruction, ...]
    references: tuple[tuple[int, int, Place], ...]
    lines: tuple[SourceLine, ...]
    type_id: int | None

    @property
    def slots(self) -> int:
        """How many slots it takes."""
        return self.function.size // SLOT_BYTES


@attrs.frozen
class Linked:
    """A program's instructions, and what is known of where they come from."""

    instructions: tuple[Instruction, ...]
    functions: tuple[FunctionInfo, ...]
    lines: tuple[SourceLine, ...]


class Linker:
    """Links the programs of an object. Raises `ElfError` naming the function."""

    def __init__(self, layout: Layout, debug_info: DebugInfo) -> None:
        self._layout = layout
        self._debug_info = debug_info
        self._resolver = Resolver(layout.btf, layout.target) if layout.btf is not None else None
        self._codes: dict[int, Code] = {}
        self._relocations: dict[int, dict[int, Relocation]] = {}
        self._parts: dict[Place, Part] = {}
        self._budget = _MOST_INSTRUCTIONS

    @cached_property
    def programs(self) -> tuple[Function, ...]:
        """The functions that are programs."""
        return programs(self._layout.functions, self._called_places)

    def _called_places(self) -> set[Place]:
        """The places that any instruction of the object refers to; a section that cannot be read refers to none."""
        found: set[Place] = set()
        for section_index in self._layout.code_sections:
            with suppress(ElfError):
                code = self._code(section_index)
                relocations = self._section_relocations(section_index)
                for instruction, slot in zip(code.instructions, code.starts, strict=True):
                    relocation = relocations.get(slot * SLOT_BYTES)
                    target = function_target(instruction, relocation, (section_index, slot), self._layout)
                    if target is not None:
                        found.add(target)
        return found

    def link(self, program: Function) -> Linked:
        """The program with what it calls."""
        parts = self._with_called(program)
        self._spend(sum(len(part.instructions) + len(part.lines) for part in parts))
        starts: dict[Place, int] = {}
        slot = 0
        for part in parts:
            starts[part.function.place] = slot
            slot += part.slots
        instructions: list[Instruction] = []
        for part in parts:
            instructions += _set_distances(part, starts)
        return Linked(tuple(instructions), _function_infos(parts, starts), _lines(parts, starts))

    def _spend(self, count: int) -> None:
        self._budget -= count
        if self._budget < 0:
            raise ElfError(f"the programs, with what they call, have more than {_MOST_INSTRUCTIONS} instructions")

    def _with_called(self, program: Function) -> list[Part]:
        """The parts, each once: the program, then what it calls, each followed by what is first called by it."""
        found: dict[Place, Part] = {}
        waiting: list[Iterator[Place]] = [iter((program.place,))]
        while waiting:
            place = next(waiting[-1], None)
            if place is None:
                waiting.pop()
            elif place not in found:
                part = found[place] = self._part(place)
                waiting.append(iter([target for _, _, target in part.references]))
        return list(found.values())

    def _part(self, place: Place) -> Part:
        if place not in self._parts:
            function = self._layout.function_at[place]
            try:
                self._parts[place] = self._relocate(function)
            except (ElfError, BtfError) as error:
                raise ElfError(f"{function}: {error}") from None
        return self._parts[place]

    def _relocate(self, function: Function) -> Part:
        code = self._code(function.section_index)
        indices = code.range(function.offset, function.size)
        self._spend(len(indices))
        relocations = self._section_relocations(function.section_index)
        by_kernel = {each.instruction_offset: each for each in self._debug_info.relocations(function)}
        instructions: list[Instruction] = []
        references: list[tuple[int, int, Place]] = []
        for index in indices:
            instruction, slot = code.instructions[index], code.starts[index]
            if slot * SLOT_BYTES in by_kernel:
                patched = self._resolved(instruction, by_kernel.pop(slot * SLOT_BYTES))
                instructions += patched
                continue
            relocation = relocations.get(slot * SLOT_BYTES)
            target = function_target(instruction, relocation, (function.section_index, slot), self._layout)
            if relocation is not None:
                instruction = relocated(instruction, relocation, self._layout)
            if target is not None:
                self._check_target(target, slot)
                references.append((len(instructions), slot - function.offset // SLOT_BYTES, target))
            instructions.append(instruction)
        if by_kernel:
            raise ElfError(f"a relocation for the kernel's types is at offset {min(by_kernel)}, within an instruction")
        lines = tuple(self._debug_info.lines(function))
        return Part(function, tuple(instructions), tuple(references), lines, self._debug_info.type_id(function))

    def _resolved(self, instruction: Instruction, relocation: CoreRelocation) -> tuple[Instruction, ...]:
        assert self._resolver is not None  # noqa: S101 - there are no such relocations without types
        try:
            return self._resolver.resolve(instruction, relocation)
        except ElfError as error:
            raise ElfError(f"offset {relocation.instruction_offset}: {error}") from None

    def _check_target(self, target: Place, slot: int) -> None:
        if target not in self._layout.function_at:
            section = self._layout.section_name(target[0])
            raise ElfError(
                f"offset {slot * SLOT_BYTES}: no function starts at offset {target[1]} of section {section!r}"
            )

    def _code(self, section_index: int) -> Code:
        if section_index not in self._codes:
            section = self._layout.file.sections[section_index]
            self._codes[section_index] = Code(section, self._layout.file)
        return self._codes[section_index]

    def _section_relocations(self, section_index: int) -> dict[int, Relocation]:
        if section_index not in self._relocations:
            found = self._layout.file.relocations(section_index)
            self._relocations[section_index] = {each.offset: each for each in found}
        return self._relocations[section_index]


def _set_distances(part: Part, starts: dict[Place, int]) -> list[Instruction]:
    """The part's instructions with the distances to the functions that they refer to, in slots from the next one."""
    instructions = list(part.instructions)
    own = starts[part.function.place]
    for index, slot, target in part.references:
        distance = starts[target] - (own + slot) - 1
        instruction = instructions[index]
        imm = distance & 0xFFFFFFFF if instruction.opcode == LD_IMM64 else distance
        instructions[index] = instruction._replace(imm=imm)
    return instructions


def _function_infos(parts: list[Part], starts: dict[Place, int]) -> tuple[FunctionInfo, ...]:
    """All functions, if the type of each is known: the kernel takes all or none."""
    infos = [
        FunctionInfo(starts[part.function.place], part.function.name, part.type_id)
        for part in parts
        if part.type_id is not None
    ]
    return tuple(infos) if len(infos) == len(parts) else ()


def _lines(parts: list[Part], starts: dict[Place, int]) -> tuple[SourceLine, ...]:
    """The lines of all functions, or none if one has none (the kernel wants one at each function's start)."""
    if not all(part.lines for part in parts):
        return ()
    return tuple(
        SourceLine(line.slot + starts[part.function.place], line.file, line.line, line.column, line.text)
        for part in parts
        for line in part.lines
    )
