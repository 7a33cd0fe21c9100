"""Labels, functions and their addresses: from names to distances."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from isa_streams import unhurried

from pybpfasm import isa
from pybpfasm.isa import EncodingError, Instruction, Jump, Label, link_functions, resolve_labels

NOP = isa.mov_imm(0, 0)


def test_labels_become_distances_in_slots() -> None:
    """A jump counts slots from the instruction after it, forward and back, over two-slot instructions."""
    resolved = resolve_labels(
        [
            Label("start"),
            isa.jump_if_imm(Jump.JEQ, 1, 0, "end"),
            isa.load_imm64(0, 5),
            isa.jump("start"),
            Label("end"),
            isa.exit_program(),
        ]
    )
    assert [each.offset for each in resolved] == [3, 0, -4, 0]
    assert all(each.symbol is None for each in resolved)


@pytest.mark.parametrize(
    ("jump", "field"),
    [
        (isa.jump("there"), "offset"),
        (isa.jump_long("there"), "imm"),
        (isa.may_goto("there"), "offset"),
        (isa.call_function("there"), "imm"),
        (isa.load_function(2, "there"), "imm"),
        (isa.jump_if(Jump.JSLE, 1, 2, "there"), "offset"),
        (isa.jump_if_imm(Jump.JSET, 1, 2, "there", bits=32), "offset"),
    ],
    ids=lambda value: value if isinstance(value, str) else isa.format_instruction(value),
)
def test_what_refers_to_a_label(jump: Instruction, field: str) -> None:
    """Every instruction with a label has the distance in its field, and nothing else of it changes."""
    there: list[Instruction | Label] = [NOP, NOP, jump, NOP, NOP, NOP, Label("there"), NOP]
    resolved = resolve_labels(there)[2]
    distance = 3 if jump.slots == 1 else 4
    assert getattr(resolved, field) == distance
    assert resolved._replace(**{field: 0}) == jump._replace(symbol=None)  # type: ignore[arg-type]  # a field of int


def test_an_address_of_a_function_behind_is_unsigned() -> None:
    """The immediate of ld_imm64 is the 32 bits of the distance, with nothing in its upper half."""
    resolved = resolve_labels([Label("f"), NOP, isa.load_function(2, "f")])
    assert resolved[1].imm == 0xFFFFFFFE
    assert isa.decode(isa.encode(resolved)) == resolved


def test_other_names_are_left() -> None:
    """Maps, variables and kfuncs are named until load time, also by the name of a label."""
    others = [
        isa.load_map(1, "x"),
        isa.load_map_value(1, "x", 4),
        isa.load_kernel_variable(1, "x"),
        isa.call_kfunc("x"),
    ]
    assert resolve_labels([Label("x"), *others]) == others


def test_functions_follow_each_other() -> None:
    """The first is the program; a call and an address count from where they stand to where the function begins."""
    stream = link_functions(
        [
            ("main", [isa.load_function(1, "callback"), isa.call_function("helper"), isa.exit_program()]),
            ("helper", [isa.load_imm64(0, 1), isa.jump("out"), Label("out"), isa.exit_program()]),
            ("callback", [isa.mov_imm(0, 0), isa.call_function("main"), isa.exit_program()]),
        ]
    )
    assert stream[0] == Instruction(0x18, 1, 4, 0, 7)
    assert stream[1] == Instruction(0x85, 0, 1, 0, 1)
    assert stream[7] == Instruction(0x85, 0, 1, 0, -10)
    assert link_functions([]) == []


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([NOP, isa.jump("nowhere")], "slot 1: label 'nowhere' is not defined"),
        ([NOP, isa.call_function("nowhere")], "slot 1: label 'nowhere' is not defined"),
        ([isa.load_imm64(1, 1), isa.load_function(1, "nowhere")], "slot 2: label 'nowhere' is not defined"),
        ([Label("a"), NOP, Label("a")], "slot 1: label 'a' is defined twice"),
        (
            [isa.jump("far"), *[NOP] * 0x8000, Label("far")],
            "slot 0: label 'far' is 32768 slots away, a jump reaches 32767: jump_long (gotol) goes farther",
        ),
        (
            [Label("far"), *[NOP] * 0x8000, isa.jump_if_imm(Jump.JEQ, 1, 0, "far")],
            "slot 32768: label 'far' is -32769 slots away, a jump reaches 32767: jump_long (gotol) goes farther",
        ),
    ],
    ids=["jump", "call", "address", "twice", "forward", "back"],
)
def test_label_errors_name_the_slot(items: list[Instruction | Label], message: str) -> None:
    """A label that is missing, doubled or out of reach is refused."""
    with pytest.raises(EncodingError, match=f"^{re.escape(message)}$"):
        resolve_labels(items)


def test_a_label_of_two_functions_is_refused() -> None:
    """Labels of linked functions are one name space."""
    with pytest.raises(EncodingError, match=r"^slot 1: label 'x' is defined twice$"):
        link_functions([("f", [Label("x"), NOP]), ("g", [Label("x"), NOP])])


def test_how_far_jumps_go() -> None:
    """32,767 slots forward and 32,768 back; jump_long goes on."""
    assert resolve_labels([isa.jump("far"), *[NOP] * 0x7FFF, Label("far")])[0].offset == 0x7FFF
    assert resolve_labels([Label("far"), *[NOP] * 0x7FFF, isa.jump("far")])[-1].offset == -0x8000
    assert resolve_labels([isa.jump_long("far"), *[NOP] * 70000, Label("far")])[0].imm == 70000


@unhurried
@given(st.lists(st.sampled_from("abc:") | st.integers(0, 2), max_size=30))
def test_distances_lead_to_the_labels(picks: list[str | int]) -> None:
    """Whatever the order of jumps, wide instructions and labels: a jump's target is its label's slot."""
    items: list[Instruction | Label] = []
    for number, pick in enumerate(picks):
        items += [isa.load_imm64(0, number)] if isinstance(pick, int) else [isa.jump(f"L{pick}")]
        if pick == ":":
            items.append(Label(f"at{number}"))
    items += [Label(f"L{pick}") for pick in "abc:"]
    last = sum(each.slots for each in items if isinstance(each, Instruction))
    slot = 0
    for each in resolve_labels(items):
        if each.opcode == 0x05:
            assert slot + 1 + each.offset == last
        slot += each.slots
