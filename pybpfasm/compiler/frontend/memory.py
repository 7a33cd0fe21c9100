"""Fields and structs in memory: reading, writing, copying, building them on the stack."""

import ast
import difflib
from typing import TYPE_CHECKING, Any, NoReturn, get_args, get_type_hints

import attrs

from pybpfasm.compiler.frontend.annotations import conversion_hint
from pybpfasm.compiler.frontend.values import (
    SIGNED,
    UNSIGNED,
    BoolType,
    Constant,
    Elements,
    Place,
    Pointer,
    Scalar,
    Value,
    describe,
    known_operand,
    target_name,
)
from pybpfasm.ir.operations import Base, Binary, Extend, Load, Location, Number, StackAddress, Store
from pybpfasm.ir.operations import Value as IrValue
from pybpfasm.ir.types import SCALAR, Kind, Type
from pybpfasm.isa import Alu
from pybpfasm.lang.contexts import Context, ContextField, Sock
from pybpfasm.lang.types import IntType, NetworkType, Struct, StructType, TextType, value_type

if TYPE_CHECKING:
    from pybpfasm.compiler.frontend.lowering import Lowering


class Memory:
    """Everything about places."""

    def __init__(self, lowering: "Lowering") -> None:
        self._lowering = lowering

    def field(self, node: ast.Attribute, owner: Value) -> Place:
        """The place of a struct's field."""
        match owner:
            case Pointer(nullable=True):
                self._untested(node)
            case Pointer(operand=IrValue() as address, target=StructType() as layout):
                base, offset = address, 0
            case Place(base=place_base, offset=offset, type=StructType() as layout):
                base = place_base  # type: ignore[assignment]  # of the stack
            case _:
                self._lowering.fail(node, f"{describe(owner)} has no fields")
        field = layout.field(node.attr)
        if field is None:
            self._unknown(node, layout.name, [field.name for field in layout.fields])
        return Place(base, offset + field.offset, field.type)

    def context_field(self, node: ast.Attribute, pointer: Pointer, *, write: bool = False) -> tuple[ContextField, Any]:
        """A context's field: where it lies, and its annotation."""
        if pointer.nullable:
            self._untested(node)
        context = pointer.target
        assert isinstance(context, type)  # noqa: S101 - callers ask for contexts only
        field = getattr(context, node.attr, None)
        if not isinstance(field, ContextField):
            known = [name for name in dir(context) if isinstance(getattr(context, name), ContextField)]
            self._unknown(node, context.__name__, known)
        if write and not field.writable:
            writable = [name for name in dir(context) if getattr(getattr(context, name), "writable", False)]
            listed = f"; these can be: {', '.join(writable)}" if writable else ""
            self._lowering.fail(node, f"{context.__name__}.{node.attr} cannot be assigned{listed}")
        return field, get_type_hints(context, include_extras=True)[node.attr]

    def read_context(self, node: ast.Attribute, pointer: Pointer) -> Value:
        """The value of a context's field."""
        field, annotation = self.context_field(node, pointer)
        if field.width == 8 and _is_socket(annotation):
            loaded = self._load(_base(pointer), field.offset, 8, node, Type(Kind.SOCKET, field.nullable))
            return Pointer(loaded, Sock, field.nullable, Kind.SOCKET)
        type_ = value_type(get_args(annotation)[0] if field.count else annotation)
        assert isinstance(type_, IntType | NetworkType)  # noqa: S101 - contexts hold no structs
        if field.count:
            name = f"{target_name(pointer.target)}.{node.attr}"
            return Elements(_base(pointer), field.offset, field.width, field.count, type_, field.writable, name)
        return self._number(self._load(_base(pointer), field.offset, field.width, node), type_, node)

    def write_context(self, node: ast.Attribute, pointer: Pointer, value_node: ast.AST, value: Value) -> None:
        """Assign a context's field."""
        field, annotation = self.context_field(node, pointer, write=True)
        if field.count:
            self._lowering.fail(node, f"this is an array of {field.count}: assign its elements, {node.attr}[0] = …")
        type_ = value_type(annotation)
        operand = self.fitting(value_node, value, type_, f"{target_name(pointer.target)}.{node.attr}")
        self._store(_base(pointer), field.offset, field.width, operand, self._lowering.location(node))

    def element(self, node: ast.AST, elements: Elements, index: int) -> Value:
        """The value of an array's element."""
        offset = self._element_offset(node, elements, index)
        return self._number(self._load(elements.base, offset, elements.width, node), elements.type, node)

    def write_element(self, node: ast.AST, elements: Elements, index: int, value_node: ast.AST, value: Value) -> None:
        """Assign an array's element."""
        if not elements.writable:
            self._lowering.fail(node, f"{elements.name} cannot be assigned")
        offset = self._element_offset(node, elements, index)
        operand = self.fitting(value_node, value, elements.type, f"{elements.name}[{index}]")
        self._store(elements.base, offset, elements.width, operand, self._lowering.location(node))

    def _element_offset(self, node: ast.AST, elements: Elements, index: int) -> int:
        if not 0 <= index < elements.count:
            self._lowering.fail(node, f"index {index} is outside the array's {elements.count} elements")
        return elements.offset + index * elements.width

    def length_of(self, value: Value) -> int | None:
        """How many elements something has, or None."""
        match value:
            case Elements(count=count):
                return count
            case Constant(value=str() | bytes() | tuple() | range() as constant):
                return len(constant)
            case _:
                return None

    def read(self, place: Place, node: ast.AST) -> Value:
        """The number at a place; a struct stays where it is."""
        if isinstance(place.type, StructType | TextType):
            return place
        return self._number(self._load(place.base, place.offset, place.type.size, node), place.type, node)

    def write(self, place: Place, node: ast.AST, value_node: ast.AST, value: Value, name: str) -> None:
        """Put a value into a place, which wraps a wider number; a struct is copied."""
        if isinstance(place.type, StructType):
            if isinstance(value, Constant) and getattr(value.value, "__layout__", None) == place.type:
                self._write_constant(place, place.type, node, value.value)
            else:
                self._copy(place, value_node, value, name)
            return
        operand = self.fitting(value_node, value, place.type, name)
        self._store(place.base, place.offset, place.type.size, operand, self._lowering.location(node))

    def construct(self, node: ast.Call, struct: type[Struct], into: Place | None = None) -> Place:
        """Build a struct on the stack, each byte of it set, padding to zero."""
        layout = struct.__layout__
        given = self._fields_given(node, layout)
        place = into or Place(StackAddress(self._lowering.slot(layout.size, layout.name)), 0, layout)
        if into is None:
            self._clear_uncovered(place, layout, node)
        # As Python does: values are evaluated in the order in which they are written.
        written = {name: position for position, name in enumerate(given)}
        for field in sorted(layout.fields, key=lambda each: written.get(each.name, len(written))):
            target = Place(place.base, place.offset + field.offset, field.type)
            name = f"{layout.name}.{field.name}"
            if field.name not in given:
                self.write(target, node, node, Constant(field.default), name)
                continue
            value_node = given[field.name]
            nested = self._nested_constructor(value_node, field.type)
            if nested is not None:
                self.construct(*nested, into=target)
            else:
                self.write(target, value_node, value_node, self._lowering.expressions.value(value_node), name)
        return place

    def address(self, place: Place, node: ast.AST) -> Base:
        """The address of a place, to hand to a helper."""
        if isinstance(place.base, StackAddress):
            return StackAddress(place.base.slot, place.base.offset + place.offset)
        if place.offset == 0:
            return place.base
        assert isinstance(place.base, IrValue)  # noqa: S101 - of three kinds of addresses the one that is left
        target = self._lowering.value(place.base.type)
        self._lowering.emit(Binary(Alu.ADD, target, place.base, place.offset, self._lowering.location(node)))
        return target

    def spill(self, node: ast.AST, operand: Number, size: int) -> StackAddress:
        """A number on the stack, where a helper can read it until the call is done."""
        slot = self._lowering.slot(size)
        location = self._lowering.location(node)
        self._store(StackAddress(slot), 0, size, operand, location)
        return StackAddress(slot)

    def _nested_constructor(self, node: ast.expr, type_: Any) -> tuple[ast.Call, type[Struct]] | None:
        if not isinstance(node, ast.Call) or not isinstance(type_, StructType):
            return None
        function = self._lowering.expressions.value(node.func)
        if isinstance(function, Constant) and getattr(function.value, "__layout__", None) == type_:
            return node, function.value
        return None

    def _fields_given(self, node: ast.Call, layout: StructType) -> dict[str, ast.expr]:
        if node.args:
            self._lowering.fail(node.args[0], f"name the fields: {layout.name}(field=…)")
        given: dict[str, ast.expr] = {}
        for keyword in node.keywords:
            if keyword.arg is None:
                self._lowering.fail(keyword.value, "`**` is not supported: name the fields")
            if layout.field(keyword.arg) is None:
                self._unknown(keyword, layout.name, [field.name for field in layout.fields], keyword.arg)
            given[keyword.arg] = keyword.value
        missing = [field.name for field in layout.fields if field.required and field.name not in given]
        if missing:
            self._lowering.fail(node, f"{layout.name} lacks {', '.join(missing)}")
        return given

    def _clear_uncovered(self, place: Place, layout: StructType, node: ast.AST) -> None:
        covered = _covered_bytes(layout)
        location = self._lowering.location(node)
        for start in range(0, -(-layout.size // 8) * 8, 8):
            if not set(range(start, start + 8)) <= covered:
                self._store(place.base, place.offset + start, 8, 0, location)

    def _write_constant(self, place: Place, layout: StructType, node: ast.AST, struct: Struct) -> None:
        for field in layout.fields:
            target = Place(place.base, place.offset + field.offset, field.type)
            self.write(target, node, node, Constant(getattr(struct, field.name)), f"{layout.name}.{field.name}")

    def _copy(self, place: Place, value_node: ast.AST, value: Value, name: str) -> None:
        layout = place.type
        assert isinstance(layout, StructType)  # noqa: S101 - only structs are copied
        match value:
            case Pointer(operand=IrValue() as address, target=target, nullable=False) if target == layout:
                base, offset = address, 0
            case Place(base=source_base, offset=offset, type=type_) if type_ == layout:
                base = source_base  # type: ignore[assignment]  # of the stack
            case _:
                self._lowering.fail(value_node, f"{name} is {layout.name}, this is {describe(value)}")
        at = 0
        while at < layout.size:
            width = _copy_width(offset + at, place.offset + at, layout.size - at)
            loaded = self._load(base, offset + at, width, value_node)
            self._store(place.base, place.offset + at, width, loaded, self._lowering.location(value_node))
            at += width

    def fitting(self, node: ast.AST, value: Value, type_: Any, name: str) -> Number:
        """The operand of a number that is to be stored as `type_`; `name` says where, for the error."""
        operand = known_operand(value)
        if isinstance(type_, TextType) or operand is None:
            self._lowering.fail(node, f"{name} is {type_}, this is {describe(value)}")
        found = self._lowering.expressions.scalar_type(value)
        if isinstance(type_, NetworkType) and found != type_:
            self._lowering.fail(node, f"{name} is {type_}, this is {describe(value)}{conversion_hint(value, type_)}")
        if isinstance(type_, IntType):
            if isinstance(found, NetworkType):
                self._lowering.fail(node, f"{name} is {type_}, this is {found}{conversion_hint(value, type_)}")
            highest = 1 << type_.bits - type_.signed
            if isinstance(value, Constant) and not -(1 << type_.bits - 1) <= int(value.value) < highest:
                self._lowering.fail(node, f"{int(value.value)} does not fit {name}, which is {type_}")
        return operand

    def _load(self, base: Base, offset: int, size: int, node: ast.AST, type_: Type = SCALAR) -> IrValue:
        target = self._lowering.value(type_)
        narrow = not isinstance(base, IrValue) or base.type.kind is not Kind.CONTEXT
        self._lowering.emit(Load(target, base, offset, size, self._lowering.location(node), narrow=narrow))
        return target

    def _store(self, base: Base, offset: int, size: int, source: Number, location: Location) -> None:
        self._lowering.emit(Store(base, offset, size, source, location))

    def _number(self, loaded: IrValue, type_: IntType | NetworkType | BoolType, node: ast.AST) -> Scalar:
        if not isinstance(type_, IntType):
            return Scalar(loaded, type_)
        limit = None if type_.signed or type_.bits == 64 else (1 << type_.bits) - 1
        if type_.signed and type_.bits < 64:
            extended = self._lowering.value()
            self._lowering.emit(Extend(extended, loaded, type_.bits, True, self._lowering.location(node)))
            loaded = extended
        return Scalar(loaded, SIGNED if type_.signed else UNSIGNED, limit)

    def _untested(self, node: ast.Attribute) -> NoReturn:
        test = f"`if {ast.unparse(node.value)} is None`"
        self._lowering.fail(node.value, f"this may be None: test it first, {test}")

    def _unknown(self, node: ast.AST, owner: str, known: list[str], name: str = "") -> NoReturn:
        wanted = name or str(getattr(node, "attr", ""))
        close = difflib.get_close_matches(wanted, known, n=1)
        hint = f": did you mean `{close[0]}`?" if close else f"; it has {', '.join(known)}"
        self._lowering.fail(_name_place(node), f"{owner} has no field `{wanted}`{hint}")


def _name_place(node: ast.AST) -> ast.AST:
    """Where an attribute's own name stands, which is what a message about it points to."""
    if not isinstance(node, ast.Attribute) or node.end_col_offset is None:
        return node
    place = ast.Name(node.attr)
    place.lineno, place.col_offset = node.end_lineno or node.lineno, node.end_col_offset - len(node.attr)
    return place


def _copy_width(offset: int, target_offset: int, left: int) -> int:
    """How many bytes can be copied at once; that a packet may begin anywhere matters to no machine that we run on."""
    return next(width for width in (8, 4, 2, 1) if width <= left and offset % width == target_offset % width == 0)


def _is_socket(annotation: Any) -> bool:
    parts = getattr(annotation, "__args__", (annotation,))
    return any(isinstance(part, type) and issubclass(part, Context) for part in parts)


def _covered_bytes(layout: StructType, base: int = 0) -> set[int]:
    covered: set[int] = set()
    for field in layout.fields:
        if isinstance(field.type, StructType):
            covered |= _covered_bytes(field.type, base + field.offset)
        else:
            covered |= set(range(base + field.offset, base + field.offset + field.type.size))
    return covered


def _base(pointer: Pointer) -> IrValue:
    """The address of what a pointer that is not None points to."""
    assert isinstance(pointer.operand, IrValue)  # noqa: S101 - 0 is None
    return pointer.operand


def with_pointer_checked(pointer: Pointer) -> Pointer:
    """The same pointer, known not to be None."""
    return attrs.evolve(pointer, nullable=False)
