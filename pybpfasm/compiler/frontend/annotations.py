"""What a parameter, a result or a local is declared to be, and whether a value fits."""

import ast
import types
import typing
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from pybpfasm.compiler.frontend.values import (
    BOOL,
    SIGNED,
    UNSIGNED,
    BoolType,
    Constant,
    KernelPlace,
    KernelType,
    Place,
    Pointer,
    PointerTarget,
    Scalar,
    Value,
    describe,
    shown,
    target_name,
)
from pybpfasm.ir.types import Kind
from pybpfasm.lang.contexts import Context
from pybpfasm.lang.kernel_structs import KernelStruct
from pybpfasm.lang.types import IntType, NetworkType, StructType, be16, be32, be64, is_record, value_type
from pybpfasm.records import frozen

if TYPE_CHECKING:
    from pybpfasm.compiler.frontend.lowering import Lowering


class AnnotationError(Exception):
    """An annotation that says nothing to the compiler; its text is a reason for a `CompileError`."""


@frozen
class Expected:
    """A declared type. `any_int` is plain `int`: signed or unsigned; `anything` is a type variable."""

    scalar: IntType | NetworkType | BoolType | None = None
    any_int: bool = False
    target: PointerTarget | None = None
    nullable: bool = False
    nothing: bool = False
    anything: str = ""

    def __str__(self) -> str:
        if self.nothing:
            return "None"
        if self.any_int:
            return "int"
        if self.anything:
            return self.anything + (" | None" if self.nullable else "")
        if self.target is not None:
            return target_name(self.target) + (" | None" if self.nullable else "")
        return str(self.scalar)

    def pointer_target(self) -> PointerTarget:
        """What the declared pointer points to."""
        assert self.target is not None  # noqa: S101 - asked only where None was accepted, and that takes a pointer
        return self.target

    def accept(self, lowering: "Lowering", node: ast.AST, value: Value) -> Value:
        """The value, if it fits, as what is declared; a compile error at `node` if it does not fit."""
        if isinstance(value, KernelPlace):
            value = lowering.kernel.pointer(node, value)
        value = self._number_of_bool(value)
        if not self._fits(lowering, value):
            lowering.fail(node, self._mismatch(value))
        if isinstance(self.scalar, IntType):
            if isinstance(value, Constant):
                return self._declared_constant(lowering, node, value)
            if self.scalar.bits < 64:
                return lowering.numbers.cut(node, value, self.scalar)
        return value

    def accept_counted(self, lowering: "Lowering", node: ast.AST, value: Value) -> Value:
        """What a loop counts: it fits either sign of 64 bits, as a constant does, where it is known to be small."""
        if not isinstance(self.scalar, IntType):
            return self.accept(lowering, node, value)
        match value:
            case Constant(value=int() as number):
                return Constant(_low_bits(int(number), self.scalar))
            case Scalar(limit=int() as limit) if limit < 1 << 63:
                return lowering.numbers.cut(node, value, self.scalar)
            case _:
                return self.accept(lowering, node, value)

    def _number_of_bool(self, value: Value) -> Value:
        """A bool is a number where one is wanted, as in Python."""
        if not (self.any_int or isinstance(self.scalar, IntType)):
            return value
        if isinstance(value, Constant) and isinstance(value.value, bool):
            return Constant(int(value.value))
        if isinstance(value, Scalar) and value.type == BOOL:
            signed = isinstance(self.scalar, IntType) and self.scalar.signed
            return Scalar(value.operand, SIGNED if signed else UNSIGNED, None if signed else 1)
        return value

    def _declared_constant(self, lowering: "Lowering", node: ast.AST, value: Constant) -> Value:
        """A constant has no sign of its own; from here on it has the declared one."""
        number = int(value.value)
        assert isinstance(self.scalar, IntType)  # noqa: S101 - the caller has looked
        bits, signed = self.scalar.bits, self.scalar.signed
        lowest, highest = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
        if not lowest <= number <= highest:
            lowering.fail(node, f"{shown(number)} does not fit {self.scalar}")
        return Scalar(number, SIGNED) if signed else value

    def _fits(self, lowering: "Lowering", value: Value) -> bool:
        if self.anything:
            is_none = isinstance(value, Constant) and value.value is None
            return self.nullable or not (is_none or (isinstance(value, Pointer) and value.nullable))
        match value:
            case Constant(value=None):
                return self.target is not None and self.nullable
            case Pointer(kind=Kind.CONTEXT) if self.target is Context:
                return True
            case Pointer(target=target, nullable=nullable):
                return self.target is not None and _points_to(target, self.target) and (self.nullable or not nullable)
            case Place(type=StructType() as layout):
                return layout == self.target
            case Scalar() | Constant():
                found = lowering.expressions.scalar_type_or_none(value)
                if self.any_int or isinstance(self.scalar, IntType):
                    is_number = isinstance(found, IntType)
                    narrow = self.scalar is not None and self.scalar.size < 8  # type: ignore[union-attr]  # a number
                    return is_number and (isinstance(value, Constant) or self.any_int or narrow or found == self.scalar)
                return found is not None and found == self.scalar
            case _:
                return False

    def _mismatch(self, value: Value) -> str:
        found = describe(value)
        if isinstance(value, Pointer) and value.nullable and not self.nullable:
            return f"this may be None where {self} is wanted: test `is None` first"
        if isinstance(value, Scalar) and isinstance(value.type, IntType):
            found = str(value.type)
        hint = conversion_hint(value, self.scalar if self.scalar is not None else UNSIGNED if self.any_int else None)
        return f"this is {found} where {self} is wanted{hint}"


