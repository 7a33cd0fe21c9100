"""The same field or enumerator in a type of the target."""

from collections.abc import Iterator

import attrs

from pybpfasm.btf import Btf, kinds
from pybpfasm.interop.core.access import ENUM_KINDS, FIELD_KINDS, Access, Step, flexible
from pybpfasm.interop.core.compatible import fields_compatible, names_match
from pybpfasm.interop.error import ElfError

# The deepest nesting is less than this, and so is Python's own limit kept.
_MOST_ANONYMOUS = 512


def matching_access(local: Access, target: Btf, type_id: int) -> Access | None:
    """The access of `local` in the target's type; None if that has no such field or enumerator."""
    if local.kind in FIELD_KINDS:
        return _field(local, target, type_id)
    if local.kind in ENUM_KINDS:
        return _enumerator(local, target, type_id)
    return Access(target, type_id, local.kind)


def _enumerator(local: Access, target: Btf, type_id: int) -> Access | None:
    stripped = target.strip(type_id)
    record = target.type(stripped)
    if isinstance(record, kinds.Enum | kinds.Enum64):
        for index, enumerator in enumerate(record.enumerators):
            if names_match(local.steps[0].name or "", enumerator.name):
                return Access(target, type_id, local.kind, (Step(stripped, index, enumerator.name),))
    return None


def _field(local: Access, target: Btf, type_id: int) -> Access | None:
    found = Access(target, type_id, local.kind)
    at = type_id
    for step in local.steps:
        reached = _member(local.btf, step, found, at) if step.name is not None else _subscript(step, found, at)
        if reached is None:
            return None
        found, at = reached
    return found


def _subscript(step: Step, found: Access, type_id: int) -> tuple[Access, int] | None:
    """One element on; the first subscript is of the root itself."""
    btf = found.btf
    type_id = btf.strip(type_id)
    if found.steps:
        array = btf.type(type_id)
        if not isinstance(array, kinds.Array):
            return None
        if step.index >= array.count and not flexible(btf, found.steps[-1], array):
            return None
        type_id = btf.strip(array.type_id)
    bits = found.bit_offset + step.index * btf.size_of(type_id) * 8
    steps = (*found.steps, Step(type_id, step.index))
    return attrs.evolve(found, steps=steps, bit_offset=bits), type_id


def _member(local_btf: Btf, step: Step, found: Access, type_id: int) -> tuple[Access, int] | None:
    """The member of the step's name, also in anonymous members; None if it is missing or of another kind."""
    composite = local_btf.type(step.type_id)
    assert isinstance(composite, kinds.Struct | kinds.Union)  # noqa: S101 - what a step with a name is made of
    wanted = composite.members[step.index]
    for holder, index, member, bits in _members(found.btf, type_id, 0, set()):
        if member.name == step.name:
            if not fields_compatible(local_btf, wanted.type_id, found.btf, member.type_id):
                return None
            steps = (*found.steps, Step(holder, index, member.name))
            return attrs.evolve(found, steps=steps, bit_offset=found.bit_offset + bits), member.type_id
    return None


def _members(btf: Btf, type_id: int, bits: int, seen: set[int]) -> Iterator[tuple[int, int, kinds.Member, int]]:
    """The named members: of which struct, the how-manieth, the member, and bits from the outer start; depth first."""
    stripped = btf.strip(type_id)
    record = btf.type(stripped)
    if stripped in seen or not isinstance(record, kinds.Struct | kinds.Union):
        return
    seen.add(stripped)
    if len(seen) > _MOST_ANONYMOUS:
        raise ElfError(f"the target's type {type_id} is one of more than {_MOST_ANONYMOUS} anonymous ones in a struct")
    for index, member in enumerate(record.members):
        if member.name:
            yield stripped, index, member, bits + member.bit_offset
        else:
            yield from _members(btf, member.type_id, bits + member.bit_offset, seen)
