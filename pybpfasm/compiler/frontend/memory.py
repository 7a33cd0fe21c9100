"""Fields and structs in memory: reading, writing, copying, building them on the stack."""

import ast
import sys
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NoReturn, get_args, get_type_hints

from pybpfasm.compiler.frontend.access import on_stack, widest
from pybpfasm.compiler.frontend.annotations import conversion_hint
from pybpfasm.compiler.frontend.context_access import refusal
from pybpfasm.compiler.frontend.diagnostics import CompileError
from pybpfasm.compiler.frontend.values import (
    SIGNED,
    UNSIGNED,
    BitField,
    BoolType,
    Constant,
    Elements,
    Listed,
    Place,
    Pointer,
    Scalar,
    Value,
    count_of,
    describe,
    known_operand,
    shown,
    target_name,
)
from pybpfasm.ir.operations import (
    Base,
    Binary,
    Call,
    Copy,
    Extend,
    Location,
    MapValueAddress,
    Number,
    Slot,
    StackAddress,
    Store,
)
from pybpfasm.ir.operations import Value as IrValue
from pybpfasm.ir.types import SCALAR, Kind, Type
from pybpfasm.isa import Alu
from pybpfasm.lang.context_fields import Context, ContextField
from pybpfasm.lang.context_structs import FlowKeys
from pybpfasm.lang.globals import Global, ReadOnly
from pybpfasm.lang.types import (
    ArrayType,
    Field,
    IntType,
    KptrType,
    NetworkType,
    Record,
    StructType,
    TextType,
    ValueType,
    value_type,
)
from pybpfasm.records import evolve
from pybpfasm.uapi import Helper, ProgramType

if TYPE_CHECKING:
    from pybpfasm.compiler.frontend.lowering import Lowering


# tp_prog_is_valid_access of kernel/trace/bpf_trace.c: there lies an address, of registers.
_HIDDEN_BYTES = 8


# Structs that only the kernel's own functions touch (btf_parse_fields of kernel/bpf/btf.c).
SPECIAL = frozenset(("bpf_spin_lock", "bpf_timer"))


