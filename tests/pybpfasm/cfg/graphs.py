"""Programs that graphs are made of, in tests."""

from hypothesis import strategies as st

from pybpfasm.cfg import ControlFlowGraph
from pybpfasm.isa import (
    Alu,
    Instruction,
    Jump,
    Label,
    alu_imm,
    call_function,
    exit_program,
    jump,
    jump_if_imm,
    load_imm64,
    mov_imm,
    parse,
    resolve_labels,
)

# A loop in a loop, a callback, calls of two functions, dead code, an endless wait.
EVERYTHING = """
    r7 = 0
outer:
    r8 = 0
inner:
    r8 += 1
    if r8 < 10 goto inner
    call double
    if r0 == 0 goto skip
    r7 += r0
    call three
skip:
    r9 += 1
    if r7 < 100 goto outer
    r2 = subprog[each]
    call bpf_loop#181
self:
    may_goto self
    goto done
    r0 = 7
    if r0 != 3 goto done
    r0 = 9
done:
    r0 = r7
    exit
double:
    if r1 > 5 goto big
    r0 = 1
    exit
big:
    call three
    exit
three:
    r0 = 3
    exit
each:
    r0 = 0
    exit
"""


def graph_of(text: str) -> ControlFlowGraph:
    """The graph of a program in the kernel's syntax."""
    return ControlFlowGraph.of(parse(text))


def ladder(steps: int, reach: int) -> list[Instruction]:
    """`steps` conditional jumps, every third of which leads `reach` steps back, the others as far ahead."""
    items: list[Instruction | Label] = []
    for step in range(steps):
        goal = step - reach if step % 3 == 0 else step + reach
        items += [
            Label(f"s{step}"),
            alu_imm(Alu.ADD, 0, step),
            jump_if_imm(Jump.JEQ, 0, step, f"s{_within(goal, steps)}"),
        ]
    return resolve_labels([*items, Label(f"s{steps}"), exit_program()])


def _within(goal: int, steps: int) -> int:
    return min(max(goal, 0), steps)


@st.composite
def programs(draw: st.DrawFn) -> list[Instruction]:
    """Any instructions that a graph can be made of: jumps to anywhere, calls, ld_imm64, ends in odd places."""
    count = draw(st.integers(1, 40))
    places = st.integers(0, count - 1).map(lambda place: f"s{place}")
    conditional = places.map(lambda place: jump_if_imm(Jump.JNE, 1, 7, place))
    kinds = st.one_of(
        st.just(mov_imm(0, 1)),
        st.just(load_imm64(1, 5)),
        st.just(exit_program()),
        conditional,
        conditional,
        places.map(jump),
        places.map(call_function),
    )
    items: list[Instruction | Label] = []
    for place, instruction in enumerate(draw(st.lists(kinds, min_size=count, max_size=count))):
        items += [Label(f"s{place}"), instruction]
    return resolve_labels(items)
