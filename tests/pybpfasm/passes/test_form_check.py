"""The checker of the intermediate form: it finds each fault that it knows, and sees every compilation of the tests."""

from collections.abc import Callable
from typing import Any

import pytest

from pybpfasm import compiler
from pybpfasm.ir.check import FormError, check
from pybpfasm.ir.function import Block, Function
from pybpfasm.ir.operations import (
    AtomicUpdate,
    Binary,
    Branch,
    Call,
    Copy,
    Extend,
    Goto,
    Load,
    Location,
    Return,
    StackAddress,
    Store,
    Swap,
    Value,
)
from pybpfasm.ir.types import CONTEXT
from pybpfasm.isa import Alu, Atomic, Jump

HERE = Location("here.py", 1, 1, "")


def diamond() -> tuple[Function, Block, Block, Block]:
    """A branch whose two ways meet in a block with a parameter, which is returned."""
    function = Function("prog", HERE)
    context = function.parameter(CONTEXT)
    left, right, end = function.block(), function.block(), function.block()
    loaded = function.value()
    function.entry.operations = [
        Load(loaded, context, 0, 4, HERE),
        Branch(Jump.JEQ, loaded, 0, 64, left, right, HERE),
    ]
    left.operations = [Goto(end, HERE, [1])]
    right.operations = [Goto(end, HERE, [loaded])]
    end.parameters = [function.value()]
    end.operations = [Return(end.parameters[0], HERE)]
    return function, left, right, end


def test_a_right_function_is_right() -> None:
    """Nothing is said of one in which all holds."""
    check(diamond()[0])


def test_all_compilations_of_the_tests_are_checked() -> None:
    """The hook of conftest.py is in place."""
    assert compiler.generate.__name__ == "generate_checked"  # type: ignore[attr-defined]  # where it is looked up


Broken = Callable[[Function, Block, Block, Block], Any]


def _no_end(function: Function, left: Block, right: Block, end: Block) -> None:
    left.operations = []


def _two_ends(function: Function, left: Block, right: Block, end: Block) -> None:
    left.operations.insert(0, Return(0, HERE))


def _to_the_entry(function: Function, left: Block, right: Block, end: Block) -> None:
    left.operations = [Goto(function.entry, HERE)]


def _entry_parameter(function: Function, left: Block, right: Block, end: Block) -> None:
    function.entry.parameters = [function.value()]


def _argument_missing(function: Function, left: Block, right: Block, end: Block) -> None:
    left.operations = [Goto(end, HERE, [])]


def _branch_to_parameters(function: Function, left: Block, right: Block, end: Block) -> None:
    function.entry.operations[-1] = Branch(Jump.JEQ, 0, 0, 64, end, right, HERE)


def _twice(function: Function, left: Block, right: Block, end: Block) -> None:
    end.operations.insert(0, Copy(end.parameters[0], 1, HERE))


def _nowhere(function: Function, left: Block, right: Block, end: Block) -> None:
    left.operations = [Goto(end, HERE, [Value(99)])]


def _only_on_one_way(function: Function, left: Block, right: Block, end: Block) -> None:
    made = function.value()
    left.operations.insert(0, Copy(made, 1, HERE))
    end.operations = [Return(made, HERE)]


def _later(function: Function, left: Block, right: Block, end: Block) -> None:
    made, used = function.value(), function.value()
    left.operations[:0] = [Binary(Alu.ADD, used, made, 1, HERE), Copy(made, 1, HERE)]


def _inserted(make: Callable[[Function], Any]) -> Broken:
    def insert(function: Function, left: Block, right: Block, end: Block) -> None:
        left.operations.insert(0, make(function))

    return insert


FAULTS: list[tuple[Broken, str]] = [
    (_no_end, "block1 has no end"),
    (_two_ends, "block1 goes on behind its end, return 0"),
    (_to_the_entry, "block1 leads to the entry"),
    (_entry_parameter, "block0 is the entry and has parameters"),
    (_argument_missing, "block1 hands 0 arguments to block3, which has 1 parameters"),
    (_branch_to_parameters, "block0 branches to block3, which has parameters"),
    (_twice, "%2 is defined twice"),
    (_nowhere, "%99 is read in block1 and defined nowhere: goto block3(%99)"),
    (_only_on_one_way, "%3 is read in block3 before it is defined: return %3"),
    (_later, "%3 is read in block1 before it is defined: %4 = add %3, 1"),
    (_inserted(lambda f: Binary(Alu.MOV, f.value(), 1, 2, HERE)), "there is no such arithmetic"),
    (_inserted(lambda f: Binary(Alu.ADD, f.value(), 1, 2, HERE, bits=16)), "there is no such arithmetic"),
    (_inserted(lambda f: Binary(Alu.ADD, f.value(), 1, 2, HERE, signed=True)), "there is no such arithmetic"),
    (_inserted(lambda f: Binary(Alu.ADD, f.value(), 1 << 64, 2, HERE)), "18446744073709551616 has more than 64 bits"),
    (_inserted(lambda f: Extend(f.value(), 1, 24, False, HERE)), "8, 16 or 32 bits are extended"),
    (_inserted(lambda f: Swap(f.value(), 1, 8, HERE)), "16, 32 or 64 bits are swapped"),
    (_inserted(lambda f: Load(f.value(), f.parameters[0], 0, 3, HERE)), "1, 2, 4 or 8 bytes are moved"),
    (_inserted(lambda f: Store(StackAddress(f.slot(4)), 8, 8, 0, HERE)), "slot0 has 4 bytes"),
    (_inserted(lambda f: Store(StackAddress(f.slot(8), -4), 0, 8, 0, HERE)), "slot0 has 8 bytes"),
    (_inserted(lambda f: AtomicUpdate(Atomic.ADD, None, f.parameters[0], 0, 2, 1, HERE)), "4 or 8 bytes are changed"),
    (_inserted(lambda f: Call(f.value(), 1, (1, 2, 3, 4, 5, 6), HERE)), "five arguments at most have registers"),
]


@pytest.mark.parametrize(("break_it", "told"), FAULTS, ids=[told for _, told in FAULTS])
def test_a_fault_is_found(break_it: Broken, told: str) -> None:
    """Each in a function that is right otherwise, with the block and the operation."""
    made = diamond()
    break_it(*made)
    with pytest.raises(FormError) as caught:
        check(made[0])
    assert told in str(caught.value)
    assert str(caught.value).startswith("func prog:\n")


def test_a_branch_of_another_width_is_a_fault() -> None:
    """32 and 64 bits can be compared."""
    function, left, right, _ = diamond()
    function.entry.operations[-1] = Branch(Jump.JEQ, 0, 0, 16, left, right, HERE)
    with pytest.raises(FormError, match="32 or 64 bits are compared"):
        check(function)
