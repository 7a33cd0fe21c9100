"""From a program's syntax tree to operations: the state that all parts of this step share.

In: a function and its constants. Out: blocks of operations, and the maps that were named. What is known of a name may
differ from path to path (a pointer is known not to be None only behind its test), so each path carries its own names.
"""

import ast
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn

import attrs

from pybpfasm.compiler.calls import Calls
from pybpfasm.compiler.conditions import Conditions
from pybpfasm.compiler.diagnostics import CompileError, Source
from pybpfasm.compiler.expressions import Expressions
from pybpfasm.compiler.memory import Memory
from pybpfasm.compiler.names import NameResolver
from pybpfasm.compiler.statements import Statements
from pybpfasm.compiler.values import SIGNED, UNSIGNED, Pointer, Scalar, Value
from pybpfasm.ir import Block, Function, Goto, Location, Operation, Register, Slot
from pybpfasm.lang.programs import Program, ProgramKind

if TYPE_CHECKING:
    from pybpfasm.compiler.annotations import Expected
    from pybpfasm.compiler.returns import ReturnTarget


@attrs.frozen
class Unknown:
    """A name that has no single meaning where paths meet; `reason` says why."""

    reason: str


Names = dict[str, "Value | Unknown"]


@attrs.define(eq=False)
class Frame:
    """One function being compiled: the program itself, or an inline function inside it.

    `names` is None where control cannot come.
    """

    source: Source
    returns: "ReturnTarget"
    names: Names | None
    registers: dict[str, Register] = attrs.field(factory=dict)
    declared: "dict[str, Expected]" = attrs.field(factory=dict)
    loops: "list[Loop]" = attrs.field(factory=list)


@attrs.define(eq=False)
class Junction:
    """A block that several paths may lead to, and what each of them knows."""

    block: Block
    frame: Frame
    arriving: list[Names] = attrs.field(factory=list)


@attrs.frozen
class Loop:
    """Where `continue` and `break` go."""

    following: Junction
    end: Junction


class Lowering:
    """Builds the operations of one program."""

    def __init__(self, constants: Mapping[str, Any]) -> None:
        self.names = NameResolver(self, constants)
        self.expressions = Expressions(self)
        self.conditions = Conditions(self)
        self.calls = Calls(self)
        self.memory = Memory(self)
        self.statements = Statements(self)
        self.frames: list[Frame] = []
        self.kind: ProgramKind
        self.block = Block(0)
        self._blocks = 1
        self._registers = 0
        self._slots = 0
        self._temporaries: list[Slot] = []
        self._free: list[Slot] = []

    @property
    def frame(self) -> Frame:
        """The innermost function."""
        return self.frames[-1]

    @property
    def reachable(self) -> bool:
        """Whether control can come to where we are building."""
        return self.frame.names is not None

    def program(self, program: Program[Any]) -> Function:
        """The whole program."""
        self.kind = program.kind
        entry, context = self.block, self.register()
        self.statements.program(Source.of(program.function), Pointer(context, program.kind.context))
        return Function(program.name, entry, context)

    def register(self) -> Register:
        """A new virtual register."""
        self._registers += 1
        return Register(self._registers - 1)

    def slot(self, size: int) -> Slot:
        """A new piece of the stack frame of at least `size` bytes."""
        self._slots += 1
        return Slot(self._slots - 1, -(-size // 8) * 8)

    def temporary(self, size: int) -> Slot:
        """A piece of the stack frame that is used again after the `release_temporaries` that follows."""
        wanted = -(-size // 8) * 8
        slot = next((slot for slot in self._free if slot.size == wanted), None)
        if slot is None:
            slot = self.slot(size)
        else:
            self._free.remove(slot)
        self._temporaries.append(slot)
        return slot

    @property
    def temporaries(self) -> int:
        """How many temporaries are in use, for `release_temporaries`."""
        return len(self._temporaries)

    def release_temporaries(self, kept: int) -> None:
        """Let go of all temporaries but the first `kept`: nothing reads the others from here on."""
        self._free += self._temporaries[kept:]
        del self._temporaries[kept:]

    def junction(self) -> Junction:
        """A new block that paths of the current function may lead to."""
        self._blocks += 1
        return Junction(Block(self._blocks - 1), self.frame)

    def emit(self, operation: Operation) -> None:
        """Append an operation to the current block."""
        self.block.operations.append(operation)

    def location(self, node: ast.AST) -> Location:
        """Where a node of the current function stands."""
        return self.frame.source.location(node)

    def arrive(self, junction: Junction) -> Block:
        """Note that the current path leads to `junction`; the block to jump to."""
        if junction.frame.names is not None:
            junction.arriving.append(junction.frame.names)
        return junction.block

    def goto(self, junction: Junction, node: ast.AST) -> None:
        """End the current path at `junction`."""
        if self.reachable:
            self.emit(Goto(self.arrive(junction), self.location(node)))
            self.frame.names = None

    def enter(self, junction: Junction) -> None:
        """Go on building at `junction`, knowing what all paths to it agree on."""
        self.block = junction.block
        self.frame.names = _meet(junction.arriving)

    def fail(self, node: ast.AST, reason: str) -> NoReturn:
        """Refuse the program at `node`."""
        raise CompileError(self.location(node), reason)


def _meet(paths: list[Names]) -> Names | None:
    if not paths:
        return None
    merged = dict(paths[0])
    for path in paths[1:]:
        for name in {**merged, **path}:
            merged[name] = _agreement(name, merged.get(name), path.get(name))
    return merged


def _agreement(name: str, one: "Value | Unknown | None", other: "Value | Unknown | None") -> "Value | Unknown":
    if one is None or other is None:
        return Unknown(f"`{name}` has a value on some paths only: give it one before the paths meet")
    if isinstance(one, Unknown):
        return one
    if one == other or isinstance(other, Unknown):
        return other
    if isinstance(one, Pointer) and isinstance(other, Pointer) and one.register == other.register:
        return attrs.evolve(one, nullable=one.nullable or other.nullable)
    if isinstance(one, Scalar) and isinstance(other, Scalar):
        hint = f", `{name}: i64 = …`" if {SIGNED, UNSIGNED} == {one.type, other.type} else ""
        return Unknown(f"`{name}` is {one.type} on one path, {other.type} on another: declare it{hint}")
    return Unknown(f"`{name}` has different meanings on different paths: give it one before the paths meet")
