"""From a program's syntax tree to operations: the state that all parts of this step share.

In: a function and its constants. Out: blocks of operations, and the maps that were named. What is known of a name may
differ from path to path (a pointer is known not to be None only behind its test), so each path carries its own names.
Where paths meet, a name that has another value on each becomes a parameter of the block; so the result is in SSA form.
"""

import ast
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn

from pybpfasm.compiler.frontend.access import Access
from pybpfasm.compiler.frontend.atomics import Atomics
from pybpfasm.compiler.frontend.callbacks import Callbacks
from pybpfasm.compiler.frontend.calls import Calls
from pybpfasm.compiler.frontend.conditions import Conditions
from pybpfasm.compiler.frontend.diagnostics import CompileError, Findings, SilentError
from pybpfasm.compiler.frontend.elements import Indexing
from pybpfasm.compiler.frontend.expressions import Expressions
from pybpfasm.compiler.frontend.functions import Functions
from pybpfasm.compiler.frontend.intrinsics import Intrinsics
from pybpfasm.compiler.frontend.loops import Loops
from pybpfasm.compiler.frontend.map_methods import MapMethods
from pybpfasm.compiler.frontend.matching import Matching
from pybpfasm.compiler.frontend.memory import Memory
from pybpfasm.compiler.frontend.names import NameResolver
from pybpfasm.compiler.frontend.numbers import Numbers
from pybpfasm.compiler.frontend.packets import Packets
from pybpfasm.compiler.frontend.paths import Junction, Names, Unknown, arrive_by, join
from pybpfasm.compiler.frontend.printing import Printing
from pybpfasm.compiler.frontend.ring_buffers import RingBuffers
from pybpfasm.compiler.frontend.sections import Sections
from pybpfasm.compiler.frontend.source import Source
from pybpfasm.compiler.frontend.statements import Statements
from pybpfasm.compiler.frontend.text import Text
from pybpfasm.compiler.frontend.values import Pointer, Value
from pybpfasm.compiler.frontend.variables import Variables
from pybpfasm.ir.function import Block, Function
from pybpfasm.ir.operations import (
    Argument,
    Branch,
    Call,
    CallFunction,
    CallKernel,
    Copy,
    Goto,
    Location,
    MayGoto,
    Number,
    Operation,
    Slot,
    StackAddress,
)
from pybpfasm.ir.operations import Value as IrValue
from pybpfasm.ir.target import Target
from pybpfasm.ir.types import CONTEXT, SCALAR, Kind, Type
from pybpfasm.isa import Jump
from pybpfasm.lang.programs import Program, ProgramKind
from pybpfasm.records import define, field, frozen
from pybpfasm.uapi import Helper

if TYPE_CHECKING:
    from pybpfasm.btf import Btf
    from pybpfasm.compiler.frontend.annotations import Expected
    from pybpfasm.compiler.frontend.arguments import Arguments
    from pybpfasm.compiler.frontend.assembly import InlineAssembly
    from pybpfasm.compiler.frontend.checksums import Checksums
    from pybpfasm.compiler.frontend.dynptrs import Dynptrs
    from pybpfasm.compiler.frontend.guards import Guards
    from pybpfasm.compiler.frontend.iterators import Iterators
    from pybpfasm.compiler.frontend.kernel_structs import KernelStructs
    from pybpfasm.compiler.frontend.kfuncs import Kfuncs
    from pybpfasm.compiler.frontend.kptrs import Kptrs
    from pybpfasm.compiler.frontend.probing import Probing
    from pybpfasm.compiler.frontend.returns import ReturnTarget
    from pybpfasm.compiler.frontend.sockets import Sockets
    from pybpfasm.compiler.frontend.timers import Timers


@define(eq=False)
class Frame:
    """One function being compiled: the program itself, or an inline function inside it.

    `names` is None where control cannot come.
    """

    source: Source
    returns: "ReturnTarget"
    names: Names | None
    assigned: set[str] = field(factory=set)
    declared: "dict[str, Expected]" = field(factory=dict)
    loops: "list[Loop]" = field(factory=list)
    cleanups: list[Callable[[ast.AST], None]] = field(factory=list)


@frozen
class Loop:
    """Where `continue` and `break` go; what is held inside it, from `depth` on, is given back before."""

    following: Junction
    end: Junction
    depth: int = 0


