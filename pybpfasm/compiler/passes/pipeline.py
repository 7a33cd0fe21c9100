"""The passes in their order."""

from collections.abc import Callable

from pybpfasm.compiler.passes.blocks import shorten
from pybpfasm.compiler.passes.dead import remove_dead
from pybpfasm.compiler.passes.decide import decide
from pybpfasm.compiler.passes.fold import fold
from pybpfasm.compiler.passes.loads import reuse_loads
from pybpfasm.compiler.passes.neighbours import join_neighbours
from pybpfasm.compiler.passes.returns import share_returns
from pybpfasm.compiler.passes.search import halve_chains
from pybpfasm.compiler.passes.stores import merge_stores
from pybpfasm.ir.function import Function
from pybpfasm.ir.operations import Value

# What one round uncovers the next one uses; a third has not been seen to find anything.
_ROUNDS = 2


def simplify(function: Function, check: Callable[[Function], None] | None = None) -> dict[Value, int]:
    """Run them, `check` behind each; how many low bits of each value may be set, where that is fewer than 64."""

    def checked() -> None:
        if check is not None:
            check(function)

    for _ in range(_ROUNDS):
        fold(function)
        checked()
        shorten(function)
        checked()
        decide(function)
        checked()
        shorten(function)
        checked()
        reuse_loads(function)
        checked()
        remove_dead(function)
        checked()
    bits = fold(function)
    remove_dead(function)
    checked()
    merge_stores(function, bits)
    join_neighbours(function)
    checked()
    remove_dead(function)
    share_returns(function)
    shorten(function)
    halve_chains(function)
    checked()
    return bits
