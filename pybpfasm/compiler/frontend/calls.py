"""Calls: of helpers, methods of maps, conversions, struct constructors, and inline functions."""

import ast
import typing
from collections.abc import Callable
from types import FunctionType
from typing import TYPE_CHECKING, Any, NoReturn

from pybpfasm.compiler.frontend.annotations import AnnotationError, Expected, expected, hints_of
from pybpfasm.compiler.frontend.conditions import RESULT
from pybpfasm.compiler.frontend.diagnostics import CompileError
from pybpfasm.compiler.frontend.returns import ToCaller, ToCondition
from pybpfasm.compiler.frontend.signatures import bind, parameters_of
from pybpfasm.compiler.frontend.source import Source
from pybpfasm.compiler.frontend.values import (
    SIGNED,
    UNSIGNED,
    BoundMethod,
    Constant,
    KernelPlace,
    MapTarget,
    Place,
    Pointer,
    Scalar,
    Value,
    describe,
    is_struct,
    known_operand,
)
from pybpfasm.ir.operations import Argument, Call, StackAddress, Swap
from pybpfasm.lang import types as lang
from pybpfasm.lang.buffers import MOST_BYTES, Buffer, Data, Exact, Into, KernelObject, Text
from pybpfasm.lang.callbacks import loop
from pybpfasm.lang.contexts import Sockopt
from pybpfasm.lang.dynptrs import Dynptr
from pybpfasm.lang.maps import MapDeclaration
from pybpfasm.lang.printing import printk
from pybpfasm.lang.types import ArrayType, IntType, NetworkType, Record, is_record, value_type
from pybpfasm.records import evolve, frozen

if TYPE_CHECKING:
    from pybpfasm.compiler.frontend.lowering import Lowering
    from pybpfasm.compiler.frontend.paths import Junction

Function = Callable[..., Any]


@frozen
class Given:
    """What a parameter gets: the argument, how it is declared, the value that was accepted."""

    name: str
    node: ast.expr
    wanted: Expected
    value: Value

    @property
    def can_be_assigned(self) -> bool:
        """Whether the function may give the parameter another value: a number or a pointer to a struct."""
        return isinstance(self.value, Scalar) or is_struct(self.value) or known_operand(self.value) is not None

    def inside(self) -> Value:
        """As the function sees it, which may test what it declares as `… | None`, also where the caller has."""
        value = self.value
        if isinstance(value, Pointer) and not self.wanted.anything:
            return evolve(value, nullable=self.wanted.nullable)
        return value


# Where a Sockopt's buffer begins and ends (struct bpf_sockopt).
_OPTVAL, _OPTVAL_END = 8, 16

_CONVERSIONS: dict[Function, tuple[int, bool]] = {
    lang.htons: (16, True),
    lang.htonl: (32, True),
    lang.ntohs: (16, False),
    lang.ntohl: (32, False),
    lang.htonll: (64, True),
    lang.ntohll: (64, False),
}


