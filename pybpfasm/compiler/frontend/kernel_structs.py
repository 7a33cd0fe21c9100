"""Fields of the kernel's structs: where they lie, by the kernel's types, and how they are read.

What the verifier knows the type of is read by a load, which gives 0 if the address is wrong; any other address is
handed to bpf_probe_read_kernel, which does the same.

    %2 kernel = load64 [%1 kernel+1512]            %2 untrusted = add %1, 1512
                                                   call 113(&slot0, 8, %2)
                                                   %3 = load64 [&slot0]
"""

from __future__ import annotations

import ast
import types
import typing
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pybpfasm.btf import BtfError, NotFoundError, kinds
from pybpfasm.compiler.frontend.annotations import AnnotationError
from pybpfasm.compiler.frontend.values import (
    BOOL,
    SIGNED,
    UNSIGNED,
    BitField,
    KernelPlace,
    KernelType,
    Place,
    Pointer,
    Scalar,
    Value,
)
from pybpfasm.compiler.kernel_types import KernelTypes, Member, told
from pybpfasm.ir.operations import Argument, Binary, Call, Extend, Number, StackAddress
from pybpfasm.ir.operations import Value as IrValue
from pybpfasm.ir.types import SCALAR, Kind, Type
from pybpfasm.isa import Alu
from pybpfasm.lang.kernel_structs import KernelStruct, kernel_pointer
from pybpfasm.lang.types import (
    ArrayType,
    IntType,
    KptrType,
    LayoutError,
    NetworkType,
    StructType,
    TextType,
    ValueType,
    value_type,
)
from pybpfasm.records import evolve, frozen
from pybpfasm.uapi import Helper, ProgramType

if TYPE_CHECKING:
    from pybpfasm.compiler.frontend.lowering import Lowering

_BOOL_BYTES = 1
_ADDRESS_BYTES = 8


@frozen
class Declared:
    """What a program says that a field or a parameter is: a layout, bool, or a struct of the kernel."""

    layout: ValueType | None = None
    struct: KernelType | None = None
    nullable: bool = False
    boolean: bool = False
    any_int: bool = False

    def __str__(self) -> str:
        if self.struct is not None:
            return self.struct.name + (" | None" if self.nullable else "")
        return "bool" if self.boolean else "int" if self.any_int else str(self.layout)


