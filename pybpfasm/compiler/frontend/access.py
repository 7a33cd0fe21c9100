"""Loads and stores of what lies at a place: as wide as its alignment allows, and bit by bit where it is a bit field."""

import ast
from typing import TYPE_CHECKING

from pybpfasm.compiler.frontend.values import BitField, Place
from pybpfasm.ir.operations import Base, Binary, Load, Number, StackAddress, Store
from pybpfasm.ir.operations import Value as IrValue
from pybpfasm.ir.types import SCALAR, Kind, Type
from pybpfasm.isa import Alu

if TYPE_CHECKING:
    from pybpfasm.compiler.frontend.lowering import Lowering


class Access:
    """Emits them."""

    def __init__(self, lowering: "Lowering") -> None:
        self._lowering = lowering

    def load(self, node: ast.AST, base: Base, offset: int, size: int, type_: Type = SCALAR) -> IrValue:
        """`size` bytes at an address."""
        target = self._lowering.value(type_)
        narrow = not isinstance(base, IrValue) or base.type.kind not in (Kind.CONTEXT, Kind.KERNEL)
        self._lowering.emit(Load(target, base, offset, size, self._lowering.location(node), narrow=narrow))
        return target

    def store(self, node: ast.AST, base: Base, offset: int, size: int, source: Number) -> None:
        """The low bytes of a number to an address."""
        self._lowering.emit(Store(base, offset, size, source, self._lowering.location(node)))

    def read(self, node: ast.AST, place: Place) -> IrValue:
        """The number at a place, zero-extended; of a bit field by its sign."""
        if place.bits is not None:
            return self._read_bits(node, place, place.bits)
        width = widest(place, place.type.size)
        result = self.load(node, place.base, place.offset, width)
        for at in range(width, place.type.size, width):
            piece = self.load(node, place.base, place.offset + at, width)
            result = self._binary(node, Alu.OR, result, self._binary(node, Alu.LSH, piece, at * 8))
        return result

    def write(self, node: ast.AST, place: Place, number: Number) -> None:
        """The low bytes, or bits, of a number to a place."""
        if place.bits is not None:
            self._write_bits(node, place, place.bits, number)
            return
        width = widest(place, place.type.size)
        for at in range(0, place.type.size, width):
            piece = number if at == 0 else self._shifted(node, number, at * 8)
            self.store(node, place.base, place.offset + at, width, piece)

    def copy(self, node: ast.AST, target: Place, source: Place) -> None:
        """The bytes of one place to another of the same type, from the first to the last."""
        at, size = 0, target.type.size
        while at < size:
            width = min(widest(target, size - at, at), widest(source, size - at, at), _alike(target, source, at))
            loaded = self.load(node, source.base, source.offset + at, width)
            self.store(node, target.base, target.offset + at, width, loaded)
            at += width

    def clear(self, node: ast.AST, place: Place, size: int) -> None:
        """Zeros, in words of eight bytes from an aligned place on."""
        for at in range(0, size, 8):
            self.store(node, place.base, place.offset + at, 8, 0)

    def _read_bits(self, node: ast.AST, place: Place, bits: BitField) -> IrValue:
        loaded = self.load(node, place.base, place.offset, bits.unit)
        if getattr(place.type, "signed", False):
            above = 64 - bits.count
            lifted = self._binary(node, Alu.LSH, loaded, above - bits.shift)
            return self._binary(node, Alu.ARSH, lifted, above)
        lowered = self._binary(node, Alu.RSH, loaded, bits.shift)
        return self._binary(node, Alu.AND, lowered, (1 << bits.count) - 1)

    def _write_bits(self, node: ast.AST, place: Place, bits: BitField, number: Number) -> None:
        mask = ((1 << bits.count) - 1) << bits.shift
        loaded = self.load(node, place.base, place.offset, bits.unit)
        others = self._binary(node, Alu.AND, loaded, ~mask & (1 << bits.unit * 8) - 1)
        if isinstance(number, int):
            joined = self._binary(node, Alu.OR, others, number << bits.shift & mask)
        else:
            low = self._binary(node, Alu.AND, number, (1 << bits.count) - 1)
            joined = self._binary(node, Alu.OR, others, self._binary(node, Alu.LSH, low, bits.shift))
        self.store(node, place.base, place.offset, bits.unit, joined)

    def _shifted(self, node: ast.AST, number: Number, count: int) -> Number:
        if isinstance(number, int):
            return (number & (1 << 64) - 1) >> count
        return self._binary(node, Alu.RSH, number, count)

    def _binary(self, node: ast.AST, code: Alu, left: Number, right: Number) -> IrValue:
        result = self._lowering.value()
        self._lowering.emit(Binary(code, result, left, right, self._lowering.location(node)))
        return result


def widest(place: Place, size: int, at: int = 0) -> int:
    """How many of `size` bytes can be accessed at once, `at` bytes into the place.

    On the stack and in a context an access is aligned to its size, elsewhere no machine that we run on asks for it.
    """
    width = next(each for each in (8, 4, 2, 1) if each <= size)
    if not _aligned_only(place.base):
        return width
    start = place.offset + at + (place.base.offset if isinstance(place.base, StackAddress) else 0)
    while width > place.alignment or start % width:
        width //= 2
    return width


def on_stack(base: Base) -> bool:
    """Whether an address is one of the stack."""
    return isinstance(base, StackAddress) or (isinstance(base, IrValue) and base.type.kind is Kind.STACK)


def _aligned_only(base: Base) -> bool:
    """Whether the verifier refuses an access that is not aligned to its size: on the stack, and in a context."""
    return on_stack(base) or (isinstance(base, IrValue) and base.type.kind is Kind.CONTEXT)


def _alike(one: Place, other: Place, at: int) -> int:
    """The widest that both are aligned to: a store of what was loaded is then no wider than the fields."""
    return next(width for width in (8, 4, 2, 1) if (one.offset + at) % width == (other.offset + at) % width == 0)