class Memory:
    """Everything about places."""

    def __init__(self, lowering: "Lowering") -> None:
        self._lowering = lowering
        self._moved: dict[Slot, Place] = {}

    def field(self, node: ast.Attribute, owner: Value) -> Place:
        """The place of a struct's field."""
        match owner:
            case Pointer(nullable=True):
                self.untested(node)
            case Pointer() if owner.is_struct:
                whole = self.behind(owner)
            case Place(type=StructType()):
                whole = owner
            case Constant(value=Global() | ReadOnly() as variable) if node.attr == "value":
                return self._lowering.variables.place(node, variable)
            case _:
                self._lowering.fail(node, f"{describe(owner)} has no fields")
        layout = whole.type
        assert isinstance(layout, StructType)  # noqa: S101 - as the cases say
        if layout.name in SPECIAL:
            self._special(node)
        field = layout.field(node.attr)
        if field is None:
            self.unknown(node, layout.name, [field.name for field in layout.fields])
        return inside(whole, field)

    def behind(self, pointer: Pointer) -> Place:
        """The struct that a pointer, which is not None, points to."""
        assert isinstance(pointer.operand, IrValue) and isinstance(pointer.target, StructType)  # noqa: S101, PT018
        alignment = pointer.target.alignment if pointer.kind is Kind.STACK else 8
        return Place(pointer.operand, 0, pointer.target, min(alignment, 8))

    def context_field(self, node: ast.Attribute, pointer: Pointer, *, write: bool = False) -> tuple[ContextField, Any]:
        """A context's field: where it lies, and its annotation."""
        if pointer.nullable:
            self.untested(node)
        context = pointer.target
        assert isinstance(context, type)  # noqa: S101 - callers ask for contexts only
        field = getattr(context, node.attr, None)
        if not isinstance(field, ContextField):
            known = [name for name in dir(context) if isinstance(getattr(context, name), ContextField)]
            self.unknown(node, context.__name__, known)
        refused = self._refused(pointer, node.attr, field, write=write)
        if refused is not None:
            self._lowering.fail(node, f"{context.__name__}.{node.attr} {refused}")
        hashable: Any = context
        return field, _declared(hashable)[node.attr]

    def _refused(self, pointer: Pointer, name: str, field: ContextField, *, write: bool) -> str | None:
        """Why a field cannot be read, or assigned, in words to follow its name."""
        context = pointer.target
        assert isinstance(context, type)  # noqa: S101 - as the caller has seen
        if write and not field.writable:
            return "cannot be assigned" + self._assignable(context)
        if pointer.kind is Kind.CONTEXT:
            return refusal(self._lowering.kind, name, field, self._lowering.target.name, write=write)
        if write and context is not FlowKeys:
            return "can be assigned in a program's own context only"
        return None

    def _assignable(self, context: type) -> str:
        """Which fields of a context the program may assign, for an error."""
        kind, target = self._lowering.kind, self._lowering.target.name
        fields = {name: getattr(context, name) for name in dir(context)}
        names = [
            name
            for name, each in fields.items()
            if getattr(each, "writable", False) and refusal(kind, name, each, target, write=True) is None
        ]
        return f"; these can be: {', '.join(names)}" if names else ""

    def read_context(self, node: ast.Attribute, pointer: Pointer) -> Value:
        """The value of a context's field."""
        field, annotation = self.context_field(node, pointer)
        target = _pointed_to(annotation)
        if target is not None:
            loaded = self._load(_base(pointer), field.offset, 8, node, Type(Kind.SOCKET, field.nullable))
            return Pointer(loaded, target, field.nullable, Kind.SOCKET)
        type_ = value_type(get_args(annotation)[0] if field.count else annotation)
        assert isinstance(type_, IntType | NetworkType)  # noqa: S101 - contexts hold no structs
        if field.count:
            name = f"{target_name(pointer.target)}.{node.attr}"
            refused = self._refused(pointer, node.attr, field, write=True)
            return Elements(_base(pointer), field.offset, field.width, field.count, type_, name, refused)
        return self.number(self._load(_base(pointer), field.offset, field.width, node), type_, node)

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
        return self.number(self._load(elements.base, offset, elements.width, node), elements.type, node)

    def write_element(self, node: ast.AST, elements: Elements, index: int, value_node: ast.AST, value: Value) -> None:
        """Assign an array's element."""
        if elements.refused is not None:
            self._lowering.fail(node, f"{elements.name} {elements.refused}")
        offset = self._element_offset(node, elements, index)
        operand = self.fitting(value_node, value, elements.type, f"{elements.name}[{index}]")
        self._store(elements.base, offset, elements.width, operand, self._lowering.location(node))

    def _element_offset(self, node: ast.AST, elements: Elements, index: int) -> int:
        if not 0 <= index < elements.count:
            self._lowering.fail(node, f"index {shown(index)} is outside the array's {elements.count} elements")
        return elements.offset + index * elements.width

    def length_of(self, value: Value) -> int | None:
        """How many elements something has, or None."""
        match value:
            case Elements(count=count):
                return count
            case Constant(value=str() | bytes() | tuple() | range() as constant):
                count = count_of(constant)
                return None if count == sys.maxsize else count
            case Place(type=ArrayType(count=count)):
                return count
            case Place(type=TextType(size=size)):
                return size
            case _:
                return None

    def read(self, place: Place, node: ast.AST) -> Value:
        """The number at a place; a struct, an array, a text stays where it is."""
        type_ = place.type
        if isinstance(type_, StructType | ArrayType | TextType):
            return place
        if isinstance(type_, KptrType):
            self._lowering.fail(node, "what a map holds is taken out by kptr_xchg(…), and then used")
        if self._is_hidden(place):
            self._lowering.fail(node, "the kernel does not show what all records of tracepoints begin with")
        loaded = self._lowering.access.read(node, place)
        if place.bits is None:
            return self.number(loaded, type_, node)
        if isinstance(type_, IntType) and type_.signed:
            return Scalar(loaded, SIGNED)
        return Scalar(loaded, UNSIGNED, (1 << place.bits.count) - 1)

    def _is_hidden(self, place: Place) -> bool:
        """Whether a place is in what a tracepoint's record begins with."""
        in_record = isinstance(place.base, IrValue) and place.base.type.kind is Kind.CONTEXT
        is_event = self._lowering.kind.program_type == ProgramType.TRACEPOINT
        return in_record and is_event and place.offset < _HIDDEN_BYTES

    def write(self, place: Place, node: ast.AST, value_node: ast.AST, value: Value, name: str) -> None:
        """Put a value into a place, which wraps a wider number; a struct, an array, a text is copied."""
        if isinstance(place.type, StructType) and place.type.name in SPECIAL and not on_stack(place.base):
            self._special(node)
        if isinstance(place.type, IntType | NetworkType):
            operand = self.fitting(value_node, value, place.type, name, place.bits)
            self._lowering.access.write(node, place, operand)
        elif isinstance(value, Listed) and isinstance(place.type, ArrayType):
            self._write_items(place, place.type, node, value_node, value.items, name)
        elif isinstance(value, Constant):
            self._write_constant(place, node, value_node, value.value, name)
        else:
            self._copy(place, value_node, value, name)

    def construct(self, node: ast.Call, struct: type[Record], into: Place | None = None) -> Place:
        """Build a struct on the stack, each byte of it set, padding to zero."""
        layout = struct.__layout__
        given = self._fields_given(node, layout)
        place = into or Place(StackAddress(self._lowering.slot(layout.size, layout.name)), 0, layout)
        if into is None:
            self._clear_uncovered(place, layout, node)
        only = [field for field in layout.fields if field.name in given or not layout.union]
        # As Python does: values are evaluated in the order in which they are written.
        written = {name: position for position, name in enumerate(given)}
        for field in sorted(only, key=lambda each: written.get(each.name, len(written))):
            target = inside(place, field)
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

    def snapshot(self, node: ast.AST, value: Value) -> Value:
        """A value that later assignments do not change: what lies in memory is copied to the stack."""
        match value:
            case Listed(items=items):
                return Listed(tuple(self.snapshot(node, each) for each in items))
            case Pointer(nullable=False) if value.is_struct:
                return self.snapshot(node, self.behind(value))
            case Place(type=StructType() | ArrayType() | TextType() as type_) if not holds_special(type_):
                copied = Place(StackAddress(self._lowering.slot(type_.size)), 0, type_)
                self._lowering.access.copy(node, copied, value)
                return copied
            case _:
                return value

    def address(self, place: Place, node: ast.AST) -> Base:
        """The address of a place, to hand to a helper."""
        if isinstance(place.base, StackAddress):
            return StackAddress(place.base.slot, place.base.offset + place.offset)
        if isinstance(place.base, MapValueAddress):
            return MapValueAddress(place.base.map, place.base.offset + place.offset)
        if place.offset == 0:
            return place.base
        assert isinstance(place.base, IrValue)  # noqa: S101 - of three kinds of addresses the one that is left
        target = self._lowering.value(Type(place.base.type.kind))
        self._lowering.emit(Binary(Alu.ADD, target, place.base, place.offset, self._lowering.location(node)))
        return target

    def special(self, node: ast.expr, type_: type[Record], of: str, on_stack: str) -> Base:
        """The address of a special field (a lock, a timer) in a map's value; `on_stack` is said of one that is not."""
        place = self._lowering.expressions.value(node)
        layout = type_.__layout__
        if not (isinstance(place, Place) and place.type == layout):
            self._lowering.fail(node, f"a {type_.__name__} of a map's value is wanted, this is {describe(place)}")
        address = self.address(place, node)
        if isinstance(address, StackAddress):
            self._lowering.fail(node, f"this {of} is on the stack, {on_stack} of a map's value")
        return address

    def spill(self, node: ast.AST, operand: Number, size: int) -> StackAddress:
        """A number on the stack, where a helper can read it until the call is done."""
        slot = self._lowering.function.slot(size)
        location = self._lowering.location(node)
        self._store(StackAddress(slot), 0, size, operand, location)
        return StackAddress(slot)

    def _nested_constructor(self, node: ast.expr, type_: Any) -> tuple[ast.Call, type[Record]] | None:
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
                self.unknown(keyword, layout.name, [field.name for field in layout.fields], keyword.arg)
            given[keyword.arg] = keyword.value
        if layout.union:
            if len(given) != 1:
                self._lowering.fail(node, f"{layout.name} is a union: give exactly one of its fields")
            return given
        missing = [field.name for field in layout.fields if field.required and field.name not in given]
        if missing:
            self._lowering.fail(node, f"{layout.name} lacks {', '.join(missing)}: give it, or a default")
        return given

    def _clear_uncovered(self, place: Place, layout: StructType, node: ast.AST) -> None:
        covered = _covered_bytes(layout)
        location = self._lowering.location(node)
        for start in range(0, -(-layout.size // 8) * 8, 8):
            if not set(range(start, start + 8)) <= covered:
                self._store(place.base, place.offset + start, 8, 0, location)

    def _write_constant(self, place: Place, node: ast.AST, value_node: ast.AST, value: Any, name: str) -> None:
        """A Python object: a struct of a constant, `b"text"`, a list or a tuple."""
        match place.type:
            case KptrType() if hasattr(type(value), "__layout_of__") and on_stack(place.base):
                self._lowering.access.store(node, place.base, place.offset, place.type.size, 0)
            case StructType() as layout if isinstance(value, Record) and value.__layout__ == layout:
                if layout.union:
                    self._write_bytes(place, node, bytes(value))
                    return
                for field in layout.fields:
                    constant = Constant(getattr(value, field.name))
                    self.write(inside(place, field), node, value_node, constant, f"{layout.name}.{field.name}")
            case TextType(size=size) if isinstance(value, bytes):
                if len(value) > size:
                    self._lowering.fail(value_node, f"{name} is {place.type}, this has {len(value)} bytes")
                self._write_bytes(place, node, value.ljust(size, b"\0"))
            case ArrayType() as array if isinstance(value, list | tuple):
                self._write_items(place, array, node, value_node, tuple(map(Constant, value)), name)
            case _:
                self._wrong(value_node, name, place, Constant(value))

    def _write_items(
        self, place: Place, array: ArrayType, node: ast.AST, value_node: ast.AST, items: tuple[Value, ...], name: str
    ) -> None:
        if len(items) != array.count:
            self._lowering.fail(value_node, f"{name} has {array.count} elements, here are {len(items)}")
        for index, item in enumerate(items):
            offset = place.offset + index * array.element.size
            target = Place(place.base, offset, array.element, place.alignment)
            if isinstance(item, Place) and _may_overlap(place, item):
                self._lowering.fail(value_node, "these may be the array's own elements: assign one by one, a[0] = …")
            self.write(target, node, value_node, item, f"{name}[{index}]")

    def _write_bytes(self, place: Place, node: ast.AST, data: bytes) -> None:
        at = 0
        while at < len(data):
            width = widest(place, len(data) - at, at)
            number = int.from_bytes(data[at : at + width], "little")
            self._lowering.access.store(node, place.base, place.offset + at, width, number)
            at += width

    def _copy(self, place: Place, value_node: ast.AST, value: Value, name: str) -> None:
        source = value
        if isinstance(value, Pointer) and value.is_struct:
            if value.nullable:
                reason = f"{name} is {place.type}, this may be None: test it first"
                self._lowering.fail(value_node, reason)
            source = self.behind(value)
        if not isinstance(source, Place) or source.type != place.type:
            self._wrong(value_node, name, place, value)
        if holds_special(place.type) and not (on_stack(place.base) and on_stack(source.base)):
            reason = "this holds what only the kernel may touch, a lock or the like: copy its other fields"
            self._lowering.fail(value_node, reason)
        if isinstance(source.base, StackAddress):
            source = self._moved.get(source.base.slot, source)
        if not self._probed_into(place, value_node, source):
            self._lowering.access.copy(value_node, place, source)

    def _probed_into(self, place: Place, node: ast.AST, source: Place) -> bool:
        """Let what was copied from the kernel the moment before be copied to where it is wanted, not by way of us."""
        operations = self._lowering.block.operations
        last = operations[-1] if operations else None
        if not isinstance(last, Call) or last.helper != Helper.PROBE_READ_KERNEL or source.offset:
            return False
        if last.arguments[0] != source.base or last.arguments[1] != place.type.size:
            return False
        operations.pop()
        target = self.address(place, node)
        self._lowering.emit(Call(last.result, last.helper, (target, *last.arguments[1:]), last.location))
        if isinstance(source.base, StackAddress):
            self._moved[source.base.slot] = place  # for `a = b = …`, which has a second target
        return True

    def _special(self, node: ast.AST) -> NoReturn:
        self._lowering.fail(node, "a lock's own bytes are the kernel's: use it with spin_lock(…); and so are a timer's")

    def _wrong(self, node: ast.AST, name: str, place: Place, value: Value) -> NoReturn:
        self._lowering.fail(node, f"{name} is {place.type}, this is {describe(value)}")

    def naming(self, node: ast.AST, place: Place) -> Value:
        """A struct as a name gets it: on the stack as it is, behind a pointer a pointer into it. A buffer, too."""
        if (
            isinstance(place.type, ArrayType)
            and isinstance(place.base, StackAddress)
            and place.base.slot.name == "buffer"
        ):
            return place
        if not isinstance(place.type, StructType):
            self._lowering.fail(node, "an array cannot be given a name: use its elements")
        self._lowering.variables.check_nameable(node, place)
        if isinstance(place.base, StackAddress):
            return place
        if isinstance(place.base, MapValueAddress):
            target = self._lowering.value(Type(Kind.MAP_VALUE))
            address = MapValueAddress(place.base.map, place.base.offset + place.offset)
            self._lowering.emit(Copy(target, address, self._lowering.location(node)))
            return Pointer(target, place.type, kind=Kind.MAP_VALUE)
        found = self.address(place, node)
        assert isinstance(found, IrValue)  # noqa: S101 - of three kinds of addresses the one that is left
        return Pointer(found, place.type, kind=found.type.kind)

    def fitting(self, node: ast.AST, value: Value, type_: Any, name: str, bits: BitField | None = None) -> Number:
        """The operand of a number that is to be stored as `type_`; `name` says where, for the error."""
        operand = known_operand(value)
        if isinstance(type_, TextType | ArrayType) or operand is None:
            self._lowering.fail(node, f"{name} is {type_}, this is {describe(value)}")
        found = self._lowering.expressions.scalar_type(value)
        if isinstance(type_, NetworkType) and found != type_:
            self._lowering.fail(node, f"{name} is {type_}, this is {describe(value)}{conversion_hint(value, type_)}")
        if isinstance(type_, IntType):
            if isinstance(found, NetworkType):
                self._lowering.fail(node, f"{name} is {type_}, this is {found}{conversion_hint(value, type_)}")
            width = type_.bits if bits is None else bits.count
            highest = 1 << width - type_.signed
            if isinstance(value, Constant) and not -(1 << width - 1) <= int(value.value) < highest:
                held = str(type_) if bits is None else f"{width} bits of {type_}"
                self._lowering.fail(node, f"{shown(int(value.value))} does not fit {name}, which is {held}")
        return operand

    def _load(self, base: Base, offset: int, size: int, node: ast.AST, type_: Type = SCALAR) -> IrValue:
        return self._lowering.access.load(node, base, offset, size, type_)

    def _store(self, base: Base, offset: int, size: int, source: Number, location: Location) -> None:
        self._lowering.emit(Store(base, offset, size, source, location))

    def number(self, loaded: IrValue, type_: IntType | NetworkType | BoolType, node: ast.AST) -> Scalar:
        """What was loaded as a type, with zeros above it, as a number: widened by its sign."""
        if not isinstance(type_, IntType):
            return Scalar(loaded, type_)
        limit = None if type_.signed or type_.bits == 64 else (1 << type_.bits) - 1
        if type_.signed and type_.bits < 64:
            extended = self._lowering.value()
            self._lowering.emit(Extend(extended, loaded, type_.bits, True, self._lowering.location(node)))
            loaded = extended
        return Scalar(loaded, SIGNED if type_.signed else UNSIGNED, limit)

    def untested(self, node: ast.Attribute) -> NoReturn:
        """Refuse the use of what may be None."""
        test = f"`if {ast.unparse(node.value)} is None`"
        error = CompileError(self._lowering.location(node.value), f"this may be None: test it first, {test}")
        error.untested = node.value.id if isinstance(node.value, ast.Name) else None
        raise error

    def unknown(self, node: ast.AST, owner: str, known: list[str], name: str = "") -> NoReturn:
        """Refuse a field that there is not."""
        import difflib  # slow to import, and seldom wanted

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
    place.end_lineno, place.end_col_offset = place.lineno, node.end_col_offset
    return place


def holds_special(type_: ValueType) -> bool:
    """Whether there is a lock in it, or what else only the kernel may touch."""
    match type_:
        case KptrType():
            return True
        case StructType(name=name, fields=fields):
            return name in SPECIAL or any(holds_special(each.type) for each in fields)
        case ArrayType(element=element):
            return holds_special(element)
        case _:
            return False


def _may_overlap(one: Place, other: Place) -> bool:
    """Whether a write to one place may change the other."""
    if isinstance(one.base, StackAddress) and isinstance(other.base, StackAddress):
        return one.base.slot is other.base.slot
    return not (isinstance(one.base, StackAddress) or isinstance(other.base, StackAddress))


def inside(whole: Place, field: Field) -> Place:
    """A field's place within a struct's."""
    bits = None if field.bits is None else BitField(field.bits, field.shift, field.unit)
    return Place(whole.base, whole.offset + field.offset, field.type, whole.alignment, bits)


@lru_cache
def _declared(context: Any) -> dict[str, Any]:
    """What the fields of a context are declared to be."""
    return get_type_hints(context, include_extras=True)


def _pointed_to(annotation: Any) -> type[Context] | None:
    """What a field of a context points to, such as its socket; None for a number."""
    parts = getattr(annotation, "__args__", (annotation,))
    return next((part for part in parts if isinstance(part, type) and issubclass(part, Context)), None)


def _covered_bytes(layout: StructType, base: int = 0) -> set[int]:
    """The bytes that are written when each field is: not padding, nor what bit fields and unions leave out."""
    covered: set[int] = set()
    for field in () if layout.union else layout.fields:
        if field.bits is None:
            covered |= _covered(field.type, base + field.offset)
    return covered


def _covered(type_: ValueType, base: int) -> set[int]:
    match type_:
        case StructType():
            return _covered_bytes(type_, base)
        case ArrayType(element=element, count=count):
            return set().union(*(_covered(element, base + index * element.size) for index in range(count)))
        case _:
            return set(range(base, base + type_.size))


def _base(pointer: Pointer) -> IrValue:
    """The address of what a pointer that is not None points to."""
    assert isinstance(pointer.operand, IrValue)  # noqa: S101 - 0 is None
    return pointer.operand


def with_pointer_checked(pointer: Pointer) -> Pointer:
    """The same pointer, known not to be None."""
    return evolve(pointer, nullable=False)
