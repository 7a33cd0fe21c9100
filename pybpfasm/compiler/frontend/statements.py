"""Statements to operations."""

import ast
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from pybpfasm.compiler.frontend.annotations import AnnotationError, Expected, expected, hints_of
from pybpfasm.compiler.frontend.diagnostics import CompileError
from pybpfasm.compiler.frontend.expressions import first_line, known_limit
from pybpfasm.compiler.frontend.paths import Names, Unknown
from pybpfasm.compiler.frontend.returns import FromProgram
from pybpfasm.compiler.frontend.source import Source
from pybpfasm.compiler.frontend.values import (
    Constant,
    KernelPlace,
    KernelType,
    Place,
    Pointer,
    Scalar,
    Value,
    describe,
    known_operand,
    target_name,
)
from pybpfasm.ir.operations import Value as IrValue
from pybpfasm.lang.programs import Calling
from pybpfasm.records import evolve

if TYPE_CHECKING:
    from pybpfasm.compiler.frontend.lowering import Lowering

_INSTEAD = {
    ast.Try: "a BPF program has no exceptions",
    ast.Raise: "a BPF program has no exceptions: return",
    ast.Delete: "a map's entry is removed by its delete(key)",
    ast.Global: "state lives in maps and in Global variables",
    ast.Nonlocal: "state lives in maps and in Global variables",
    ast.Import: "import at the top of the file",
    ast.ImportFrom: "import at the top of the file",
    ast.FunctionDef: "define it outside and mark it @inline",
    ast.AnnAssign: "give it its value where it is declared",
    ast.ClassDef: "define it outside",
    ast.AsyncFunctionDef: "a BPF program cannot wait",
    ast.AsyncFor: "a BPF program cannot wait",
    ast.AsyncWith: "a BPF program cannot wait",
}


