"""The number that a relocation puts into its instruction, in the object's types or in the target's."""

import attrs

from pybpfasm.btf import CoreRelocationKind, kinds
from pybpfasm.interop.core.access import Access, Step
from pybpfasm.interop.error import ElfError

_K = CoreRelocationKind


@attrs.frozen
class Value:
    """What an access comes to.

    `size` is that of a field that can be loaded, in bytes, and `type_id` its type; 0 where the width of an access must
    not change. `certain` is False where compilers disagree on the number. `narrow` numbers are enumerators of 32 bits,
    of which BTF may not tell if they are signed: the instruction does.
    """

    number: int
    size: int = 0
    type_id: int = 0
    certain: bool = True
    narrow: bool = False


@attrs.frozen
class _Place:
    """A field's bytes, and for a bit field its bits within the integer that it is loaded by."""

    byte_offset: int
    byte_size: int
    bit_offset: int
    bit_size: int
    bit_field: bool


def value_of(access: Access) -> Value:
    """The number for an access that was found. Raises `ElfError` for a question that makes no sense for it."""
    match access.kind:
        case _K.FIELD_EXISTS | _K.TYPE_EXISTS | _K.TYPE_MATCHES | _K.ENUMVAL_EXISTS:
            return Value(1)
        case _K.TYPE_ID_LOCAL | _K.TYPE_ID_TARGET:
            return Value(access.root, certain=False)
        case _K.TYPE_SIZE:
            return Value(access.btf.size_of(access.root))
        case _K.ENUMVAL_VALUE:
            return _enumerator(access)
    last = access.steps[-1]
    return _element_value(access, last) if last.name is None else _member_value(access, last)


def value_of_missing(kind: CoreRelocationKind) -> Value | None:
    """The number where the target has no such thing; None if the instruction then must not run."""
    return None if kind in _NEEDED else Value(0)


_NEEDED = frozenset(
    (
        _K.FIELD_BYTE_OFFSET,
        _K.FIELD_BYTE_SIZE,
        _K.FIELD_SIGNED,
        _K.FIELD_LSHIFT_U64,
        _K.FIELD_RSHIFT_U64,
        _K.ENUMVAL_VALUE,
    )
)


def _enumerator(access: Access) -> Value:
    step = access.steps[0]
    record = access.btf.type(step.type_id)
    assert isinstance(record, kinds.Enum | kinds.Enum64)  # noqa: S101 - what the step was made of
    number = record.enumerators[step.index].value
    if isinstance(record, kinds.Enum64):
        return Value(number & 0xFFFFFFFFFFFFFFFF)
    return Value((number & 0xFFFFFFFF ^ 0x80000000) - 0x80000000 & 0xFFFFFFFFFFFFFFFF, narrow=True)


def _element_value(access: Access, step: Step) -> Value:
    if access.kind == _K.FIELD_BYTE_OFFSET:
        return Value(access.bit_offset // 8, _loaded_size(access, step.type_id), step.type_id)
    if access.kind == _K.FIELD_BYTE_SIZE:
        return Value(access.btf.size_of(step.type_id))
    raise ElfError(f"a relocation of kind {access.kind.name} is for a member, not for an element of an array")


def _member_value(access: Access, step: Step) -> Value:
    composite = access.btf.type(step.type_id)
    assert isinstance(composite, kinds.Struct | kinds.Union)  # noqa: S101 - what the step was made of
    member = composite.members[step.index]
    type_id = access.btf.strip(member.type_id)
    place = _place(access, type_id, member)
    certain = not place.bit_field
    match access.kind:
        case _K.FIELD_BYTE_OFFSET if place.bit_field:
            return Value(place.byte_offset, certain=False)
        case _K.FIELD_BYTE_OFFSET:
            return Value(place.byte_offset, _loaded_size(access, type_id), type_id)
        case _K.FIELD_BYTE_SIZE:
            return Value(place.byte_size, certain=certain)
        case _K.FIELD_SIGNED:
            record = access.btf.type(type_id)
            return Value(int(isinstance(record, kinds.Int | kinds.Enum | kinds.Enum64) and record.signed))
        case _K.FIELD_LSHIFT_U64:
            return Value(_left_shift(access, place), certain=certain)
    return Value(64 - place.bit_size & 0xFFFFFFFFFFFFFFFF)


def _place(access: Access, type_id: int, member: kinds.Member) -> _Place:
    size = access.btf.size_of(type_id)
    bits = access.bit_offset
    if not member.bit_size:
        return _Place(bits // 8, size, 0, size * 8, bit_field=False)
    # The smallest aligned integer, of the field's own width or wider, that has all bits in it.
    while True:
        if size not in (1, 2, 4, 8):
            raise ElfError(f"bit field {member.name!r} crosses what 8 bytes can hold: it cannot be loaded")
        start = bits // 8 // size * size
        if bits + member.bit_size - start * 8 <= size * 8:
            return _Place(start, size, bits - start * 8, member.bit_size, bit_field=True)
        size *= 2


def _left_shift(access: Access, place: _Place) -> int:
    """How far up the field's highest bit has to go, in a register that has the integer loaded."""
    if access.btf.byteorder == "little":
        return 64 - (place.bit_offset + place.bit_size) & 0xFFFFFFFFFFFFFFFF
    return (8 - place.byte_size) * 8 + place.bit_offset & 0xFFFFFFFFFFFFFFFF


def _loaded_size(access: Access, type_id: int) -> int:
    """The size of what one instruction loads: of an array, an element's."""
    btf = access.btf
    size = btf.size_of(type_id)
    record = btf.type(btf.strip(type_id))
    while isinstance(record, kinds.Array):
        type_id = record.type_id
        size = btf.size_of(type_id)
        record = btf.type(btf.strip(type_id))
    return size
