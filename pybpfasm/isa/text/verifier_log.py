"""What the verifier writes at log level 1 or 2: the instructions among it, as often as they were visited.

    0: R1=ctx() R10=fp0
    0: (bf) r6 = r1                       ; R1=ctx() R6_w=ctx()
    from 4 to 7: R0=3 R6=ctx() R10=fp0
    processed 69 insns (limit 1000000) …

What stands between the instructions changes with each kernel, so it is not read: a log is known by a line that only a
log has, and its instructions by a slot's number and the opcode in parentheses.
"""

import re
from collections.abc import Iterable, Iterator

_STATE = re.compile(
    r"^(?:from [0-9]+ to [0-9]+(?: \(speculative execution\))?: |[0-9]+: )?(?:frame[0-9]+: )?R[0-9]", re.M
)
_TOTALS = re.compile(r"^processed [0-9]+ insns ", re.M)

# Newer kernels (6.18 does) also list all instructions at level 2: loop, slot, the registers that are read later.
_INSTRUCTION = re.compile(r"[ \t]*(?:[0-9]+[ \t]+)?([0-9]+: )([.0-9]{10,} )?(?=\([0-9a-f]{2}\) )")


def is_verifier_log(text: str) -> bool:
    """Whether a line of the text is one that only a log has."""
    # To look for the words first costs little.
    state = " R10=fp" in text and _STATE.search(text) is not None
    return state or ("processed " in text and _TOTALS.search(text) is not None)


def instruction_lines(lines: Iterable[str]) -> Iterator[str]:
    """The lines with instructions, what else stands in them blanked; others are empty."""
    for line in lines:
        found = _INSTRUCTION.match(line)
        if found is None:
            yield ""
        else:
            yield f"{found[1]:>{found.end(1)}}{' ' * (found.end() - found.end(1))}{line[found.end() :]}"