class Statements:
    """Compiles statements."""

    def __init__(self, lowering: "Lowering") -> None:
        self._lowering = lowering

    def program(self, source: Source, context: Pointer) -> None:
        """A program's function: its context, or what a function was called with, and a number as result."""
        from pybpfasm.compiler.frontend.lowering import Frame

        frame = Frame(source, FromProgram(self._lowering), {})
        self._lowering.frames.append(frame)
        self._lowering.names.visit(source.function)
        calling = self._lowering.kind.calling
        by_position = calling in (Calling.REGISTERS, Calling.RAW, Calling.TYPED)
        self.check_parameters(source, plain=True, by_name=by_position)
        hints = self._hints(source)
        if calling is Calling.CONTEXT:
            frame.names = self._context(source, hints, context)
        else:
            frame.names = self._lowering.arguments.names(source, hints, context)
            frame.assigned |= {name for name, value in frame.names.items() if value != context}
        self.function(source)

    def _context(self, source: Source, hints: dict[str, Any], context: Pointer) -> Names:
        parameters = source.tree.args.args
        wanted = target_name(context.target)
        if len(parameters) != 1 or hints.get(parameters[0].arg) is not context.target or hints.get("return") is not int:
            self._lowering.fail(source.tree, f"this program is declared `def {source.tree.name}(ctx: {wanted}) -> int`")
        return {parameters[0].arg: context}

    def check_parameters(self, source: Source, *, plain: bool = False, by_name: bool = False) -> None:
        """Refuse `*` and `**`; of what the kernel calls all that is not plain."""
        arguments = source.tree.args
        if arguments.vararg or arguments.kwarg:
            reason = "a function of a BPF program has plain parameters: `*` and `**` are not supported"
            raise CompileError(source.location(source.tree), reason)
        named = arguments.kwonlyargs if not by_name else arguments.kw_defaults and any(arguments.kw_defaults)
        if plain and (named or arguments.posonlyargs or arguments.defaults):
            reason = "a function of a BPF program has plain parameters only where the kernel calls it: no defaults"
            raise CompileError(source.location(source.tree), reason)
        if plain and getattr(source.tree, "type_params", []):
            reason = "type parameters are for inline functions: the kernel calls this one"
            raise CompileError(source.location(source.tree), reason)

    def function(self, source: Source) -> None:
        """A function's body, and the return at its end that Python implies."""
        before = self._lowering.findings.met
        self.suite(source.tree.body)
        if self._lowering.reachable:
            self._lowering.give_up_if(before)
            frame = self._lowering.frame
            if self._hints(source).get("return") is not type(None):
                self._lowering.fail(source.tree, f"`{source.tree.name}` can end without a `return`: give every way one")
            frame.returns.leave(source.tree, None)

    def suite(self, statements: Iterable[ast.stmt]) -> None:
        """Statements one after the other."""
        ended: ast.stmt | None = None
        for statement in statements:
            if ended is not None:
                self._lowering.fail(statement, "this is never reached: remove it")
            if not self._lowering.reachable:
                return
            self._recovering(statement)
            if _always_leaves(statement):
                ended = statement

    def _recovering(self, node: ast.stmt) -> None:
        """A statement; if it is refused, those behind it are compiled as if it had done what it was meant to."""
        lowering, frame = self._lowering, self._lowering.frame
        names, loops, cleanups = frame.names or {}, len(frame.loops), len(frame.cleanups)
        try:
            self._statement(node)
        except CompileError as error:
            lowering.findings.add(error)
            del frame.loops[loops:]
            del frame.cleanups[cleanups:]
            lowering.block = lowering.function.block()
            frame.names = None if _always_leaves(node) else {**names, **_poisoned(node, names, error)}

    def _statement(self, node: ast.stmt) -> None:
        match node:
            case ast.Expr(value=ast.Constant(value=str())) | ast.Pass():
                pass
            case ast.Expr(value=ast.Call() as call):
                self._lowering.calls.value(call)
            case ast.Return():
                self._lowering.frame.returns.leave(node, node.value)
            case ast.If():
                self._if(node)
            case ast.Assign(targets=[ast.Tuple() as target]):
                self._assign_several(target, node.value)
            case ast.Assign(targets=[target]):
                self._assign(target, node.value)
            case ast.Assign():
                self._assign_to_all(node)
            case ast.AnnAssign(value=ast.expr() as value, target=target):
                self._assign(target, value, self._declared(node.annotation))
            case ast.AugAssign():
                self._augmented(node)
            case ast.For():
                self._lowering.loops.compile_for(node)
            case ast.While():
                self._lowering.loops.compile_while(node)
            case ast.Match():
                self._lowering.matching.compile(node)
            case ast.With():
                self._lowering.guards.compile(node)
            case ast.Assert():
                self._assert(node)
            case ast.Break() | ast.Continue():
                loop = self._lowering.frame.loops[-1]
                self._lowering.clean_up(node, loop.depth)
                self._lowering.goto(loop.end if isinstance(node, ast.Break) else loop.following, node)
            case ast.Expr(value=ast.Yield() | ast.YieldFrom() | ast.Await() as expression):
                self._lowering.expressions.value(expression)  # refuses it, with what to write instead
            case ast.Expr(value=ast.NamedExpr() as expression):
                self._lowering.expressions.value(expression)
            case ast.Expr():
                self._lowering.fail(node, "this has no effect: assign it or remove it")
            case _:
                instead = _INSTEAD.get(type(node), "docs/language.md lists what is")
                self._lowering.fail(node, f"{first_line(node)} is not supported in a BPF program: {instead}")

    def _if(self, node: ast.If) -> None:
        lowering = self._lowering
        yes, no, end = lowering.junction(), lowering.junction(), lowering.junction()
        lowering.conditions.branch(node.test, yes, no)
        for junction, body in ((yes, node.body), (no, node.orelse)):
            lowering.enter(junction)
            if lowering.reachable:
                self.suite(body)
            lowering.goto(end, node)
        lowering.enter(end)

    def _assign(self, target: ast.expr, value_node: ast.expr, declared: Expected | None = None) -> None:
        self._give(target, value_node, self._lowering.expressions.value(value_node), declared)

    def _give(self, target: ast.expr, value_node: ast.expr, value: Value, declared: Expected | None = None) -> None:
        lowering = self._lowering
        match target:
            case ast.Name():
                self._bind(target, value_node, value, declared)
            case ast.Attribute() if declared is None:
                self._assign_field(target, value_node, value)
            case ast.Subscript() if declared is None:
                indexing = lowering.indexing
                indexing.put(target, indexing.find(target), value_node, value)
            case ast.Attribute() | ast.Subscript():
                lowering.fail(target, "only a name is declared, a field and an element have their types: `… = …`")
            case _:
                lowering.fail(target, "assign to a name, a field or an element")

    def _assign_several(self, targets: ast.Tuple, value_node: ast.expr) -> None:
        """`a, b = x, y`: all values are evaluated before the first is assigned."""
        if not isinstance(value_node, ast.Tuple) or len(value_node.elts) != len(targets.elts):
            self._lowering.fail(value_node, f"{len(targets.elts)} values are wanted here, joined by commas")
        values = [self._lowering.expressions.value(node) for node in value_node.elts]
        if not all(isinstance(target, ast.Name) for target in targets.elts):
            # What lies in memory may be overwritten before its turn comes.
            memory = self._lowering.memory
            values = [
                value if isinstance(target, ast.Name) and isinstance(value, Pointer) else memory.snapshot(node, value)
                for target, node, value in zip(targets.elts, value_node.elts, values, strict=True)
            ]
        for target, node, value in zip(targets.elts, value_node.elts, values, strict=True):
            self._give(target, node, value)

    def _assign_to_all(self, node: ast.Assign) -> None:
        """`a = b = x`."""
        value = self._lowering.expressions.value(node.value)
        for target in node.targets:
            self._give(target, node.value, value)

    def _assert(self, node: ast.Assert) -> None:
        """Decided when the program is compiled."""
        lowering = self._lowering
        value = lowering.expressions.value(node.test)
        if not isinstance(value, Constant):
            lowering.fail(
                node.test, "assert is for what is known when the program is compiled: test it with `if`, and return"
            )
        if not value.value:
            message = "" if node.msg is None else f": {lowering.expressions.constant(node.msg)}"
            lowering.fail(node, f"this assertion does not hold{message}")

    def named(self, target: ast.expr, value_node: ast.expr) -> Value:
        """`(name := value)`: the value that the name has then."""
        assert isinstance(target, ast.Name)  # noqa: S101 - Python allows nothing else
        self._bind(target, value_node, self._lowering.expressions.value(value_node))
        return self._lowering.names.resolve(target)

    def as_scalar(self, node: ast.AST, value: Constant) -> Value:
        """A constant as a number of the program's, or as it is if it is none."""
        if known_operand(value) is None:
            return value
        operand = self._lowering.expressions.operand(node, value)
        return Scalar(operand, self._lowering.expressions.scalar_type(value))

    def _assign_field(self, target: ast.Attribute, value_node: ast.AST, value: Value) -> None:
        self._write_field(target, self._lowering.expressions.value(target.value), value_node, value)

    def _write_field(self, target: ast.Attribute, owner: Value, value_node: ast.AST, value: Value) -> None:
        if isinstance(owner, Pointer) and isinstance(owner.target, type):
            self._lowering.memory.write_context(target, owner, value_node, value)
            return
        if isinstance(owner, KernelPlace) or (isinstance(owner, Pointer) and isinstance(owner.target, KernelType)):
            self._lowering.kernel.write(target, owner, value_node, value)
            return
        place = self._lowering.memory.field(target, owner)
        self._lowering.variables.check_writable(target, place)
        name = ast.unparse(target) if isinstance(owner, Constant) else f"{describe(owner)}.{target.attr}"
        self._lowering.memory.write(place, target, value_node, value, name)

    def _augmented(self, node: ast.AugAssign) -> None:
        expressions = self._lowering.expressions
        match node.target:
            case ast.Name() as name:
                self._bind(name, node, self._after(node, expressions.value(name)))
            case ast.Attribute() as field:
                # What owns the field is found once: to find it may have effects.
                owner = expressions.value(field.value)
                self._write_field(field, owner, node, self._after(node, expressions.attribute(field, owner)))
            case ast.Subscript() as element:
                indexing = self._lowering.indexing
                found = indexing.find(element)
                indexing.put(element, found, node, self._after(node, indexing.get(element, found)))
            case target:
                self._lowering.fail(target, "assign to a name, a field or an element")

    def _after(self, node: ast.AugAssign, before: Value) -> Value:
        expressions = self._lowering.expressions
        if isinstance(before, Place):
            reason = f"`{ast.unparse(node.target)}` is {describe(before)}, such operators are for numbers"
            self._lowering.fail(node, f"{reason}: assign it as a whole, or one element after the other")
        number = expressions.as_number(node.target, before)
        return expressions.combine(node, node.op, number, expressions.number(node.value))

    def _bind(self, target: ast.Name, node: ast.AST, value: Value, declared: Expected | None = None) -> None:
        """Give a local its value. It keeps one type throughout the function."""
        lowering, frame = self._lowering, self._lowering.frame
        names = frame.names
        assert names is not None  # noqa: S101 - statements are compiled only where control comes
        if declared is not None and frame.declared.setdefault(target.id, declared) != declared:
            lowering.fail(target, f"`{target.id}` is declared {frame.declared[target.id]} elsewhere")
        declared = frame.declared.get(target.id)
        if declared is not None:
            value = declared.accept(lowering, node, value)
        if isinstance(value, Place):
            value = lowering.memory.naming(node, value)
        if isinstance(value, KernelPlace):
            value = lowering.kernel.pointer(node, value)
        known = names.get(target.id)
        if isinstance(known, Unknown) and known.silent:
            known = None
        if isinstance(known, Place) and isinstance(value, Place) and known.type != value.type:
            lowering.fail(node, f"`{target.id}` is {describe(known)}, this is {describe(value)}: use another name")
        if known is not None and target.id not in frame.assigned and not _both_structs(known, value):
            lowering.fail(target, f"`{target.id}` is a parameter, a loop's name or a struct: use another name")
        if isinstance(value, Place):
            frame.names = {**names, target.id: value}
            return
        frame.assigned.add(target.id)
        frame.names = {**names, target.id: self._named(target, node, value)}

    def counted(self, target: ast.Name, node: ast.AST, value: Value) -> Value:
        """What the name of a loop is in this round, as the name is declared."""
        declared = self._lowering.frame.declared.get(target.id)
        return value if declared is None else declared.accept_counted(self._lowering, node, value)

    def _named(self, target: ast.Name, node: ast.AST, value: Value) -> Value:
        lowering = self._lowering
        if isinstance(value, Pointer):
            if isinstance(value.operand, IrValue) and value.operand.name is None:
                value.operand.name = target.id
            return value
        if not isinstance(value, Scalar | Constant) or known_operand(value) is None:
            reason = f"{describe(value)} cannot be given to the name `{target.id}`"
            lowering.fail(node, f"{reason}: a name holds a number, a pointer or a struct")
        operand = lowering.expressions.operand(node, value)
        if isinstance(operand, IrValue) and operand.name is None:
            operand.name = target.id
        seen = value.seen if isinstance(value, Scalar) else True
        return Scalar(operand, lowering.expressions.scalar_type(value), known_limit(value), seen)

    def _declared(self, annotation: ast.expr) -> Expected:
        try:
            return expected(self._annotation(annotation))
        except (AnnotationError, TypeError) as error:
            self._lowering.fail(annotation, str(error))

    def _annotation(self, node: ast.expr) -> Any:
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
            return self._annotation(node.left) | self._annotation(node.right)
        return self._lowering.expressions.constant(node)

    def _hints(self, source: Source) -> dict[str, Any]:
        try:
            return hints_of(source.function)
        except AnnotationError as error:
            self._lowering.fail(source.tree, str(error))


def _poisoned(node: ast.stmt, names: Names, error: CompileError) -> Names:
    """The names that a refused statement was to give values: their use is no error of its own."""
    unknown = Unknown("the statement that gives this its value has an error", silent=True)
    assigned = {each.id for each in ast.walk(node) if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)}
    found: Names = dict.fromkeys(assigned, unknown)
    untested = error.untested
    pointer = names.get(untested) if untested is not None else None
    if untested is not None and untested not in found and isinstance(pointer, Pointer):
        found[untested] = evolve(pointer, nullable=False)
    return found


def _always_leaves(node: ast.stmt) -> bool:
    """Whether what follows the statement is never reached, whatever its conditions are."""
    if isinstance(node, ast.If):
        return bool(node.orelse) and _always_leaves(node.body[-1]) and _always_leaves(node.orelse[-1])
    if isinstance(node, ast.With):
        return _always_leaves(node.body[-1])
    return isinstance(node, ast.Return | ast.Break | ast.Continue)


def _both_structs(one: object, other: object) -> bool:
    return isinstance(one, Place) and isinstance(other, Place)