class KernelStructs:
    """Compiles the use of what lies in the kernel's memory."""

    def __init__(self, lowering: Lowering, known: KernelTypes) -> None:
        self._lowering = lowering
        self.types = known

    def field(self, node: ast.Attribute, owner: Pointer | KernelPlace) -> Value:
        """The value of a field."""
        place, member, declared = self._find(node, owner)
        return self.read(node, self._at(place, member.offset), member, declared)

    def write(self, node: ast.Attribute, owner: Pointer | KernelPlace, value_node: ast.AST, value: Value) -> None:
        """Assign a field, which the kernel lets few programs do; the verifier says which fields."""
        lowering = self._lowering
        place, member, declared = self._find(node, owner)
        if lowering.kind.program_type != ProgramType.STRUCT_OPS or place.pointer.kind is not Kind.KERNEL:
            lowering.fail(node, "the kernel's memory cannot be assigned by this program")
        layout = declared.layout
        if not isinstance(layout, IntType | NetworkType) or member.bits is not None:
            lowering.fail(node, "only numbers are assigned in the kernel's memory")
        operand = lowering.memory.fitting(value_node, value, layout, f"{place.target.name}.{node.attr}")
        offset = place.offset + member.offset
        lowering.access.store(node, _address(place.pointer), offset, layout.size, operand)

    def read(self, node: ast.AST, place: KernelPlace, member: Member, declared: Declared) -> Value:
        """What lies at a place, as what it is declared."""
        record = self.types.record(member.type_id)
        if declared.struct is not None and not isinstance(record, kinds.Ptr):
            return evolve(place, target=declared.struct)
        if member.bits is not None:
            return self._bits(node, place, member)
        if declared.struct is not None and isinstance(record, kinds.Ptr):
            known = isinstance(self.types.record(record.type_id), kinds.Struct | kinds.Union)
            return self._pointer(node, place, declared, known=known)
        if declared.boolean:
            return Scalar(self._loaded(node, place, _BOOL_BYTES), BOOL)
        layout = declared.layout
        if declared.any_int:
            bits, signed = self._number_type(member.type_id)
            layout = IntType(bits, signed=signed)
        assert layout is not None  # noqa: S101 - neither a struct nor bool
        if isinstance(layout, IntType | NetworkType):
            return self._lowering.memory.number(self._loaded(node, place, layout.size), layout, node)
        assert not isinstance(layout, KptrType)  # noqa: S101 - no struct of the kernel declares one
        return self._copied(node, place, layout)

    def pointer(self, node: ast.AST, place: KernelPlace) -> Pointer:
        """A struct in place, as a pointer to it."""
        if not place.offset:
            return evolve(place.pointer, target=place.target)
        kind = place.pointer.kind
        return Pointer(self._moved(node, place, Type(kind)), place.target, kind=kind)

    def declared(self, node: ast.AST, annotation: Any, what: str) -> Declared:
        """What an annotation of a field or of a parameter says."""
        try:
            return declared_as(annotation)
        except AnnotationError as error:
            self._lowering.fail(node, f"{what}: {error}")

    def check(self, node: ast.AST, declared: Declared, type_id: int, what: str, *, bits: int | None = None) -> None:
        """Refuse a declaration that the kernel's own type does not bear out."""
        record = self.types.record(type_id)
        reason = self._mismatch(declared, record, type_id, bits)
        if reason:
            theirs = told(self.types.btf, type_id)
            self._lowering.fail(node, f"{what} is declared {declared}, the kernel has `{theirs}`: {reason}")

    def rules(self) -> dict[Callable[..., Any], Callable[[ast.Call], Value]]:
        """What compiles a call of each function."""
        return {kernel_pointer: self._cast}

    def _cast(self, node: ast.Call) -> Value:
        """The result of `kernel_pointer`."""
        lowering = self._lowering
        bound = lowering.calls.bind(node, kernel_pointer)
        target = self.class_argument(bound["as_type"])
        return Pointer(self.address_operand(bound["address"]), target, kind=Kind.UNTRUSTED)

    def class_argument(self, node: ast.expr) -> KernelType:
        """An argument that names a struct of the kernel."""
        found = self._lowering.expressions.constant(node)
        if not is_kernel_struct(found):
            self._lowering.fail(node, "a KernelStruct is wanted")
        return KernelType(found)

    def address_operand(self, node: ast.expr) -> Number:
        """An argument that is an address: a number, or a pointer to a struct of the kernel."""
        lowering = self._lowering
        value = lowering.expressions.value(node)
        if isinstance(value, KernelPlace):
            value = self.pointer(node, value)
        if isinstance(value, Pointer) and isinstance(value.target, KernelType):
            return value.operand
        return lowering.expressions.operand(node, lowering.expressions.as_number(node, value))

    def _find(self, node: ast.Attribute, owner: Pointer | KernelPlace) -> tuple[KernelPlace, Member, Declared]:
        lowering = self._lowering
        if isinstance(owner, Pointer):
            if owner.nullable:
                lowering.memory.untested(node)
            assert isinstance(owner.target, KernelType)  # noqa: S101 - as the caller knows
            owner = KernelPlace(owner, 0, owner.target)
        struct = owner.target
        try:
            hints = _fields(struct.declared)
        except (NameError, AttributeError, TypeError, SyntaxError) as error:
            lowering.fail(node, f"the fields of {struct.name} cannot be evaluated: {error}")
        if node.attr not in hints:
            lowering.memory.unknown(node, struct.name, list(hints))
        what = f"{struct.name}.{node.attr}"
        declared = self.declared(node, hints[node.attr], what)
        try:
            self.types.struct(struct.name)
        except NotFoundError:
            lowering.fail(node, f"this kernel has no struct {struct.name}: name it as the kernel does, or by name=…")
        except BtfError as error:
            lowering.fail(node, str(error))
        try:
            member = self.types.member(struct.name, node.attr)
        except NotFoundError:
            lowering.fail(node, f"this kernel's struct {struct.name} has no field `{node.attr}`")
        except BtfError as error:
            lowering.fail(node, str(error))
        self.check(node, declared, member.type_id, what, bits=member.bits)
        return owner, member, declared

    def _mismatch(self, declared: Declared, record: kinds.Record, type_id: int, bits: int | None) -> str:
        btf = self.types.btf
        if declared.struct is not None:
            return self._other_struct(declared.struct, record)
        if bits is not None:
            return "" if isinstance(declared.layout, IntType) else "a bit field is a number"
        size = btf.size_of(type_id)
        if declared.any_int:
            return "" if _is_number(record) and size <= _ADDRESS_BYTES else "that is no number"
        if declared.boolean:
            return "" if _is_number(record) and size == _BOOL_BYTES else "that is no bool"
        layout = declared.layout
        assert layout is not None  # noqa: S101 - all else has been told
        if isinstance(layout, IntType | NetworkType):
            if not _is_number(record):
                return "that is no number"
        elif isinstance(layout, TextType | ArrayType) and not isinstance(record, kinds.Array):
            return "that is no array"
        return "" if size == layout.size else f"it has {size} bytes, and not {layout.size}"

    def _other_struct(self, wanted: KernelType, record: kinds.Record) -> str:
        found = self.types.record(record.type_id) if isinstance(record, kinds.Ptr) else record
        if isinstance(record, kinds.Ptr) and isinstance(found, kinds.Void):
            return ""
        if isinstance(found, kinds.Struct | kinds.Union | kinds.Fwd) and found.name in ("", wanted.name):
            return ""
        return f"that is no struct {wanted.name}"

    def _at(self, place: KernelPlace, offset: int) -> KernelPlace:
        return evolve(place, offset=place.offset + offset)

    def _pointer(self, node: ast.AST, place: KernelPlace, declared: Declared, *, known: bool) -> Pointer:
        assert declared.struct is not None  # noqa: S101 - the caller has looked
        trusted = known and place.pointer.kind is Kind.KERNEL
        kind = Kind.KERNEL if trusted else Kind.UNTRUSTED
        loaded = self._loaded(node, place, _ADDRESS_BYTES, Type(kind, declared.nullable))
        return Pointer(loaded, declared.struct, declared.nullable, kind)

    def _bits(self, node: ast.AST, place: KernelPlace, member: Member) -> Scalar:
        size = self.types.btf.size_of(member.type_id)
        record = self.types.record(member.type_id)
        signed = bool(getattr(record, "signed", False))
        assert member.bits is not None  # noqa: S101 - the caller has looked
        field = BitField(member.bits, member.shift, size)
        whole = self._as_place(node, place, IntType(size * 8, signed=signed), size)
        value = self._lowering.memory.read(evolve(whole, bits=field), node)
        assert isinstance(value, Scalar)  # noqa: S101 - a bit field is a number
        return value

    def _copied(self, node: ast.AST, place: KernelPlace, layout: StructType | TextType | ArrayType) -> Place:
        """A text, an array, a struct of numbers: where it is, or a copy on the stack."""
        return self._as_place(node, place, layout, layout.size)

    def _as_place(self, node: ast.AST, place: KernelPlace, type_: ValueType, size: int) -> Place:
        if place.pointer.kind is Kind.KERNEL:
            return Place(_address(place.pointer), place.offset, type_)
        return Place(self.probe(node, self._moved(node, place, SCALAR), size), 0, type_)

    def _loaded(self, node: ast.AST, place: KernelPlace, size: int, type_: Type = SCALAR) -> IrValue:
        access = self._lowering.access
        if place.pointer.kind is Kind.KERNEL:
            return access.load(node, _address(place.pointer), place.offset, size, type_)
        copied = self.probe(node, self._moved(node, place, SCALAR), size)
        return access.load(node, copied, 0, size, type_)

    def probe(self, node: ast.AST, address: Argument, size: int) -> StackAddress:
        """A copy of the kernel's memory; zeros where there is none."""
        lowering = self._lowering
        slot = StackAddress(lowering.slot(size))
        lowering.emit(Call(None, Helper.PROBE_READ_KERNEL, (slot, size, address), lowering.location(node)))
        return slot

    def _moved(self, node: ast.AST, place: KernelPlace, type_: Type) -> IrValue:
        base = place.pointer.operand
        if place.offset == 0 and isinstance(base, IrValue):
            return base
        result = self._lowering.value(type_)
        self._lowering.emit(Binary(Alu.ADD, result, base, place.offset, self._lowering.location(node)))
        return result

    def cut(self, node: ast.AST, value: IrValue, declared: Declared, type_id: int | None) -> Scalar:
        """A number that was handed over in 64 bits, of which only those of its type count."""
        lowering = self._lowering
        if declared.boolean:
            low = self._extended(node, value, 8, signed=False)
            return Scalar(low, BOOL)
        if declared.any_int:
            bits, signed = self._number_type(type_id)
            type_: IntType | NetworkType = IntType(bits, signed=signed)
        else:
            assert isinstance(declared.layout, IntType | NetworkType)  # noqa: S101 - the caller has looked
            type_ = declared.layout
        if isinstance(type_, NetworkType):
            low = value if type_.bits == 64 else self._extended(node, value, type_.bits, signed=False)
            return Scalar(low, type_)
        return lowering.numbers.cut(node, Scalar(value, SIGNED if type_.signed else UNSIGNED), type_)

    def _number_type(self, type_id: int | None) -> tuple[int, bool]:
        if type_id is None:
            return 64, False
        record = self.types.record(type_id)
        size: int = self.types.btf.size_of(type_id)
        return size * 8, bool(getattr(record, "signed", False))

    def _extended(self, node: ast.AST, value: IrValue, bits: int, *, signed: bool) -> IrValue:
        result = self._lowering.value()
        self._lowering.emit(Extend(result, value, bits, signed, self._lowering.location(node)))
        return result