class Lowering:
    """Builds the operations of one program."""

    def __init__(
        self,
        constants: Mapping[str, Any],
        target: Target,
        sections: Sections,
        kernel_types: "Btf | None" = None,
    ) -> None:
        self.target = target
        self._kernel_types = kernel_types
        self.variables = Variables(self, sections)
        self.printing = Printing(self)
        self.packets = Packets(self)
        self.atomics = Atomics(self)
        self.functions = Functions(self)
        self.callbacks = Callbacks(self)
        self.program_name = ""
        self.locked = False
        self.findings = Findings()
        self.names = NameResolver(self, constants)
        self.expressions = Expressions(self)
        self.conditions = Conditions(self)
        self.calls = Calls(self)
        self.maps = MapMethods(self)
        self.ring = RingBuffers(self)
        self.numbers = Numbers(self)
        self.loops = Loops(self)
        self.matching = Matching(self)
        self.memory = Memory(self)
        self.access = Access(self)
        self.indexing = Indexing(self)
        self.text = Text(self)
        self.statements = Statements(self)
        self.intrinsics = Intrinsics(self)
        self.frames: list[Frame] = []
        self.kind: ProgramKind
        self.function: Function
        self.block: Block

    # What only some programs need is imported when one of them is compiled.

    @cached_property
    def arguments(self) -> "Arguments":
        """What programs that trace are handed."""
        from pybpfasm.compiler.frontend.arguments import Arguments

        return Arguments(self)

    @cached_property
    def kernel(self) -> "KernelStructs":
        """Structs of the kernel."""
        from pybpfasm.compiler.frontend.kernel_structs import KernelStructs
        from pybpfasm.compiler.kernel_types import kernel_types

        return KernelStructs(self, kernel_types(self._kernel_types))

    @cached_property
    def probing(self) -> "Probing":
        """Copies of memory."""
        from pybpfasm.compiler.frontend.probing import Probing

        return Probing(self)

    @cached_property
    def checksums(self) -> "Checksums":
        """Checksums of packets."""
        from pybpfasm.compiler.frontend.checksums import Checksums

        return Checksums(self)

    @cached_property
    def sockets(self) -> "Sockets":
        """Sockets that are looked up."""
        from pybpfasm.compiler.frontend.sockets import Sockets

        return Sockets(self)

    @cached_property
    def kptrs(self) -> "Kptrs":
        """Pointers that maps hold."""
        from pybpfasm.compiler.frontend.kptrs import Kptrs

        return Kptrs(self)

    @cached_property
    def dynptrs(self) -> "Dynptrs":
        """Memory of a size that is known when the program runs."""
        from pybpfasm.compiler.frontend.dynptrs import Dynptrs

        return Dynptrs(self)

    @cached_property
    def timers(self) -> "Timers":
        """Timers of maps' values."""
        from pybpfasm.compiler.frontend.timers import Timers

        return Timers(self)

    @cached_property
    def guards(self) -> "Guards":
        """`with`."""
        from pybpfasm.compiler.frontend.guards import Guards

        return Guards(self)

    @cached_property
    def iterators(self) -> "Iterators":
        """Loops that the kernel counts."""
        from pybpfasm.compiler.frontend.iterators import Iterators

        return Iterators(self)

    @cached_property
    def kfuncs(self) -> "Kfuncs":
        """Functions of the kernel."""
        from pybpfasm.compiler.frontend.kfuncs import Kfuncs

        return Kfuncs(self)

    @cached_property
    def assembly(self) -> "InlineAssembly":
        """Instructions as they are."""
        from pybpfasm.compiler.frontend.assembly import InlineAssembly

        return InlineAssembly(self)

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
        source = Source.of(program.function)
        self.program_name = source.tree.name
        self.function = Function(program.name, source.location(source.tree))
        self.block = self.function.entry
        context = self.function.parameter(CONTEXT, "ctx")
        try:
            self.statements.program(source, Pointer(context, program.kind.context, kind=Kind.CONTEXT))
        except CompileError as error:
            self.findings.add(error)
        self.findings.check()
        return self.function

    def value(self, type_: Type = SCALAR) -> IrValue:
        """A new value."""
        return self.function.value(type_)

    def slot(self, size: int, name: str | None = None) -> Slot:
        """A new piece of the stack frame of at least `size` bytes."""
        return self.function.slot(-(-size // 8) * 8, name)

    def junction(self) -> Junction:
        """A new block that paths of the current function may lead to."""
        return Junction(self.function.block(), self.frame)

    def emit(self, operation: Operation) -> None:
        """Append an operation to the current block."""
        if self.locked and isinstance(operation, Call | CallKernel | CallFunction) and not _unlocks(operation):
            raise CompileError(operation.location, "nothing is called while a lock is held: call it before or after")
        self.block.operations.append(operation)

    def in_register(self, node: ast.AST, operand: Argument) -> Number:
        """A number or an address that can be stored."""
        if isinstance(operand, IrValue | int):
            return operand
        kind = Kind.STACK if isinstance(operand, StackAddress) else Kind.MAP_VALUE
        value = self.value(Type(kind))
        self.emit(Copy(value, operand, self.location(node)))
        return value

    def location(self, node: ast.AST) -> Location:
        """Where a node of the current function stands."""
        return self.frame.source.location(node)

    def goto(self, junction: Junction, node: ast.AST, extra: Mapping[str, Value] | None = None) -> None:
        """End the current path at `junction`, with further values by names that no program has."""
        if self.reachable:
            goto = Goto(junction.block, self.location(node))
            self.emit(goto)
            arrive_by(junction, goto, extra)
            self.frame.names = None

    def branch(
        self,
        node: ast.AST,
        code: Jump,
        left: Number,
        right: Number,
        yes: Junction,
        no: Junction,
        *,
        bits: int = 64,
        narrowed: tuple[Names, Names] | None = None,
    ) -> None:
        """End the current path by a comparison; `narrowed` is what names are known to be on the two sides."""
        branch = Branch(code, left, right, bits, yes.block, no.block, self.location(node))
        self.emit(branch)
        on_yes, on_no = narrowed or ({}, {})
        # What is learnt of this function's names says nothing of its caller's.
        arrive_by(yes, branch, on_yes if yes.frame is self.frame else {}, side="yes")
        arrive_by(no, branch, on_no if no.frame is self.frame else {}, side="no")
        self.frame.names = None

    def may_goto(self, node: ast.AST, yes: Junction, no: Junction) -> None:
        """End the current path as the kernel decides: at `yes` while the program may run on."""
        end = MayGoto(yes.block, no.block, self.location(node))
        self.emit(end)
        arrive_by(yes, end, side="yes")
        arrive_by(no, end, side="no")
        self.frame.names = None

    def known(self, name: str) -> "Value | Unknown | None":
        """What a name means on the current path."""
        return (self.frame.names or {}).get(name)

    def give(self, name: str, value: Value) -> None:
        """Let a name mean a value on the current path."""
        if name.isidentifier():
            self.frame.assigned.add(name)
        self.frame.names = {**(self.frame.names or {}), name: value}

    def forget_hidden(self, prefix: str) -> None:
        """Drop the innermost name that no program has, when what it was for is over."""
        hidden = f"{prefix}{len(self.frame.loops)}"
        self.frame.names = {each: value for each, value in (self.frame.names or {}).items() if each != hidden}

    def enter(self, junction: Junction) -> None:
        """Go on building at `junction`, knowing what all paths to it agree on."""
        self.block = junction.block
        self.frame.names = join(self.function, junction)

    def take(self, name: str) -> Value:
        """A value that paths brought under a name that no program has."""
        names = self.frame.names
        assert names is not None  # noqa: S101 - asked where paths have met
        self.frame.names = {each: value for each, value in names.items() if each != name}
        found = names[name]
        assert not isinstance(found, Unknown)  # noqa: S101 - callers see to it that the paths agree
        return found

    def clean_up(self, node: ast.AST, depth: int = 0) -> None:
        """Give back what the function holds from `depth` on, the last first, on the current path."""
        locked = self.locked
        for leave in reversed(self.frame.cleanups[depth:]):
            leave(node)
        self.locked = locked  # on the other paths

    def give_up_if(self, before: int) -> None:
        """Leave the statement if a function that it calls has errors of its own: what it gives is not known."""
        if self.findings.met > before:
            raise SilentError(self.function.location, "a function that is called here has errors")

    def fail(self, node: ast.AST, reason: str) -> NoReturn:
        """Refuse the program at `node`."""
        raise CompileError(self.location(node), reason)


def _unlocks(operation: Operation) -> bool:
    return isinstance(operation, Call) and operation.helper == Helper.SPIN_UNLOCK
