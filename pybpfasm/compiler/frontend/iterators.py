"""`for i in numbers(…)`: an open-coded iterator of the kernel (bpf_iter_num), on the stack.

bpf_iter_num_new(&slot0, 0, %1)
block1:    %2 memory? = bpf_iter_num_next(&slot0)
           if jeq %2, 0 goto block3 else block2
block2:    %3 = load32 [%2] … goto block1
block3:    bpf_iter_num_destroy(&slot0)             on each way out
"""

import ast
from typing import TYPE_CHECKING

from pybpfasm.compiler.frontend.values import SIGNED, UNSIGNED, Constant, Scalar
from pybpfasm.ir.operations import Argument, CallKernel, Extend, StackAddress
from pybpfasm.ir.operations import Value as IrValue
from pybpfasm.ir.types import Kind, Type
from pybpfasm.isa import Jump

if TYPE_CHECKING:
    from pybpfasm.compiler.frontend.lowering import Lowering

# struct bpf_iter_num of include/uapi/linux/bpf.h; BPF_MAX_LOOPS of include/linux/bpf_verifier.h.
_ITERATOR_BYTES = 8
_MOST_ROUNDS = 1 << 23


class Iterators:
    """Compiles such loops."""

    def __init__(self, lowering: "Lowering") -> None:
        self._lowering = lowering

    def numbers(self, node: ast.For, name: ast.Name, iterated: ast.Call) -> None:
        """`for name in numbers(start, stop):`."""
        lowering = self._lowering
        if not lowering.target.kfuncs:
            reason = f"numbers() needs Linux 6.4, this is compiled for {lowering.target.name}"
            lowering.fail(iterated, f"{reason}: write `range(…)`")
        start, stop = self._bounds(iterated)
        iterator = StackAddress(lowering.slot(_ITERATOR_BYTES))
        operands = [lowering.expressions.operand(iterated, each) for each in (start, stop)]
        self._call(iterated, "new", (iterator, *operands))
        head = lowering.loops.begin(node, {})
        again, spent, left, exhausted, end = (lowering.junction() for _ in range(5))
        body = lowering.junction()
        found = lowering.value(Type(Kind.MEMORY, nullable=True))
        self._call(iterated, "next", (iterator,), found)
        lowering.branch(iterated, Jump.JEQ, found, 0, spent, body)
        lowering.enter(body)
        number = self._number(iterated, found, start, stop)
        lowering.give(name.id, lowering.statements.counted(name, iterated, number))
        lowering.frame.cleanups.append(lambda at: self._call(at, "destroy", (iterator,)))
        lowering.loops.body(node, again, left)
        lowering.frame.cleanups.pop()
        if lowering.reachable:
            lowering.loops.go_back(node, head)
        for leaving, target in ((spent, exhausted), (left, end)):
            lowering.enter(leaving)
            if lowering.reachable:
                self._call(iterated, "destroy", (iterator,))
            lowering.goto(target, node)
        lowering.loops.finish(node, exhausted, end)

    def _bounds(self, iterated: ast.Call) -> tuple[Scalar | Constant, Scalar | Constant]:
        lowering = self._lowering
        if len(iterated.args) > 2:
            lowering.fail(iterated, "numbers() takes a start and a stop")
        found = [lowering.expressions.number(each) for each in iterated.args]
        for node, number in zip(iterated.args, found, strict=True):
            limit = number.limit if isinstance(number, Scalar) else abs(int(number.value))
            if limit is None or limit > _MOST_ROUNDS:
                how = f"bound it, as by min(…, {_MOST_ROUNDS})"
                lowering.fail(node, f"numbers() goes to {_MOST_ROUNDS} at most, this is not known to be less: {how}")
        return (Constant(0), found[0]) if len(found) == 1 else (found[0], found[1])

    def _number(self, node: ast.AST, found: IrValue, start: Scalar | Constant, stop: Scalar | Constant) -> Scalar:
        """The number that the kernel shows, an int."""
        lowering = self._lowering
        loaded = lowering.access.load(node, found, 0, 4)
        if isinstance(start, Constant) and int(start.value) < 0:
            extended = lowering.value()
            lowering.emit(Extend(extended, loaded, 32, True, lowering.location(node)))
            return Scalar(extended, SIGNED)
        limit = stop.limit if isinstance(stop, Scalar) else int(stop.value)
        return Scalar(loaded, UNSIGNED, max((limit or 0) - 1, 0), seen=False)

    def _call(self, node: ast.AST, name: str, arguments: tuple[Argument, ...], result: IrValue | None = None) -> None:
        lowering = self._lowering
        lowering.emit(CallKernel(result, f"bpf_iter_num_{name}", arguments, lowering.location(node)))
