"""Checksums of packets: mended in the packet by helpers, and computed from what lies in memory."""

import ast
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pybpfasm.compiler.frontend.values import SIGNED, Constant, Pointer, Scalar, Value, describe
from pybpfasm.ir.operations import Argument, Call, Number
from pybpfasm.lang.packets import csum_diff
from pybpfasm.lang.types import NetworkType, be16, be32
from pybpfasm.uapi import Helper

if TYPE_CHECKING:
    from pybpfasm.compiler.frontend.lowering import Lowering

# bpf_csum_diff of net/core/filter.c sums words of 4 bytes, up to so many bytes on kernels before Linux 6.12.
_WORD = 4
_MOST_BYTES = 512


class Checksums:
    """Compiles `l3_csum_replace`, `l4_csum_replace`, their `…_add`, and `csum_diff`."""

    def __init__(self, lowering: "Lowering") -> None:
        self._lowering = lowering

    def replace(self, node: ast.Call, pointer: Pointer, name: str, bound: dict[str, ast.expr]) -> Value:
        """Mend a checksum in the packet. The size of what has changed is in the flags; 0 for a sum of differences."""
        lowering = self._lowering
        helper = Helper.L3_CSUM_REPLACE if name.startswith("l3") else Helper.L4_CSUM_REPLACE
        offset = self._number(bound["offset"])
        if "difference" in bound:
            changed: tuple[Number, Number, int] = (0, self._number(bound["difference"]), 0)
        else:
            changed = self._changed(bound["old"], bound["new"])
        before, after, size = changed
        flags = self._with_size(bound.get("flags"), size)
        result = lowering.value()
        arguments = (pointer.operand, offset, before, after, flags)
        lowering.emit(Call(result, helper, arguments, lowering.location(node)))
        return Scalar(result, SIGNED)

    def rules(self) -> dict[Callable[..., Any], Callable[[ast.Call], Value]]:
        """What compiles a call of each function."""
        return {csum_diff: self._difference}

    def _difference(self, node: ast.Call) -> Value:
        """The result of `csum_diff`."""
        lowering = self._lowering
        bound = lowering.calls.bind(node, csum_diff)
        arguments: list[Argument] = []
        for name in ("old", "new"):
            arguments += self._summed(bound[name])
        seed = self._number(bound["seed"]) if "seed" in bound else 0
        result = lowering.value()
        lowering.emit(Call(result, Helper.CSUM_DIFF, (*arguments, seed), lowering.location(node)))
        return Scalar(result, SIGNED)

    def _changed(self, old: ast.expr, new: ast.expr) -> tuple[Number, Number, int]:
        one, other = (self._lowering.expressions.value(each) for each in (old, new))
        type_ = self._network_type(old, one)
        if self._network_type(new, other) != type_:
            reason = f"{describe(one)} is not replaced by {describe(other)}: numbers of one width are wanted"
            self._lowering.fail(new, reason)
        return self._operand(one), self._operand(other), type_.size

    def _network_type(self, node: ast.expr, value: Value) -> NetworkType:
        found = self._lowering.expressions.scalar_type_or_none(value)
        if not isinstance(found, NetworkType) or found.size > _WORD:
            hint = ": by `csum_diff` a checksum is mended for whatever else" if isinstance(found, NetworkType) else ""
            self._lowering.fail(node, f"be16 or be32 is wanted, this is {describe(value)}{hint}")
        return found

    def _operand(self, value: Value) -> Number:
        if isinstance(value, Scalar):
            return value.operand
        assert isinstance(value, Constant) and isinstance(value.value, be16 | be32)  # noqa: S101, PT018 - looked at
        return int.from_bytes(value.value.packed, "little")

    def _with_size(self, node: ast.expr | None, size: int) -> Number:
        if node is None:
            return size
        flags = self._lowering.expressions.constant(node)
        if not isinstance(flags, int):
            self._lowering.fail(node, "the flags are a constant")
        return int(flags) | size

    def _summed(self, node: ast.expr) -> tuple[Argument, Argument]:
        """Where what is summed up lies, and how long it is."""
        lowering = self._lowering
        if isinstance(node, ast.Constant) and node.value is None:
            return 0, 0
        address, size = lowering.maps.data(node)
        if size % _WORD or size > _MOST_BYTES:
            lowering.fail(node, f"what is summed up has a multiple of 4 bytes, {_MOST_BYTES} at most: this has {size}")
        return address, size

    def _number(self, node: ast.expr) -> Number:
        return self._lowering.expressions.operand(node, self._lowering.expressions.number(node))
