"""What a relocation refers to: a path of numbers (`0:1:2`) in the object's types, made into names.

The first number is a subscript of the type itself; each further one is a member of a struct or union, or a subscript.
Anonymous members leave no step: a target may have the field at another depth.
"""

import attrs

from pybpfasm.btf import Btf, CoreRelocation, CoreRelocationKind, kinds
from pybpfasm.interop.error import ElfError

# The most steps of a path (BPF_CORE_SPEC_MAX_LEN).
MOST_STEPS = 64

_K = CoreRelocationKind
FIELD_KINDS = frozenset(
    (
        _K.FIELD_BYTE_OFFSET,
        _K.FIELD_BYTE_SIZE,
        _K.FIELD_EXISTS,
        _K.FIELD_SIGNED,
        _K.FIELD_LSHIFT_U64,
        _K.FIELD_RSHIFT_U64,
    )
)
ENUM_KINDS = frozenset((_K.ENUMVAL_EXISTS, _K.ENUMVAL_VALUE))


@attrs.frozen
class Step:
    """A member called `name` of the struct or union `type_id`, its `index`-th; or, without a name, a subscript to
    `type_id`.

    For an enumerator: its name and index, and the enum.
    """

    type_id: int
    index: int
    name: str | None = None


@attrs.frozen
class Access:
    """A place in the types of `btf`: steps from the type `root`, and bits from its start. No steps: the type itself."""

    btf: Btf
    root: int
    kind: CoreRelocationKind
    steps: tuple[Step, ...] = ()
    bit_offset: int = 0


def local_access(btf: Btf, relocation: CoreRelocation) -> Access:
    """What a relocation of an object means in its own types. Raises `ElfError` for a path that leads nowhere."""
    text = btf.string(relocation.access_offset)
    kind, root = relocation.kind, relocation.type_id
    path = _path(text)
    if kind in FIELD_KINDS:
        return _field(Access(btf, root, kind), path, text)
    if kind in ENUM_KINDS:
        return Access(btf, root, kind, (_enumerator(btf, root, path, text),))
    if path != [0]:
        raise ElfError(f"a relocation of kind {kind.name} has access {text!r}: a type as a whole has '0'")
    return Access(btf, root, kind)


def _path(text: str) -> list[int]:
    parts = text.split(":", MOST_STEPS)
    if len(parts) > MOST_STEPS or not all(part.isascii() and part.isdigit() and len(part) < 11 for part in parts):
        raise ElfError(f"a relocation has access {text[:80]!r}: up to {MOST_STEPS} numbers with colons are possible")
    return [int(part) for part in parts]


def _enumerator(btf: Btf, root: int, path: list[int], text: str) -> Step:
    type_id = btf.strip(root)
    record = btf.type(type_id)
    if not isinstance(record, kinds.Enum | kinds.Enum64) or len(path) != 1 or path[0] >= len(record.enumerators):
        raise ElfError(f"a relocation of an enumerator has access {text!r}, which type {root} does not have")
    return Step(type_id, path[0], record.enumerators[path[0]].name)


def _field(access: Access, path: list[int], text: str) -> Access:
    btf = access.btf
    type_id = btf.strip(access.root)
    steps = [Step(type_id, path[0])]
    bits = path[0] * btf.size_of(type_id) * 8
    for index in path[1:]:
        type_id = btf.strip(type_id)
        record = btf.type(type_id)
        if isinstance(record, kinds.Struct | kinds.Union) and index < len(record.members):
            member = record.members[index]
            bits += member.bit_offset
            if member.name:
                steps.append(Step(type_id, index, member.name))
            type_id = member.type_id
        elif isinstance(record, kinds.Array) and (index < record.count or flexible(btf, steps[-1], record)):
            type_id = btf.strip(record.type_id)
            steps.append(Step(type_id, index))
            bits += index * btf.size_of(type_id) * 8
        else:
            raise ElfError(f"a relocation has access {text!r}, which type {access.root} does not have")
    return attrs.evolve(access, steps=tuple(steps), bit_offset=bits)


def flexible(btf: Btf, step: Step, array: kinds.Array) -> bool:
    """An array without a size that ends the struct of the step before it has any subscript."""
    if step.name is None or array.count > 0:
        return False
    record = btf.type(step.type_id)
    return isinstance(record, kinds.Struct | kinds.Union) and step.index == len(record.members) - 1
