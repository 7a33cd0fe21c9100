"""What a helper lends has to be given back: on every path, once, and not used afterwards.

In: a function of the intermediate form. Out: nothing, or a `CompileError`. On each path it is followed which values
hold what was acquired; where paths meet, a parameter holds what any of them brings. A test of 0 says that nothing was.

    %1 memory? = call 131(map[events], 16, 0)      held by %1
    if jeq %1, 0 goto block1 else block2           block1: not held; block2: held
    block2:
        call 132(%1, 0)                            given back
"""

from __future__ import annotations

from typing import Any

from pybpfasm.compiler.frontend.diagnostics import CompileError
from pybpfasm.ir.function import Block, Function, reverse_postorder
from pybpfasm.ir.operations import (
    Binary,
    Branch,
    Call,
    CallKernel,
    Copy,
    Goto,
    Operation,
    Return,
    Value,
    result_of,
    values_of,
)
from pybpfasm.ir.types import Kind
from pybpfasm.isa import Jump
from pybpfasm.records import evolve, frozen
from pybpfasm.uapi import Helper


@frozen
class Loan:
    """What a helper lends: how messages say that, and what gives it back."""

    verb: str
    how: str


_RESERVED = Loan("reserved", "hand it to submit() or discard()")
_FOUND = Loan("found", "hand it to sk_release()")
_ACQUIRED = Loan("acquired", "hand it to the function that releases it")
_DYNPTR = Loan("reserved", "hand it to submit() or discard()")

_ACQUIRE: dict[int, Loan] = {
    Helper.RINGBUF_RESERVE: _RESERVED,
    Helper.RINGBUF_RESERVE_DYNPTR: _DYNPTR,
    Helper.KPTR_XCHG: _ACQUIRED,
    Helper.SK_LOOKUP_TCP: _FOUND,
    Helper.SK_LOOKUP_UDP: _FOUND,
    Helper.SKC_LOOKUP_TCP: _FOUND,
}
_RELEASE: dict[int, Loan] = {
    Helper.RINGBUF_SUBMIT: _RESERVED,
    Helper.RINGBUF_DISCARD: _RESERVED,
    Helper.SK_RELEASE: _FOUND,
    Helper.RINGBUF_SUBMIT_DYNPTR: _DYNPTR,
    Helper.RINGBUF_DISCARD_DYNPTR: _DYNPTR,
    Helper.KPTR_XCHG: _ACQUIRED,
}

# Which argument is given back, where it is not the first; and which holds what is lent, where the result does not.
_BACK_AT: dict[int, int] = {Helper.KPTR_XCHG: 1}
_HELD_AT: dict[int, int] = {Helper.RINGBUF_RESERVE_DYNPTR: 3}


@frozen
class Held:
    """What is known of one loan: whether it may be open, whether it may be given back, and the values that hold it."""

    open: bool
    returned: bool
    holders: frozenset[Value]


Lending = Call | CallKernel
State = dict[Lending, Held]


def _lent(operation: Operation) -> Loan | None:
    """What an operation lends."""
    if isinstance(operation, CallKernel):
        return _ACQUIRED if operation.acquires else None
    if not isinstance(operation, Call):
        return None
    if operation.helper == Helper.MAP_LOOKUP_ELEM and operation.result and operation.result.type.kind is Kind.SOCKET:
        return _FOUND
    return _ACQUIRE.get(operation.helper)


def _given_back(operation: Operation) -> Loan | None:
    """What an operation gives back."""
    if isinstance(operation, CallKernel):
        return _ACQUIRED if operation.releases else None
    return _RELEASE.get(operation.helper) if isinstance(operation, Call) else None


def check_references(function: Function) -> None:
    """Refuse a function that loses, returns twice or uses again what a helper lent."""
    order = reverse_postorder(function.entry)
    if not any(_lent(each) or _given_back(each) for block in order for each in block.operations):
        return
    _Following(order).run()


class _Following:
    """Walks the blocks until nothing new is learnt."""

    def __init__(self, order: list[Block]) -> None:
        self.order = order
        self.before: dict[Block, State] = {order[0]: {}}

    def run(self) -> None:
        """Follow all paths."""
        changed = True
        while changed:
            changed = False
            for block in self.order:
                if block in self.before:
                    for following, state in self._through(block, dict(self.before[block])):
                        changed |= self._arrive(following, state)

    def _arrive(self, block: Block, state: State) -> bool:
        known = self.before.get(block)
        merged = state if known is None else _merged(known, state)
        if merged == known:
            return False
        self.before[block] = merged
        return True

    def _through(self, block: Block, state: State) -> list[tuple[Block, State]]:
        for operation in block.operations:
            match operation:
                case Call() | CallKernel() if _lent(operation) or _given_back(operation):
                    _give_and_take(operation, state)
                case Call(helper=Helper.DYNPTR_DATA):
                    _check_use(operation, state)
                    _derive(operation.arguments[0], operation, state)
                case Call(helper=Helper.TAIL_CALL):
                    _check_tail_call(operation, state)
                case Copy(source=Value() as source) | Binary(left=Value() as source):
                    _check_use(operation, state)
                    _derive(source, operation, state)
                case Return():
                    _check_return(operation, state)
                case Goto():
                    return [(operation.block, _handed_on(operation, state))]
                case Branch():
                    return _both_sides(operation, state)
                case _:
                    _check_use(operation, state)
        return [(following, dict(state)) for following in block.successors()]


