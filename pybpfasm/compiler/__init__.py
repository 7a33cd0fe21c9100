"""The compiler: from functions of typed Python to specs that the kernel can load.

source → syntax tree → (frontend) operations → (passes) fewer operations → (backend) instructions
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pybpfasm.compiler.backend import Code, generate
from pybpfasm.compiler.call_graph import stack_bytes
from pybpfasm.compiler.collector import paused
from pybpfasm.compiler.frontend.diagnostics import TOO_DEEP, CompileError
from pybpfasm.compiler.frontend.lowering import Lowering
from pybpfasm.compiler.frontend.moved_packets import check_packets
from pybpfasm.compiler.frontend.references import check_references
from pybpfasm.compiler.frontend.sections import Sections
from pybpfasm.compiler.passes.pipeline import FRONTEND, SIMPLIFIED, Watch
from pybpfasm.compiler.targets import AnyTarget, target_for
from pybpfasm.errors import BpfError
from pybpfasm.ir.function import Function, Unit, reverse_postorder
from pybpfasm.ir.target import Target
from pybpfasm.isa import EncodingError
from pybpfasm.lang.programs import Program
from pybpfasm.records import evolve, frozen
from pybpfasm.spec import CollectionSpec, FunctionInfo, MapSpec, ProgramSpec, RegisterName, SourceLine

if TYPE_CHECKING:
    from pybpfasm.btf import Btf

__all__ = [
    "STACK_BYTES",
    "CompileError",
    "Target",
    "compile_collection",
    "compile_program",
    "operations_of",
    "passes_of",
]

STACK_BYTES = 512

_NOTHING: Mapping[str, Any] = MappingProxyType({})


def compile_program(
    program: Program[Any], *, target: AnyTarget | None = None, kernel_types: "Btf | None" = None, **constants: Any
) -> ProgramSpec:
    """Compile a program, for a kernel that is `pybpfasm.kernel.running_target()` or `named_target("6.1")`.

    Without a target it runs on all from Linux 5.10 on. A keyword replaces the module-level constant of that name,
    wherever the program or what it calls refers to it. Where a program looks into the kernel's structs, fields lie as
    `kernel_types` has them, or else the running kernel.

    Raises `CompileError` with the place in the source, or `BpfError` for a constant that the program does not use.
    """
    lowering = Lowering(constants, target_for(target), Sections(), kernel_types)
    spec = _with_sections(_compile(program, lowering), lowering)
    unused = sorted(set(constants) - lowering.names.used_constants)
    if unused:
        raise BpfError(f"program {program.name} uses no constant called {', '.join(unused)}")
    return spec


def compile_collection(
    programs: Iterable[Program[Any]],
    constants: Mapping[str, Any] = _NOTHING,
    max_entries: Mapping[str, int] = _NOTHING,
    *,
    target: AnyTarget | None = None,
    kernel_types: "Btf | None" = None,
) -> CollectionSpec:
    """Compile programs that share maps.

    `constants` replaces module-level constants as in `compile_program`; each has to be used by one program at least.
    `max_entries` gives maps another size, by name; `kernel_types` is as in `compile_program`.

    Raises `CompileError` with the place in the source; `BpfError` for a constant or a map that no program uses, and for
    two maps of one name.
    """
    specs: dict[str, ProgramSpec] = {}
    maps: dict[str, MapSpec] = {}
    used: set[str] = set()
    for_target = target_for(target)
    sections = Sections()
    compiled: list[tuple[ProgramSpec, Lowering]] = []
    for program in programs:
        lowering = Lowering(constants, for_target, sections, kernel_types)
        compiled.append((_compile(program, lowering), lowering))
        used |= lowering.names.used_constants
    for made, lowering in compiled:
        specs[made.name] = _with_sections(made, lowering)
        for name, spec in specs[made.name].maps.items():
            if maps.setdefault(name, spec) != spec:
                raise BpfError(f"two programs mean different maps by the name {name}")
    unused = sorted(set(constants) - used) + sorted(set(max_entries) - set(maps))
    if unused:
        raise BpfError(f"no program uses {', '.join(unused)}")
    sized = {name: spec.resized(max_entries.get(name, spec.max_entries)) for name, spec in maps.items()}
    return CollectionSpec(specs, sized)


@frozen
class Operations:
    """A program between its passes and its registers: as text, and each operation with the file and line it is of.

    `spec` is what it becomes then.
    """

    spec: ProgramSpec
    text: str
    placed: tuple[tuple[str, int, str], ...]


def operations_of(
    program: Program[Any], *, target: AnyTarget | None = None, kernel_types: "Btf | None" = None
) -> Operations:
    """What a program is when all passes are done. Raises `CompileError`."""
    from pybpfasm.ir.text import format_function, format_operation

    texts: list[str] = []
    placed: list[tuple[str, int, str]] = []

    def watch(name: str, function: Function) -> None:
        if name == SIMPLIFIED:
            texts.append(format_function(function))
            for block in reverse_postorder(function.entry):
                placed.extend(
                    (each.location.file, each.location.line, format_operation(each)) for each in block.operations
                )

    lowering = Lowering({}, target_for(target), Sections(), kernel_types)
    spec = _with_sections(_compile(program, lowering, watch), lowering)
    return Operations(spec, "\n\n".join(texts), tuple(placed))


def passes_of(
    program: Program[Any], *, target: AnyTarget | None = None, kernel_types: "Btf | None" = None
) -> tuple[tuple[str, str], ...]:
    """What each pass has made of a program: the pass's name, and all functions that it has seen so far as text.

    The first is "frontend", what the source means before any pass. Raises `CompileError`.
    """
    from pybpfasm.ir.text import format_function

    texts: dict[Function, str] = {}
    found: list[tuple[str, str]] = []

    def watch(name: str, function: Function) -> None:
        texts[function] = format_function(function)
        found.append((name, "\n\n".join(texts.values())))

    lowering = Lowering({}, target_for(target), Sections(), kernel_types)
    _compile(program, lowering, watch)
    return tuple(each for each in found if each[0] != SIMPLIFIED)


def _with_sections(spec: ProgramSpec, lowering: Lowering) -> ProgramSpec:
    """With the maps of global variables, when all that comes into them is known."""
    used = {section: lowering.variables.map(section) for section in sorted(lowering.variables.used)}
    return evolve(spec, maps={**spec.maps, **used}) if used else spec


def _compile(program: Program[Any], lowering: Lowering, watch: Watch | None = None) -> ProgramSpec:
    if not isinstance(program, Program):
        name = getattr(program, "__name__", "this")  # type: ignore[unreachable]  # callers may lack a type checker
        raise BpfError(f"{name} is no program: decorate it with the hook that it is for, such as @bpf.connect4")
    with paused():
        function = _lowered(program, lowering)
        code = _generated(function, lowering, watch)
    return ProgramSpec(
        name=program.name,
        type=program.kind.program_type,
        attach_type=program.kind.attach_type,
        context=program.kind.context.uapi,
        instructions=code.instructions,
        maps=dict(lowering.names.maps),
        lines=_source_lines(code),
        section=program.kind.section,
        attach_to=program.kind.attach_to,
        flags=program.kind.flags,
        names=tuple(RegisterName(each.slot, each.register, each.name) for each in code.variables),
        functions=tuple(FunctionInfo(each.slot, each.name, 0) for each in code.functions[1:]),
    )


def _lowered(program: Program[Any], lowering: Lowering) -> Function:
    try:
        function = lowering.program(program)
    except RecursionError:
        source = lowering.frames[0].source
        raise CompileError(source.location(source.tree), TOO_DEEP) from None
    for each in (function, *lowering.functions.all):
        check_references(each)
        check_packets(each)
    return function


def _generated(function: Function, lowering: Lowering, watch: Watch | None) -> Code:
    try:
        unit = Unit(function, lowering.functions.all)
        if watch is not None:
            watch(FRONTEND, function)
        code = generate(unit, lowering.target, watch)
    except EncodingError:
        reason = "the program is too long: no jump reaches over 32767 instructions; unroll less"
        raise CompileError(function.location, reason) from None
    used = stack_bytes(unit, code)
    if used > STACK_BYTES:
        reason = f"the program needs {used} bytes of stack, {STACK_BYTES} are there: keep it in a map"
        raise CompileError(function.location, reason)
    return code


def _source_lines(code: Code) -> tuple[SourceLine, ...]:
    lines: list[SourceLine] = []
    slot, last = 0, None
    starts = {each.slot for each in code.functions}
    for instruction, location in zip(code.instructions, code.locations, strict=True):
        if location != last or slot in starts:
            lines.append(SourceLine(slot, location.file, location.line, location.column, location.text.strip()))
            last = location
        slot += instruction.slots
    return tuple(lines)
