"""Where paths meet: what each knows of the names, and the parameters that a block needs for what differs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pybpfasm.compiler.frontend.values import SIGNED, UNSIGNED, Constant, KernelType, Pointer, Scalar, Value
from pybpfasm.ir.function import Block, Function
from pybpfasm.ir.operations import Branch, Goto, MayGoto, Number
from pybpfasm.ir.operations import Value as IrValue
from pybpfasm.ir.types import SCALAR, Kind, Type
from pybpfasm.records import define, evolve, field, frozen

if TYPE_CHECKING:
    from pybpfasm.compiler.frontend.lowering import Frame


@frozen
class Unknown:
    """A name that has no single meaning where paths meet; `reason` says why."""

    reason: str
    silent: bool = False


Names = dict[str, "Value | Unknown"]


@frozen
class Edge:
    """A way to a junction: the jump, for a Branch which side of it, and what is known on it."""

    end: Goto | Branch | MayGoto
    side: str
    names: Names


@define(eq=False)
class Junction:
    """A block that several paths may lead to, and what each of them knows.

    `carried` are the names that a loop changes: the block's parameters, in their order.
    """

    block: Block
    frame: Frame
    edges: list[Edge] = field(factory=list)
    carried: dict[str, Value] | None = None


def arrive_by(
    junction: Junction, end: Goto | Branch | MayGoto, extra: Mapping[str, Value | Unknown] | None = None, side: str = ""
) -> None:
    """Note that a path leads to the junction."""
    names = junction.frame.names
    if names is not None:
        junction.edges.append(Edge(end, side, {**names, **(extra or {})}))


def join(function: Function, junction: Junction) -> Names | None:
    """What all paths agree on; names with a value of its own on each become parameters."""
    edges = junction.edges
    if not edges:
        return None
    merged = dict(edges[0].names)
    if len(edges) == 1:
        return merged
    parameters: list[list[Number]] = []
    for name in {each: None for edge in edges for each in edge.names}:
        values = [edge.names.get(name) for edge in edges]
        if all(value is values[0] for value in values[1:]):
            continue
        found = _agreement(name, values)
        operands = _operands(found, values)
        if operands is not None:
            found = _parameter(function, junction.block, name, found)
            parameters.append(operands)
        merged[name] = found
    if parameters:
        pass_arguments(function, edges, [list(each) for each in zip(*parameters, strict=True)])
    return merged


def pass_arguments(function: Function, edges: list[Edge], arguments: list[list[Any]]) -> None:
    """Hand arguments to the block that the edges lead to; a branch gets a block of its own on the way."""
    for edge, operands in zip(edges, arguments, strict=True):
        if isinstance(edge.end, Goto):
            edge.end.arguments += operands
            continue
        _lead_through(function.block(), edge.end, edge.side, operands)


def _lead_through(between: Block, end: Branch | MayGoto, side: str, operands: list[Any]) -> None:
    """Put a block with a Goto between a branch and where one of its sides leads."""
    names = {"yes": "yes", "no": "no"} if isinstance(end, Branch) else {"yes": "again", "no": "end"}
    target = getattr(end, names[side])
    between.operations.append(Goto(target, end.location, operands))
    setattr(end, names[side], between)


def _parameter(function: Function, block: Block, name: str, value: Any) -> Value:
    """The value as a parameter of the block."""
    parameter = function.value(type_of(value), name if name.isidentifier() else None)
    block.parameters.append(parameter)
    return with_operand(value, parameter)


def with_operand(value: Value, operand: IrValue) -> Value:
    """The number or address, with its operand elsewhere."""
    assert isinstance(value, Scalar | Pointer)  # noqa: S101 - only these have an operand
    return evolve(value, operand=operand)


def type_of(value: Value) -> Type:
    """The type that a value has in the intermediate form."""
    return Type(value.kind, value.nullable) if isinstance(value, Pointer) else SCALAR


def _operands(found: Value | Unknown, values: list[Value | Unknown | None]) -> list[Number] | None:
    """The operands of the paths, if they differ."""
    if not isinstance(found, Scalar | Pointer):
        return None
    operands = [value.operand for value in values if isinstance(value, Scalar | Pointer)]
    return None if all(each == operands[0] for each in operands[1:]) else operands


def _agreement(name: str, values: list[Value | Unknown | None]) -> Value | Unknown:
    merged: Any = values[0]
    for value in values[1:]:
        merged = _agree(name, merged, value)
    return merged  # type: ignore[no-any-return]  # what _agree gives


def _agree(name: str, one: Value | Unknown | None, other: Value | Unknown | None) -> Value | Unknown:
    if one is None or other is None:
        return Unknown(f"`{name}` has a value on some paths only: give it one before the paths meet")
    if isinstance(one, Unknown):
        return one
    if one == other or isinstance(other, Unknown):
        return other
    if isinstance(one, Pointer) and isinstance(other, Pointer) and one.target == other.target:
        return evolve(one, nullable=one.nullable or other.nullable, kind=_kind(one, other))
    if isinstance(one, Scalar) and isinstance(other, Scalar):
        if one.type == other.type:
            limit = None if one.limit is None or other.limit is None else max(one.limit, other.limit)
            return evolve(one, limit=limit, seen=one.seen and other.seen)
        hint = f", `{name}: i64 = …`" if {SIGNED, UNSIGNED} == {one.type, other.type} else ""
        return Unknown(f"`{name}` is {one.type} on one path, {other.type} on another: declare it{hint}")
    return Unknown(f"`{name}` has different meanings on different paths: give it one before the paths meet")


def _kind(one: Pointer, other: Pointer) -> Kind:
    """What two addresses are in common; None is an address of any kind."""
    if one.operand == 0 or other.operand == 0:
        return other.kind if one.operand == 0 else one.kind
    if one.kind is other.kind:
        return one.kind
    return Kind.UNTRUSTED if isinstance(one.target, KernelType) else Kind.MEMORY


def is_none(value: Value) -> bool:
    """Whether a value is the constant None."""
    return isinstance(value, Constant) and value.value is None