def _loan(operation: Lending) -> Loan:
    """That of an operation that is known to lend something."""
    loan = _lent(operation)
    assert loan is not None  # noqa: S101 - as the caller knows
    return loan


def _give_and_take(operation: Lending, state: State) -> None:
    """An exchange does both."""
    back, lent = _given_back(operation), _lent(operation)
    if back is not None:
        place = _BACK_AT.get(operation.helper, 0) if isinstance(operation, Call) else 0
        if operation.arguments[place] != 0:
            _release(operation, operation.arguments[place], back, state)
    if lent is not None:
        _acquire(operation, lent, state)


def _acquire(operation: Lending, loan: Loan, state: State) -> None:
    result = operation.result
    known = state.get(operation)
    if known is not None and known.open:
        raise CompileError(
            operation.location,
            f"what was {loan.verb} here the round before is not given back: {loan.how}",
        )
    held_at = _HELD_AT.get(operation.helper) if isinstance(operation, Call) else None
    holder: Any = result if held_at is None else operation.arguments[held_at]
    holders = frozenset() if holder is None else frozenset((holder,))
    state[operation] = Held(open=True, returned=False, holders=holders)


def _release(operation: Lending, given: Any, loan: Loan, state: State) -> None:
    found = [call for call, held in state.items() if given in held.holders and _lent(call) is loan]
    if not found:
        raise CompileError(operation.location, f"this is nothing that was {loan.verb}")
    for call in found:
        if state[call].returned:
            raise CompileError(
                operation.location, f"this may have been given back before: {loan.how} once on each path"
            )
        state[call] = evolve(state[call], open=False, returned=True)


def _derive(source: Any, operation: Copy | Binary | Call, state: State) -> None:
    """An address in the middle of it is good for as long."""
    for call, held in state.items():
        if source in held.holders and operation.result is not None and operation.result.type.is_address:
            state[call] = evolve(held, holders=held.holders | {operation.result})


def _check_use(operation: Operation, state: State) -> None:
    for value in values_of(operation):
        for call, held in state.items():
            if held.returned and value in held.holders and result_of(operation) is not value:
                verb = _loan(call).verb
                reason = f"this was {verb} in line {call.location.line} and has been given back: it cannot be used"
                raise CompileError(operation.location, reason)


def _check_tail_call(operation: Call, state: State) -> None:
    _check_use(operation, state)
    for call, held in state.items():
        if held.open:
            loan = _loan(call)
            reason = f"what was {loan.verb} in line {call.location.line} is lost if another program takes over"
            raise CompileError(operation.location, f"{reason}: {loan.how} before")


def _check_return(operation: Return, state: State) -> None:
    for call, held in state.items():
        if held.open:
            loan = _loan(call)
            name = next((f"`{each.name}`" for each in held.holders if each.name), "what")
            was = "was" if name == "what" else "which was"
            reason = f"{name}{',' * (name != 'what')} {was} {loan.verb} in line {call.location.line}"
            raise CompileError(operation.location, f"{reason}, is not given back on this path: {loan.how}")


def _handed_on(operation: Goto, state: State) -> State:
    after = dict(state)
    given: Any = zip(operation.block.parameters, operation.arguments, strict=True)
    for parameter, argument in given:
        for call, held in state.items():
            holders = after[call].holders - {parameter}
            if argument in held.holders:
                holders |= {parameter}
            after[call] = evolve(after[call], holders=holders)
    return after


def _both_sides(operation: Branch, state: State) -> list[tuple[Block, State]]:
    yes, no = dict(state), dict(state)
    if operation.right == 0 and operation.code in (Jump.JEQ, Jump.JNE) and isinstance(operation.left, Value):
        none = yes if operation.code is Jump.JEQ else no
        for call, held in state.items():
            # What lies in a dynptr may be None, and the dynptr is there all the same.
            in_place = isinstance(call, Call) and call.helper in _HELD_AT
            if operation.left in held.holders and not in_place:
                del none[call]
    return [(operation.yes, yes), (operation.no, no)]


def _merged(one: State, other: State) -> State:
    merged = dict(one)
    for call, held in other.items():
        known = merged.get(call)
        if known is None:
            merged[call] = held
        else:
            holders = known.holders | held.holders
            merged[call] = Held(known.open or held.open, known.returned or held.returned, holders)
    return merged
