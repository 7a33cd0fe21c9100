"""How a line of assembly is read: forms made of parts, each with its pattern and what it is called in an error.

A form's parts make one regular expression, which is what reads good text. Text that no form takes is compared with the
forms part by part: the error stands where the furthest of them gave up, and names what would have gone on.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from pybpfasm.errors import BpfError
from pybpfasm.isa.instruction import LAST_REGISTER, MASK64, Instruction

LONGEST_LINE = 1000

# Between parts. What is taken is never given back, here and in names: a line costs no more than its length.
_SPACE = r"[ \t]*+"

# What an error says is missing, beside the parts' names.
AN_INSTRUCTION = "an instruction"
END = "the end of the line"

# A group that took no part is None.
Groups = Sequence[str | Any]


class ParseError(BpfError, ValueError):
    """Text that is no instruction. `line` and `column` count from 1; the text has the source line and a caret."""

    def __init__(self, line: int, column: int, source: str, message: str) -> None:
        shown = "".join(
            each if each.isprintable() or each == "\t" else "\ufffd" for each in source[:LONGEST_LINE].rstrip()
        )
        before = "".join("\t" if each == "\t" else " " for each in shown[: column - 1].ljust(column - 1))
        super().__init__(f"line {line}, column {column}: {message}\n    {shown}\n    {before}^")
        self.line = line
        self.column = column
        self.message = message


class ValueRangeError(Exception):
    """A part that has its pattern and cannot be meant; `group` says which."""

    def __init__(self, group: int, message: str) -> None:
        super().__init__(message)
        self.group = group
        self.message = message


class Part(NamedTuple):
    """One piece of a form, and what it is called."""

    pattern: str
    name: str


Build = Callable[[Groups], Instruction]


class Form:
    """One way of writing an instruction; `build` makes it of the parts' groups."""

    def __init__(self, build: Build, *parts: Part) -> None:
        self.build = build
        self.parts = parts
        self.match = re.compile(_SPACE.join(part.pattern for part in parts)).fullmatch
        self._pieces = [re.compile(part.pattern) for part in parts]

    @classmethod
    def of(cls, build: Build, pattern: str, parts: Mapping[str, Part]) -> "Form":
        """A form written out: words that stand for themselves, and names of parts in braces, apart by spaces."""
        return cls(build, *(parts[each[1:-1]] if each[0] == "{" else word(each) for each in pattern.split()))

    def furthest(self, text: str, start: int) -> tuple[int, str]:
        """Where this form gives up, and what it wanted there."""
        place = start
        for part, piece in zip(self.parts, self._pieces, strict=True):
            place = _after_space(text, place)
            found = piece.match(text, place)
            if found is None:
                return place, part.name
            place = found.end()
        return _after_space(text, place), END


def word(text: str) -> Part:
    """Text that stands for itself."""
    return Part(re.escape(text) + (r"\b" if text[-1].isalnum() else ""), f"`{text}`")


def one_of(words: Iterable[str], name: str) -> Part:
    """One of several texts, the longest that fits."""
    return Part("(" + "|".join(map(re.escape, sorted(words, key=len, reverse=True))) + ")", name)


NUMBER = Part(r"([-+]?(?:0[xX][0-9a-fA-F]+|[0-9]+))\b", "a number")
SIGNED_NUMBER = Part(r"([-+][ \t]*+(?:0[xX][0-9a-fA-F]+|[0-9]+))\b", "`+` or `-` and a number")
# A name, or in quotes what is not a name in C; there `\x3b` is a character by its number.
NAME = r"[A-Za-z_.$][\w.$]*+|\"[^\"\n]*+\""
IDENTIFIER = Part(f"({NAME})", "a name")


def number(text: str) -> int:
    """A number in decimal or hexadecimal, with or without a sign and spaces behind it."""
    if " " in text or "\t" in text:
        text = text.replace(" ", "").replace("\t", "")
    return int(text, 16) if "x" in text or "X" in text else int(text)


