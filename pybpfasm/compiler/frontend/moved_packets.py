"""What points into a packet is void once a helper may have moved the packet's data.

In: a function of the intermediate form. Out: nothing, or a `CompileError` where such an address is used.

    %3 packet = add %1, 14
    call 38(%0, 100, 0)                        moves the data
    %4 = load8 [%3]                            refused here
"""

from __future__ import annotations

from typing import Any

from pybpfasm.compiler.frontend.diagnostics import CompileError
from pybpfasm.ir.function import Block, Function, reverse_postorder
from pybpfasm.ir.operations import Call, Goto, Load, Operation, Store, Value, result_of, values_of
from pybpfasm.ir.types import Kind
from pybpfasm.uapi import Helper

# bpf_helper_changes_pkt_data of net/core/filter.c. A program that is called may move the data, too (Linux 6.13,
# 1a4607ffba35).
_MOVING = frozenset(
    (
        Helper.CLONE_REDIRECT,
        Helper.L3_CSUM_REPLACE,
        Helper.L4_CSUM_REPLACE,
        Helper.LWT_PUSH_ENCAP,
        Helper.LWT_SEG6_ACTION,
        Helper.LWT_SEG6_ADJUST_SRH,
        Helper.LWT_SEG6_STORE_BYTES,
        Helper.MSG_POP_DATA,
        Helper.MSG_PULL_DATA,
        Helper.MSG_PUSH_DATA,
        Helper.SKB_ADJUST_ROOM,
        Helper.SKB_CHANGE_HEAD,
        Helper.SKB_CHANGE_PROTO,
        Helper.SKB_CHANGE_TAIL,
        Helper.SKB_PULL_DATA,
        Helper.SKB_STORE_BYTES,
        Helper.SKB_VLAN_POP,
        Helper.SKB_VLAN_PUSH,
        Helper.STORE_HDR_OPT,
        Helper.TAIL_CALL,
        Helper.XDP_ADJUST_HEAD,
        Helper.XDP_ADJUST_META,
        Helper.XDP_ADJUST_TAIL,
    )
)

_PACKET = (Kind.PACKET, Kind.PACKET_META)

# For each address into the packet: the line of the call that has made it void, or None while it is good.
State = dict[Value, "int | None"]


def check_packets(function: Function) -> None:
    """Refuse a function that uses an address into a packet after a helper may have moved the data."""
    order = reverse_postorder(function.entry)
    if not any(isinstance(each, Call) and each.helper in _MOVING for block in order for each in block.operations):
        return
    before: dict[Block, State] = {order[0]: {}}
    changed = True
    while changed:
        changed = False
        for block in order:
            if block not in before:
                continue
            state = _through(block, dict(before[block]))
            for following in block.successors():
                merged = _merged(before.get(following), _handed_on(block, following, state))
                if merged != before.get(following):
                    before[following] = merged
                    changed = True


def _through(block: Block, state: State) -> State:
    for operation in block.operations:
        _check(operation, state)
        if isinstance(operation, Call) and operation.helper in _MOVING:
            for value, line in state.items():
                state[value] = operation.location.line if line is None else line
        result = result_of(operation)
        if result is not None and result.type.kind in _PACKET:
            void = [state[each] for each in values_of(operation) if state.get(each) is not None]
            state[result] = void[0] if void else None
    return state


def _check(operation: Operation, state: State) -> None:
    used: list[Any] = []
    if isinstance(operation, Load | Store):
        used = [operation.base]
    elif isinstance(operation, Call):
        used = list(operation.arguments)
    for value in used:
        line = state.get(value) if isinstance(value, Value) else None
        if line is not None:
            reason = f"the packet's data may have been moved by the helper in line {line}: ask for it again, packet(…)"
            raise CompileError(operation.location, reason)


def _handed_on(block: Block, following: Block, state: State) -> State:
    end = block.operations[-1]
    if not isinstance(end, Goto) or end.block is not following:
        return state
    after = dict(state)
    for parameter, argument in zip(following.parameters, end.arguments, strict=True):
        if parameter.type.kind in _PACKET:
            after[parameter] = state.get(argument) if isinstance(argument, Value) else None
    return after


def _merged(known: State | None, state: State) -> State:
    if known is None:
        return dict(state)
    merged = dict(known)
    for value, line in state.items():
        if merged.get(value) is None:
            merged[value] = line
    return merged