class Calls:
    """Compiles calls."""

    def __init__(self, lowering: "Lowering") -> None:
        self._lowering = lowering

    def value(self, node: ast.Call, callee: Value | None = None) -> Value:
        """The result of a call; `callee` is what is called, if it has been evaluated."""
        if callee is None:
            callee = self._lowering.expressions.value(node.func)
        match callee:
            case BoundMethod(owner=Place()):
                return self._lowering.conditions.as_value(node, callee)
            case BoundMethod(owner=MapDeclaration() as declaration, name=name):
                return self._lowering.maps.call(node, declaration, name)
            case BoundMethod(owner=Pointer(target=type()) as pointer, name="optval"):
                return self._optval(node, pointer)
            case BoundMethod(owner=Pointer(target=MapTarget()) as pointer, name=name):
                return self._lowering.maps.call_inner(node, pointer, name)
            case BoundMethod(owner=Pointer() as pointer, name=name) if _of_registers(pointer):
                return self._lowering.arguments.method(node, pointer, name)
            case BoundMethod(owner=Pointer(target=type() as context) as pointer, name=name) if context is Dynptr:
                return self._lowering.dynptrs.call(node, pointer, name)
            case BoundMethod(owner=Pointer(target=type()) as pointer, name=name):
                return self._lowering.packets.call(node, pointer, name)
            case Constant(value=type() as struct) if is_record(struct):
                return self._lowering.memory.construct(node, struct)
            case Constant(value=type() as class_) if class_ is Buffer:
                return self._buffer(node)
            case Constant(value=function) if _marked(function, "__bpf_helper__"):
                return self._helper(node, function)
            case Constant(value=function) if _marked(function, "__bpf_inline__"):
                return self._inline(node, function)
            case Constant(value=function) if _marked(function, "__bpf_subprogram__"):
                return self._lowering.functions.call(node, function)
            case Constant(value=function) if _marked(function, "__bpf_kfunc__"):
                return self._lowering.kfuncs.call(node, function)
            case Constant(value=function) if function is loop:
                return self._lowering.callbacks.loop(node)
            case Constant(value=function) if _is_one_of(function, _CONVERSIONS):
                return self._conversion(node, function)
            case Constant(value=function) if self._lowering.numbers.is_intrinsic(function):
                return self._lowering.numbers.call(node, function)
            case Constant(value=function) if self._lowering.atomics.knows(function):
                return self._lowering.atomics.call(node, function)
            case Constant(value=function) if function is printk:
                return self._lowering.printing.call(node)
            case Constant(value=function) if (rule := self._lowering.intrinsics.rule(function)) is not None:
                return rule(node)
            case Constant(value=function) if function is lang.ip4:
                return self._address_constant(node)
            case _:
                hint = ": mark a function of yours with @inline" if isinstance(callee, Constant) else ""
                if isinstance(callee, Constant) and callee.value is print:
                    hint = ": use printk(…)"
                self._lowering.fail(node.func, f"{describe(callee)} cannot be called in a BPF program{hint}")

    def inline_condition(self, node: ast.Call, callee: Value, yes: "Junction", no: "Junction") -> bool:
        """Compile a call of an inline function that returns bool as a branch; False if it is no such call."""
        if not isinstance(callee, Constant) or not _marked(callee.value, "__bpf_inline__"):
            return False
        function = callee.value
        if self.hints(node, function).get("return") is not bool:
            return False
        source, given = self._callee(node, function)
        self._body(source, given, ToCondition(self._lowering, yes, no))
        self._lowering.frame.names = None
        return True

    def _inline(self, node: ast.Call, function: Function) -> Value:
        lowering = self._lowering
        hints = self.hints(node, function)
        result = self.expected(node, hints.get("return", None))
        target = ToCaller(lowering, result, lowering.junction())
        source, given = self._callee(node, function)
        caller_names = lowering.frame.names
        # The junction gathers the callee's paths for the caller, whose names none of them can change.
        self._body(source, given, target)
        lowering.frame.names = caller_names
        lowering.enter(target.exit)
        if target.result is None or result.nothing:
            return Constant(None)
        return lowering.take(RESULT)

    def _callee(self, node: ast.Call, function: Function) -> "tuple[Source, list[Given]]":
        """An inline function's source, and what its parameters get."""
        if any(frame.source.function is function for frame in self._lowering.frames):
            self._lowering.fail(node, f"{function.__name__} calls itself, which no function can here: write a loop")
        source = Source.of(function)
        self._lowering.statements.check_parameters(source)
        return source, self.given(node, function)

    def _body(self, source: Source, given: "list[Given]", returns: ToCaller | ToCondition) -> None:
        from pybpfasm.compiler.frontend.lowering import Frame

        before = self._lowering.findings.met
        names: Any = {each.name: each.inside() for each in given}
        declared = {each.name: each.wanted for each in given if each.can_be_assigned}
        self._lowering.frames.append(Frame(source, returns, names, set(declared), declared))
        self._lowering.names.visit(source.function)
        try:
            self._lowering.statements.function(source)
        finally:
            self._lowering.frames.pop()
        self._lowering.give_up_if(before)

    def given(self, node: ast.Call, function: Function) -> "list[Given]":
        """What each parameter of a function gets: an argument that was accepted, or its default."""
        hints = self.hints(node, function)
        bound = self.bind(node, function)
        found: list[Given] = []
        meant: dict[str, str] = {}
        for parameter in parameters_of(function):
            name = parameter.name
            if name not in hints:
                self._undeclared(function, name)
            argument = bound.get(name, node)
            value = self._lowering.expressions.value(argument) if name in bound else Constant(parameter.default)
            wanted = self.expected(node, hints[name])
            accepted = wanted.accept(self._lowering, argument, value)
            if wanted.anything:
                self._check_meaning(argument, hints[name], accepted, meant)
            found.append(Given(name, argument, wanted, accepted))
        return found

    @staticmethod
    def _undeclared(function: Function, name: str) -> NoReturn:
        """Refuse a parameter, where it stands."""
        source = Source.of(function)
        arguments = source.tree.args
        every = (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)
        place = next((each for each in every if each.arg == name), source.tree)
        reason = f"parameter `{name}` of {function.__name__} has no annotation: declare its type"
        raise CompileError(source.location(place), reason)

    def _check_meaning(self, node: ast.AST, hint: Any, value: Value, meant: dict[str, str]) -> None:
        """A type variable means one type in a call, and one that its bound allows."""
        variable = next((each for each in (hint, *typing.get_args(hint)) if isinstance(each, typing.TypeVar)), None)
        if variable is None:
            return
        is_class = typing.get_origin(hint) is type
        if is_class and not (isinstance(value, Constant) and is_record(value.value)):
            self._lowering.fail(node, f"a Struct is wanted, this is {describe(value)}")
        means = describe(value).removesuffix(" | None")
        known = meant.setdefault(variable.__name__, means)
        if known != means and means != "None":
            self._lowering.fail(node, f"{variable.__name__} is {known} in this call, this is {means}")
        bound = variable.__bound__
        if isinstance(bound, type) and issubclass(bound, Record) and not (is_class or is_struct(value)):
            self._lowering.fail(node, f"a {bound.__name__} is wanted, this is {means}")

    def _helper(self, node: ast.Call, function: Function) -> Value:
        self._must_be_there(node, function)
        hints = self.hints(node, function)
        bound = self.bind(node, function)
        arguments: list[Argument] = []
        used_map: MapDeclaration[Any, Any] | None = None
        for name, argument in bound.items():
            hint = hints[name]
            if isinstance(typing.get_origin(hint), type) and issubclass(typing.get_origin(hint), MapDeclaration):
                used_map = self._map_argument(argument, typing.get_origin(hint))
                arguments.append(self._lowering.maps.address(argument, used_map))
            elif isinstance(hint, typing.TypeVar) and used_map is not None:
                arguments.append(self._lowering.maps.stored(argument, used_map.key_annotation, "key"))
            elif hint in (Data, Into, Exact):
                arguments += self._bytes(argument, hint)
            elif hint == Text:
                arguments.append(self._constant_text(argument))
            elif hint == KernelObject:
                arguments.append(self.kernel_object(argument))
            else:
                arguments.append(self.plain_argument(argument, self.expected(argument, hint)))
        return self._call(node, function.__bpf_helper__, arguments, hints["return"])  # type: ignore[attr-defined]  # marked

    def _must_be_there(self, node: ast.Call, function: Function) -> None:
        target = self._lowering.target
        number = function.__bpf_helper__  # type: ignore[attr-defined]  # marked
        if target.helpers is not None and number not in target.helpers:
            from pybpfasm.lang.target_data import HELPERS, KERNELS

            name = function.__name__
            newest = (max(masks[index].bit_length() for masks in HELPERS.values()) for index in range(len(KERNELS)))
            since = next(kernel for kernel, found in zip(KERNELS, newest, strict=True) if found > number)
            lacks = f"Linux {target.name}, for which this is compiled, has no helper {name}"
            self._lowering.fail(node, f"{lacks}: {since} has, give a target")

    def _bytes(self, node: ast.expr, hint: Any) -> list[Argument]:
        """An address, and unless the kernel knows it the size."""
        base, size = self._lowering.maps.data(node, to_write=hint != Data)
        return [base] if hint == Exact else [base, size]

    def _constant_text(self, node: ast.expr) -> Argument:
        """Where a constant lies among what is read-only, with a zero behind it."""
        found = self._lowering.expressions.constant(node)
        if not isinstance(found, bytes) or not found or b"\0" in found:
            self._lowering.fail(node, "a constant text without zeros is wanted here, such as b'abc'")
        return self._lowering.variables.text(found + b"\0")

    def kernel_object(self, node: ast.expr) -> Argument:
        """A pointer to an object of the kernel's, of whatever kind the helper takes: the verifier looks at it."""
        value = self._lowering.expressions.value(node)
        if isinstance(value, KernelPlace):
            value = self._lowering.kernel.pointer(node, value)
        if not isinstance(value, Pointer):
            self._lowering.fail(node, f"an object of the kernel's is wanted here, this is {describe(value)}")
        if value.nullable:
            self._lowering.fail(node, "this may be None: test it first")
        return value.operand

    def plain_argument(self, node: ast.expr, wanted: Expected) -> Argument:
        """A number or an address, as it is handed to a helper."""
        value = wanted.accept(self._lowering, node, self._lowering.expressions.value(node))
        if isinstance(value, Pointer):
            return value.operand
        if isinstance(value, Scalar | Constant):
            return self._lowering.expressions.operand(node, value)
        self._lowering.fail(node, f"{describe(value)} cannot be handed to a helper")

    def _map_argument(self, node: ast.expr, kind: type[MapDeclaration[Any, Any]]) -> MapDeclaration[Any, Any]:
        value = self._lowering.expressions.value(node)
        if isinstance(value, Constant) and isinstance(value.value, kind):
            return value.value
        self._lowering.fail(node, f"a {kind.__name__} is wanted, this is {describe(value)}")

    def _optval(self, node: ast.Call, pointer: Pointer) -> Value:
        """The buffer of a getsockopt, if `size` bytes of it can be reached: the comparison the verifier looks for."""
        lowering = self._lowering
        argument = self.bind(node, Sockopt(), method="optval")["as_type"]
        struct = lowering.expressions.constant(argument)
        if not is_record(struct):
            lowering.fail(argument, "a Struct is wanted")
        layout = struct.__layout__
        return lowering.packets.bounded(node, pointer.operand, (_OPTVAL, _OPTVAL_END, 8), layout)

    def _buffer(self, node: ast.Call) -> Place:
        size = self._lowering.expressions.constant(self.bind(node, Buffer)["size"])
        if not isinstance(size, int) or not 1 <= size <= MOST_BYTES:
            self._lowering.fail(node, f"a buffer has 1 to {MOST_BYTES} bytes")
        place = Place(StackAddress(self._lowering.slot(size, "buffer")), 0, ArrayType(IntType(8), size))
        self._lowering.access.clear(node, place, size)
        return place

    def _conversion(self, node: ast.Call, function: Function) -> Value:
        bits, to_network = _CONVERSIONS[function]
        argument = next(iter(self.bind(node, function).values()))
        value = self._lowering.expressions.value(argument)
        network = NetworkType(bits)
        wanted = Expected(any_int=True) if to_network else Expected(scalar=network)
        wanted.accept(self._lowering, argument, value)
        if isinstance(value, Constant):
            return Constant(function(value.value))
        assert isinstance(value, Scalar)  # noqa: S101 - accepted as a number, and no constant
        target = self._lowering.value()
        self._lowering.emit(Swap(target, value.operand, bits, self._lowering.location(node)))
        limit = None if to_network or bits == 64 else (1 << bits) - 1
        # The verifier takes a number whose bytes were exchanged for an unknown one.
        return Scalar(target, network if to_network else UNSIGNED, limit, seen=False)

    def _address_constant(self, node: ast.Call) -> Value:
        argument = self.bind(node, lang.ip4)["address"]
        text = self._lowering.expressions.constant(argument)
        if not isinstance(text, str) and not hasattr(text, "packed"):
            self._lowering.fail(argument, "an address is wanted, such as '10.0.0.1'")
        try:
            return Constant(lang.ip4(text))
        except ValueError as error:
            self._lowering.fail(argument, str(error))

    def _call(self, node: ast.AST, helper: int, arguments: list[Argument], result: Any) -> Value:
        location = self._lowering.location(node)
        if result is None or result is type(None):
            self._lowering.emit(Call(None, int(helper), tuple(arguments), location))
            return Constant(None)
        target = self._lowering.value()
        self._lowering.emit(Call(target, int(helper), tuple(arguments), location))
        type_ = value_type(result)
        if type_ == SIGNED:
            return Scalar(target, SIGNED)
        assert isinstance(type_, IntType)  # noqa: S101 - as helpers are declared
        # The verifier takes what a helper answers for any number.
        return Scalar(target, UNSIGNED, None if type_.bits == 64 else (1 << type_.bits) - 1, seen=False)

    def bind(self, node: ast.Call, function: Any, method: str | None = None) -> dict[str, ast.expr]:
        """The call's arguments by the names of the parameters they go to."""
        for argument in node.args:
            if isinstance(argument, ast.Starred):
                self._lowering.fail(argument, "`*` is not supported: write the arguments out")
        keywords = {}
        for keyword in node.keywords:
            if keyword.arg is None:
                self._lowering.fail(keyword.value, "`**` is not supported: write the arguments out")
            keywords[keyword.arg] = keyword.value
        target = getattr(function, method) if method else function
        try:
            bound = bind(target, node.args, keywords)
        except TypeError as error:
            self._lowering.fail(node, f"{target.__name__}(): {error}")
        # Arguments are evaluated in the order of the parameters; Python evaluates them as they are written.
        if [id(each) for each in bound.values()] != [id(each) for each in (*node.args, *keywords.values())]:
            self._lowering.fail(node, f"write the arguments of {target.__name__}() in the order of its parameters")
        return bound

    def hints(self, node: ast.AST, function: Function) -> dict[str, Any]:
        """A function's annotations."""
        try:
            return hints_of(function)
        except AnnotationError as error:
            self._lowering.fail(node, f"{function.__name__}: {error}")

    def expected(self, node: ast.AST, annotation: Any) -> Expected:
        """What an annotation declares."""
        try:
            return expected(annotation)
        except AnnotationError as error:
            self._lowering.fail(node, str(error))


def _of_registers(pointer: Pointer) -> bool:
    """Whether a method is one of registers. What compiles it is imported by programs that use it only."""
    return getattr(pointer.target, "uapi", "") in ("bpf_user_pt_regs_t", "bpf_perf_event_data")


def _marked(function: Any, mark: str) -> bool:
    return isinstance(function, FunctionType) and hasattr(function, mark)


def _is_one_of(function: Any, table: dict[Function, Any]) -> bool:
    return isinstance(function, FunctionType) and function in table
