"""One block for each number that a function returns: jumps lead there from everywhere.

In: a function. Out: the same with fewer blocks. Limits: numbers only; a returned value stays where it is computed.

    block4:                                  (both lead to block4)
        return 1
    block7:
        return 1
"""

from pybpfasm.ir.function import Block, Function, reverse_postorder
from pybpfasm.ir.operations import Branch, Goto, MayGoto, Return


def share_returns(function: Function) -> None:
    """Run the pass."""
    order = reverse_postorder(function.entry)
    shared: dict[int, Block] = {}
    instead: dict[Block, Block] = {}
    for block in order:
        end = block.operations[-1]
        if len(block.operations) == 1 and isinstance(end, Return) and isinstance(end.value, int):
            instead[block] = shared.setdefault(end.value, block)
    for block in order:
        match block.operations[-1]:
            case Goto() as goto:
                goto.block = instead.get(goto.block, goto.block)
            case Branch() as branch:
                branch.yes, branch.no = instead.get(branch.yes, branch.yes), instead.get(branch.no, branch.no)
                if branch.yes is branch.no:
                    block.operations[-1] = Goto(branch.yes, branch.location)
            case MayGoto() as may:
                may.again, may.end = instead.get(may.again, may.again), instead.get(may.end, may.end)
