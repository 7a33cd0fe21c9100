"""The compiler: from functions of typed Python to specs that the kernel can load.

source -> syntax tree -> operations (lowering) -> simplify -> registers -> emit
"""

from collections.abc import Iterable, Mapping
from typing import Any

from pybpfasm.compiler.diagnostics import TOO_DEEP, CompileError
from pybpfasm.compiler.emit import STACK_BYTES, Emitter
from pybpfasm.compiler.lowering import Lowering
from pybpfasm.compiler.registers import allocate
from pybpfasm.compiler.simplify import simplify
from pybpfasm.errors import BpfError
from pybpfasm.ir import Function, Location
from pybpfasm.isa import EncodingError, Instruction, Label, resolve_labels
from pybpfasm.lang.programs import Program
from pybpfasm.spec import CollectionSpec, MapSpec, ProgramSpec, SourceLine

__all__ = ["CompileError", "compile_collection", "compile_program"]


def compile_program(program: Program[Any], **constants: Any) -> ProgramSpec:
    """Compile a program.

    A keyword replaces the module-level constant of that name, wherever the program or what it calls refers to it.
    Raises `CompileError` with the place in the source, or `BpfError` for a constant that the program does not use.
    """
    lowering = Lowering(constants)
    spec = _compile(program, lowering)
    unused = sorted(set(constants) - lowering.names.used_constants)
    if unused:
        raise BpfError(f"program {program.name} uses no constant called {', '.join(unused)}")
    return spec


def compile_collection(
    programs: Iterable[Program[Any]], constants: Mapping[str, Any], max_entries: Mapping[str, int]
) -> CollectionSpec:
    """Compile programs that share maps.

    `constants` replaces module-level constants as in `compile_program`; each has to be used by one program at least.
    `max_entries` gives maps another size, by name.
    """
    specs: dict[str, ProgramSpec] = {}
    maps: dict[str, MapSpec] = {}
    used: set[str] = set()
    for program in programs:
        lowering = Lowering(constants)
        specs[program.name] = _compile(program, lowering)
        used |= lowering.names.used_constants
        for name, spec in specs[program.name].maps.items():
            if maps.setdefault(name, spec) != spec:
                raise BpfError(f"two programs mean different maps by the name {name}")
    unused = sorted(set(constants) - used) + sorted(set(max_entries) - set(maps))
    if unused:
        raise BpfError(f"no program uses {', '.join(unused)}")
    sized = {name: spec.resized(max_entries.get(name, spec.max_entries)) for name, spec in maps.items()}
    return CollectionSpec(specs, sized)


def _compile(program: Program[Any], lowering: Lowering) -> ProgramSpec:
    if not isinstance(program, Program):
        name = getattr(program, "__name__", "this")  # type: ignore[unreachable]  # callers may lack a type checker
        raise BpfError(f"{name} is no program: decorate it with the hook that it is for, such as @bpf.connect4")
    function = _lowered(program, lowering)
    order = simplify(function)
    emitter = Emitter(function, order, allocate(function, order))
    emitter.emit()
    if emitter.stack_used > STACK_BYTES:
        reason = f"the program needs {emitter.stack_used} bytes of stack, {STACK_BYTES} are there: use less"
        raise CompileError(emitter.locations[0], reason)
    return ProgramSpec(
        name=program.name,
        type=program.kind.program_type,
        attach_type=program.kind.attach_type,
        context=program.kind.context.uapi,
        instructions=_resolved(emitter),
        maps=dict(lowering.names.maps),
        lines=_source_lines(emitter.items, emitter.locations),
    )


def _lowered(program: Program[Any], lowering: Lowering) -> Function:
    try:
        return lowering.program(program)
    except RecursionError:
        source = lowering.frames[0].source
        raise CompileError(source.location(source.tree), TOO_DEEP) from None


def _resolved(emitter: Emitter) -> tuple[Instruction, ...]:
    try:
        return tuple(resolve_labels(emitter.items))
    except EncodingError:
        reason = "the program is too long: no jump reaches over 32767 instructions; unroll less"
        raise CompileError(emitter.locations[0], reason) from None


def _source_lines(items: Iterable[Instruction | Label], locations: Iterable[Location]) -> tuple[SourceLine, ...]:
    lines: list[SourceLine] = []
    slot, last = 0, None
    instructions = (item for item in items if isinstance(item, Instruction))
    for instruction, location in zip(instructions, locations, strict=True):
        if location != last:
            lines.append(SourceLine(slot, location.file, location.line, location.column, location.text.strip()))
            last = location
        slot += instruction.slots
    return tuple(lines)
