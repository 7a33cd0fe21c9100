"""`with`: what is held for the time of a block, and given back on each way out of it.

Those ways are the block's end, `break` and `continue` of a loop around it, and `return`; each of them runs what the
frame has gathered in `cleanups`.
"""

import ast
from collections.abc import Callable
from typing import TYPE_CHECKING

from pybpfasm.compiler.frontend.values import Constant
from pybpfasm.ir.operations import Argument, Call, CallKernel
from pybpfasm.lang import guards as lang
from pybpfasm.uapi import Helper

if TYPE_CHECKING:
    from pybpfasm.compiler.frontend.lowering import Lowering

_KFUNCS: dict[Callable[..., object], tuple[str, str]] = {
    lang.rcu_read_lock: ("bpf_rcu_read_lock", "bpf_rcu_read_unlock"),
    lang.preempt_disabled: ("bpf_preempt_disable", "bpf_preempt_enable"),
}


class Guards:
    """Compiles `with`."""

    def __init__(self, lowering: "Lowering") -> None:
        self._lowering = lowering

    def compile(self, node: ast.With) -> None:
        """A block with one guard or more."""
        lowering, frame = self._lowering, self._lowering.frame
        depth, locked = len(frame.cleanups), lowering.locked
        try:
            for item in node.items:
                frame.cleanups.append(self._enter(item.context_expr))
                if item.optional_vars is not None:
                    lowering.fail(item.optional_vars, "this gives nothing to be named: leave `as` out")
            lowering.statements.suite(node.body)
            if lowering.reachable:
                lowering.clean_up(node, depth)
        finally:
            del frame.cleanups[depth:]
            lowering.locked = locked

    def _enter(self, node: ast.expr) -> Callable[[ast.AST], None]:
        """Begin to hold something; what ends it."""
        lowering = self._lowering
        if isinstance(node, ast.Call):
            callee = lowering.expressions.value(node.func)
            function = callee.value if isinstance(callee, Constant) else None
            if function is lang.spin_lock:
                return self._lock(node)
            if function in _KFUNCS:
                return self._kernels(node, function)
        lowering.fail(node, "`with` is for spin_lock(…), rcu_read_lock() and preempt_disabled()")

    def _lock(self, node: ast.Call) -> Callable[[ast.AST], None]:
        lowering = self._lowering
        argument = lowering.calls.bind(node, lang.spin_lock)["lock"]
        address = lowering.memory.special(argument, lang.SpinLock, "lock", "where nobody else sees it: lock that")
        if lowering.locked:
            lowering.fail(node, "one lock is held already: no program holds two")
        self._call(node, Helper.SPIN_LOCK, address)
        lowering.locked = True
        return lambda end: self._unlock(end, address)

    def _unlock(self, node: ast.AST, address: Argument) -> None:
        self._call(node, Helper.SPIN_UNLOCK, address)
        self._lowering.locked = False

    def _call(self, node: ast.AST, helper: Helper, address: Argument) -> None:
        self._lowering.emit(Call(None, helper, (address,), self._lowering.location(node)))

    def _kernels(self, node: ast.Call, function: Callable[..., object]) -> Callable[[ast.AST], None]:
        lowering = self._lowering
        lowering.calls.bind(node, function)
        if not lowering.target.kfuncs:
            reason = f"{function.__name__}() calls the kernel's functions, which needs Linux 6.4"
            lowering.fail(node, f"{reason}; this is compiled for {lowering.target.name}")
        begin, end = _KFUNCS[function]

        def call(name: str, at: ast.AST) -> None:
            lowering.emit(CallKernel(None, name, (), lowering.location(at)))

        call(begin, node)
        return lambda at: call(end, at)
