"""What stands in a block: a line an instruction, with its slot."""

import re

from pybpfasm.cfg.graph import Block, Function
from pybpfasm.isa import Syntax, format_instruction

_LONGEST = 96
_OPCODE = re.compile(r"\([0-9a-f]{2}\) ")
# Characters that XML 1.0 does not have (section 2.2), others that do not print, and marks that turn the writing round.
_UNPRINTABLE = re.compile(r"[^ -~\u00a1-\u1fff\u2070-\ud7ff\uf900-\ufdcf\ufdf0-\ufffd\U00010000-\U0001fffd]")


def lines_of(block: Block, syntax: Syntax) -> list[str]:
    """The block's instructions as text, without the kernel syntax's opcodes; long lines are cut."""
    return [f"{slot:4}  {shown(_OPCODE.sub('', format_instruction(each, syntax), 1))}" for slot, each in block.lines()]


def heading_of(function: Function) -> str:
    """What a function is called: its name if it has one, and where it starts."""
    name = function.name or ("entry" if function.start == 0 else "function")
    return f"{shown(name)} · slot {function.start}"


def shown(text: str) -> str:
    """Text without what cannot be shown, and not longer than a line."""
    text = _UNPRINTABLE.sub("\ufffd", text)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
