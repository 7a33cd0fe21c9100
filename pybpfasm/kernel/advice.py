"""What the verifier's sentences mean for who wrote the program, and what usually mends it.

The sentence is the kernel's and changes little from release to release; a register is called as the program calls the
value that is in it. `tests/pybpfasm/programs/test_advice.py` has a program for each.
"""

import re

from pybpfasm.isa.effects import changed_registers
from pybpfasm.spec import ProgramSpec

# Sentences, one pattern a line, and indented what to say: {r} is the register that the sentence names, called as in the
# program.
_ADVICE = r"""
(?P<r>R\d+) invalid mem access '\w*_or_null_?'
    {r} may be None here: test it with `is None` before, and again after it has got a new value

(?P<r>R\d+) invalid mem access '(?:inv|scalar|unknown value)'
    {r} is a number for the verifier, not a pointer: it was computed, read from memory, or lost on one of the ways here

invalid access to map value
    this reaches outside of the map's value: bound the index below the array's length

invalid access to packet
offset is outside of the packet
    the packet may end before these bytes: take them by `ctx.packet(Type, offset)`, and test the result for None

(?P<r>R\d+) unbounded memory access
(?P<r>R\d+) max value is outside of the allowed memory range
    the verifier knows no limit of an index or an offset in {r}: bound it by `min(…)`, `& (2**n - 1)` or a test, in the
    local that is used then

(?P<r>R\d+) min value is (?:negative|outside)
    {r} may be below 0 for the verifier: make the index unsigned, or test `>= 0` as well

(?P<r>R\d+) !read_ok
    {r} has no value on one of the ways here, or a call has overwritten it: set it on every way

invalid (?:indirect )?read from stack
    bytes on the stack are read that were not written on every way here: build the struct whole

invalid (?:indirect |variable-offset |unprivileged )?(?:write to stack|stack (?:type|off|access))
invalid variable-offset
    this reaches outside of what is on the stack: a stack has 512 bytes, and an index needs a limit

Unreleased reference
would lead to reference leak
reference has not been (?:released|acquired)
    what was reserved or looked up is still held where the program ends, or was let go twice: submit, discard or release
    it once on every way

back-edge from insn
infinite loop detected
    the verifier does not see that this loop ends: count by a local with a fixed end, or use `can_loop()` (Linux 6.9)

BPF program is too large
The sequence of \d+ jumps is too complex
    there are more ways through the program than the verifier follows: fewer rounds, a subprogram or `loop(…)` for the
    body, fewer tests in loops

At program exit the register R0 has
R0 has (?:unknown scalar|value)
    the result is outside of what this hook takes: return one of its constants on every way

program of this type cannot use helper
unknown func
invalid func
    this kernel has no such helper for programs of this type: `python -m pybpfasm probe` shows which there are

invalid bpf_context access
    this field of the context cannot be read or written so, at this hook or on this kernel

(?P<r>R\d+) type=(?P<has>\S+) expected=(?P<wants>.+)
    {r} is {has} where the kernel's function wants {wants}

math between (?:\w+ )?pointer and register with unbounded
value -?\d+ makes \w+ pointer be out of bounds
(?P<r>R\d+) pointer arithmetic
    a pointer is computed with a number that has no limit, or that may be None: test and bound it before

cannot call GPL-restricted function
    this helper is for programs under a licence that is compatible with the GPL: give the spec `license="GPL"`

combined stack size
Too large stack
    functions that call each other need more than 512 bytes of stack together: smaller structs, or a map of one entry a
    CPU in their place

modified ctx ptr
    a context is read at a constant offset only: take its field by name

unreachable insn
    no way leads to this code: a condition before is always the same

calling kernel function \S+ is not allowed
    this kernel lets programs of this type not call that function: look for another hook, or a later kernel

misaligned (?:\w+ )?access
    an access must be aligned to its size here: order fields by their sizes, or read bytes

might sleep in a non-sleepable
must be sleepable to call
    this may sleep, and the program may not: declare it `sleepable=True` where its hook allows that

inside bpf_spin_lock
while holding a lock
bpf_spin_unlock is missing
    a lock is held here: only plain reads and writes are allowed until it is let go
"""


# r1 = r2, all 64 bits: what a copy is called its source is.
_MOVE = 0xBF


def _read(table: str) -> list[tuple[re.Pattern[str], str]]:
    found: list[tuple[re.Pattern[str], str]] = []
    for block in table.strip().split("\n\n"):
        lines = block.splitlines()
        said = " ".join(line.strip() for line in lines if line.startswith(" "))
        found += [(re.compile(line), said) for line in lines if not line.startswith(" ")]
    return found


def advice(spec: ProgramSpec, sentences: str, slot: int | None, state: str) -> str:
    """What usually mends it, with the value's name and state; empty for sentences that are not known."""
    for pattern, text in _read(_ADVICE):
        found = pattern.search(sentences)
        if found is None:
            continue
        parts = found.groupdict()
        register = parts.get("r")
        parts["r"] = _called(spec, register, slot) if register else "it"
        said = text.format(**parts)
        known = _state_of(register, state) if register else ""
        return f"{said} (the verifier has {register}={known})" if known else said
    return ""


def _called(spec: ProgramSpec, register: str, slot: int | None) -> str:
    """As the program calls it, or the register's own name."""
    name = None if slot is None else name_of(spec, int(register[1:]), slot)
    return register if name is None else f"`{name}`"


def name_of(spec: ProgramSpec, register: int, slot: int) -> str | None:
    """What the program calls the value that a register has in front of an instruction, if it has a name for it."""
    at, last, copied = 0, -1, None
    for instruction in spec.instructions:
        if at >= slot:
            break
        if register in changed_registers(instruction):
            last, copied = at, instruction.src if instruction.opcode == _MOVE else None
        at += instruction.slots
    own = next((each.name for each in spec.names if (each.slot, each.register) == (last, register)), None)
    return name_of(spec, copied, last) if own is None and copied is not None else own


def _state_of(register: str, state: str) -> str:
    """What a line of states has for a register: up to the next one that is outside of brackets."""
    found = re.search(rf"\b{register}(?:_[rw]+)?=", state)
    if found is None:
        return ""
    depth, end = 0, len(state)
    for at in range(found.end(), len(state)):
        depth += (state[at] == "(") - (state[at] == ")")
        if state[at] == " " and depth == 0:
            end = at
            break
    return state[found.end() : end]