def _low_bits(number: int, type_: IntType) -> int:
    low = number & (1 << type_.bits) - 1
    return low - (1 << type_.bits) if type_.signed and low >> type_.bits - 1 else low


_LETTERS = {16: "s", 32: "l", 64: "ll"}


def conversion_hint(value: Value, wanted: IntType | NetworkType | BoolType | None) -> str:
    """How to turn the value into what is wanted, where it is a matter of byte order; else nothing."""
    found = describe(value)
    if found == "int" and isinstance(wanted, NetworkType):
        return f": convert it with hton{_LETTERS[wanted.bits]}()"
    if found in ("be16", "be32", "be64") and isinstance(wanted, IntType):
        return f": convert it with ntoh{_LETTERS[int(found[2:])]}()"
    return ""


def expected(annotation: Any) -> Expected:
    """What an annotation declares; raises `AnnotationError` if it is none that a program can have."""
    if annotation is None or annotation is type(None):
        return Expected(nothing=True)
    if annotation is int:
        return Expected(any_int=True)
    if annotation is bool:
        return Expected(scalar=BOOL)
    if isinstance(annotation, type) and issubclass(annotation, int):
        return Expected(any_int=True)  # an enum: its members are numbers
    if annotation in (be16, be32, be64):
        return Expected(scalar=NetworkType(annotation.bits))
    if isinstance(annotation, typing.TypeVar):
        return Expected(anything=annotation.__name__)
    if typing.get_origin(annotation) is type:
        return Expected(anything=str(annotation))
    target = _pointer_target(annotation)
    if target is not None:
        return Expected(target=target)
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union:
        return _optional(annotation)
    if hasattr(annotation, "__metadata__"):
        return Expected(scalar=_number_type(annotation))
    raise AnnotationError(f"{_name(annotation)} is no type of a BPF program")


@lru_cache(maxsize=1024)
def hints_of(function: Callable[..., Any]) -> dict[str, Any]:
    """The evaluated annotations of a function; `AnnotationError` if one cannot be evaluated."""
    try:
        return typing.get_type_hints(function, include_extras=True)
    except (NameError, AttributeError, TypeError, SyntaxError) as error:
        raise AnnotationError(f"an annotation cannot be evaluated: {error}") from None


def _optional(annotation: Any) -> Expected:
    parts = [part for part in typing.get_args(annotation) if part is not type(None)]
    if len(parts) == 1 and isinstance(parts[0], typing.TypeVar):
        return Expected(anything=parts[0].__name__, nullable=True)
    target = _pointer_target(parts[0]) if len(parts) == 1 else None
    if target is None:
        raise AnnotationError("only a struct or a socket can be `… | None`")
    return Expected(target=target, nullable=True)


def _pointer_target(annotation: Any) -> PointerTarget | None:
    if is_record(annotation):
        return annotation.__layout__  # type: ignore[no-any-return]  # what records have
    if isinstance(annotation, type) and issubclass(annotation, Context):
        return annotation
    if isinstance(annotation, type) and issubclass(annotation, KernelStruct):
        return KernelType(annotation)
    return None


def _number_type(annotation: Any) -> IntType:
    type_ = value_type(annotation)
    if not isinstance(type_, IntType):
        raise AnnotationError(f"{type_} is for fields; a program's own numbers are u8 to u64, i8 to i64 or int")
    return type_


def _points_to(found: PointerTarget, wanted: PointerTarget) -> bool:
    if isinstance(found, type) and isinstance(wanted, type):
        return issubclass(found, wanted)
    return found == wanted


def _name(annotation: Any) -> str:
    return getattr(annotation, "__name__", None) or str(annotation)