def is_kernel_struct(found: Any) -> bool:
    """Whether a Python object declares a struct of the kernel."""
    return isinstance(found, type) and issubclass(found, KernelStruct) and found is not KernelStruct


def declared_as(annotation: Any) -> Declared:
    """What an annotation says; raises `AnnotationError` if nothing that lies in the kernel is like it."""
    if annotation is bool:
        return Declared(boolean=True)
    if annotation is int:
        return Declared(any_int=True)
    if is_kernel_struct(annotation):
        return Declared(struct=KernelType(annotation))
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union:
        parts = [each for each in typing.get_args(annotation) if each is not type(None)]
        if len(parts) == 1 and is_kernel_struct(parts[0]):
            return Declared(struct=KernelType(parts[0]), nullable=True)
        raise AnnotationError("only a KernelStruct can be `… | None` here")
    try:
        layout = value_type(annotation)
    except LayoutError as error:
        raise AnnotationError(str(error)) from None
    if isinstance(layout, KptrType):
        raise AnnotationError("a Kptr is a field of a map's value: name the struct itself")
    return Declared(layout=layout)


def _fields(declared: type[KernelStruct]) -> dict[str, Any]:
    """The declared fields. Python has changed the names that begin with two underscores."""
    hints = typing.get_type_hints(declared, include_extras=True)
    found: dict[str, Any] = {}
    for name, hint in hints.items():
        mangled = next((each for each in _mangles(declared) if name.startswith(each + "__")), "")
        found[name.removeprefix(mangled)] = hint
    found.pop("kernel_name", None)
    return found


def _mangles(declared: type) -> list[str]:
    """What Python has put before such names."""
    return [f"_{each.__name__.lstrip('_')}" for each in declared.__mro__]


def _is_number(record: kinds.Record) -> bool:
    return isinstance(record, kinds.Int | kinds.Enum | kinds.Enum64 | kinds.Ptr)


def _address(pointer: Pointer) -> IrValue:
    assert isinstance(pointer.operand, IrValue)  # noqa: S101 - 0 is None
    return pointer.operand
