"""The passes in their order.

fold, shorten, decide, shorten, reuse_loads, remove_dead; the same again; then what is done once
"""

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

# Called behind each pass, with its name: tests check the form, `explain` shows it.
Watch = Callable[[str, Function], None]

_AGAIN: tuple[Callable[[Function], object], ...] = (fold, shorten, decide, shorten, reuse_loads, remove_dead)
_ONCE: tuple[Callable[[Function], object], ...] = (
    join_neighbours,
    remove_dead,
    share_returns,
    shorten,
    halve_chains,
)


def simplify(function: Function, watch: Watch | None = None) -> dict[Value, int]:
    """Run them, `watch` behind each; how many low bits of each value may be set, where that is fewer than 64."""

    def done(name: str) -> None:
        if watch is not None:
            watch(name, function)

    for each in _AGAIN * _ROUNDS:
        each(function)
        done(each.__name__)
    bits = fold(function)
    done("fold")
    remove_dead(function)
    done("remove_dead")
    merge_stores(function, bits)
    done("merge_stores")
    for each in _ONCE:
        each(function)
        done(each.__name__)
    done(SIMPLIFIED)
    return bits


# What `watch` is told before the first pass, and when all passes are done.
FRONTEND = "frontend"
SIMPLIFIED = "simplified"