def immediate(groups: Groups, group: int, instead: str = "") -> int:
    """A group as a signed number of 32 bits; unsigned ones are taken, too. `instead`: what to do with wider ones."""
    value = number(groups[group] or "0")
    if 0x7FFFFFFF < value <= 0xFFFFFFFF:
        return value - (1 << 32)
    if not -0x80000000 <= value <= 0x7FFFFFFF:
        raise ValueRangeError(group, f"{value} has more than 32 bits{instead}")
    return value


def wide_immediate(groups: Groups, group: int) -> int:
    """A group as an unsigned number of 64 bits; signed ones are taken, too."""
    value = number(groups[group] or "0")
    if not -(1 << 63) <= value <= MASK64:
        raise ValueRangeError(group, f"{value} has more than 64 bits")
    return value & MASK64


def unsigned(groups: Groups, group: int) -> int:
    """A group as an unsigned number of 32 bits."""
    return immediate(groups, group) & 0xFFFFFFFF


def offset(groups: Groups, group: int) -> int:
    """A group as a signed number of 16 bits; 0 if it took no part."""
    value = number(groups[group] or "0")
    if not -0x8000 <= value <= 0x7FFF:
        raise ValueRangeError(group, f"{value} is out of range, -32768 to 32767 are possible")
    return value


def distance(text: str, group: int) -> int:
    """How far a jump goes, from its text."""
    value = number(text)
    if not -0x8000 <= value <= 0x7FFF:
        raise ValueRangeError(group, f"a jump goes 32767 slots at most, not {value}: gotol goes farther")
    return value


def same_register(text: str, assigned: str, group: int) -> int:
    """The number of a register that has to be the one that is assigned."""
    if text != assigned:
        raise ValueRangeError(group, f"`{text}` is not the register that is assigned, `{assigned}`: here both are one")
    return int(text.lstrip("rw"))


def read(forms: Sequence[Form], text: str, line: int, start: int = 0, source: str | None = None) -> Instruction:
    """The instruction that `text` is from `start` on; `source` is the whole line, where `text` is what is left of it.

    Raises `ParseError`.
    """
    for form in forms:
        found = form.match(text, start)
        if found is not None:
            try:
                return _without_quotes(form.build(found.groups()))
            except ValueRangeError as error:
                column = found.start(error.group + 1) + 1
                raise ParseError(line, column, source or text, error.message) from None
    place, wanted = _furthest(forms, text, start)
    if place == start:
        wanted = [AN_INSTRUCTION]
    raise ParseError(line, place + 1, source or text, f"{_listed(wanted)} is expected{_found(text, place, wanted)}")


_ESCAPED = re.compile(r"\\x([0-9a-f]{2})")


def _without_quotes(instruction: Instruction) -> Instruction:
    symbol = instruction[5]
    if symbol is None or symbol[0] != '"':
        return instruction
    return instruction._replace(symbol=_ESCAPED.sub(lambda found: chr(int(found[1], 16)), symbol[1:-1]))


def _furthest(forms: Sequence[Form], text: str, start: int) -> tuple[int, list[str]]:
    ends = [form.furthest(text, start) for form in forms]
    place = max((end for end, _ in ends), default=start)
    return place, list(dict.fromkeys(name for end, name in ends if end == place))


def _listed(names: list[str]) -> str:
    if len(names) > 4:
        return f"{', '.join(names[:4])} …"
    return " or ".join(filter(None, (", ".join(names[:-1]), names[-1])))


_TOKEN = re.compile(r"%?\w+|//|\S")
_REGISTER = re.compile(r"%?[rw][0-9]+")


def _found(text: str, place: int, wanted: list[str]) -> str:
    """What stands there instead, and what may be meant by it."""
    found = _TOKEN.match(text, place)
    if found is None:
        return ""
    token = found[0]
    if _REGISTER.fullmatch(token) and int(token.lstrip("%rw")) > LAST_REGISTER:
        return f", not `{token}`: r{LAST_REGISTER} is the last register"
    if token in ("#", "//") and wanted == [END]:
        return f", not `{token}`: a comment begins with `;` in this syntax"
    if wanted == [AN_INSTRUCTION] and found.end() == len(text) and token.isidentifier():
        return f", not `{token}`: a label ends in `:`"
    return f", not `{token}`"


def _after_space(text: str, place: int) -> int:
    while place < len(text) and text[place] in " \t":
        place += 1
    return place
