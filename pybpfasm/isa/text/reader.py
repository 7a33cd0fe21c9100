"""Text read line by line: what stands before the instructions, and what they say together."""

import re
from collections.abc import Iterator, Sequence

from pybpfasm.isa.assembler import Label, resolve_labels
from pybpfasm.isa.instruction import EncodingError, Instruction
from pybpfasm.isa.opcodes import CALL, EXIT, LD_IMM64, Alu, Class, WideKind
from pybpfasm.isa.text.grammar import LONGEST_LINE, ParseError, read
from pybpfasm.isa.text.syntax import SYNTAXES, Syntax, forms_of

_MOV_IMM = Class.ALU64 | Alu.MOV

# What may stand before a statement: a slot's number, and the opcode in the kernel's way.
_BEFORE = re.compile(r"[ \t]*(?:([0-9]+):[ \t]*)?(?:\(([0-9a-fA-F]{2})\)[ \t]*)?")
_LABEL = re.compile(r"[ \t]*([A-Za-z_.$][\w.$]*+):")
_COMMENTS: dict[Syntax, re.Pattern[str]] = {
    "kernel": re.compile(r";.*|\A[ \t]*#.*"),  # `#` also stands before a helper's number
    "llvm": re.compile(r"(?://|#).*|\A[ \t]*;.*"),  # llvm-objdump writes source lines with `;`; else it separates
    "ubpf": re.compile(r"[#;].*"),
}
_WORD = re.compile(r"\w+|.")
_CALLABLE = {
    "kernel": "no helper that is known: an unknown one is called as unknown#5",
    "llvm": "helpers are called by number: call 5",
    "ubpf": "helpers are called by number: call 5",
}


def _beginning(statement: str, syntax: Syntax) -> str:
    """What of a statement says which forms it may have."""
    return "".join(_WORD.findall(statement)[:1]) if syntax == "ubpf" else statement[:1]


def _is_statement(text: str, syntax: Syntax) -> bool:
    try:
        read(forms_of(syntax)(_beginning(text, syntax)), text, 1)
    except ParseError:
        return False
    return True


def _pieces(text: str) -> Iterator[tuple[int, int]]:
    """Where the statements between semicolons begin and end."""
    begin = 0
    while begin <= len(text):
        end = text.find(";", begin)
        end = len(text) if end < 0 else end
        yield begin, end
        begin = end + 1


def _before(text: str, start: int) -> tuple[str | None, str | None, int]:
    """What stands before a statement: the slot, the opcode, and where the statement begins."""
    found = _BEFORE.match(text, start)
    assert found is not None  # noqa: S101 - all of it is optional
    slot, opcode = found.groups()
    return slot, opcode, found.end()


class Reader:
    """Reads lines one by one and puts together what they say."""

    def __init__(self, syntax: Syntax, sources: Sequence[str]) -> None:
        self._forms = forms_of(syntax)
        self._comment = _COMMENTS[syntax]
        self._syntax = syntax
        self._sources = sources
        self._known: dict[str, Instruction] = {}  # statements come again and again, in a verifier's log above all
        self._items: list[Instruction | Label] = []
        self._places: list[tuple[int, int]] = []  # of the instructions: line, and where in it they begin
        self._labels: dict[str, int] = {}
        self._slots: list[int] = []

    def line(self, number: int, source: str) -> None:
        """Read one line."""
        text = source
        if ";" in text or "#" in text or "//" in text:
            text = self._comment.sub("", text)
        if len(text) > LONGEST_LINE:
            message = f"a line has at most {LONGEST_LINE} characters, this has {len(text)}"
            raise ParseError(number, 1, source, message)
        if self._syntax == "llvm" and ";" in text:
            for begin, end in _pieces(text):
                self._statement(number, " " * begin + text[begin:end].rstrip(), source)
        else:
            self._statement(number, text.rstrip(), source)

    def _statement(self, number: int, text: str, source: str) -> None:
        """Read what is one statement at most, labels before it; it stands where it stands in `source`."""
        slot, opcode, start = _before(text, 0)
        if slot is None and opcode is None and ":" in text:
            if text.endswith("):") and self._syntax == "kernel":
                return  # a function's signature, as bpftool writes it
            slot, opcode, start = _before(text, self._read_labels(number, text))
        if start == len(text) and slot is None and opcode is None:
            return
        statement = text[start:]
        instruction = self._known.get(statement)
        if instruction is None:
            instruction = self._known[statement] = self._instruction(number, text, start, source)
        if opcode is not None and int(opcode, 16) != instruction[0]:
            instruction = _meant(instruction, int(opcode, 16), number, source)
        if slot is not None or self._slots:
            self._add_slot(number, slot)
        self._items.append(instruction)
        self._places.append((number, start))

    def _instruction(self, number: int, text: str, start: int, source: str) -> Instruction:
        try:
            return read(self._forms(_beginning(text[start:], self._syntax)), text, number, start, source)
        except ParseError as error:
            others = [each for each in SYNTAXES if each != self._syntax and _is_statement(text[start:], each)]
            if not others:
                raise
            message = f"{error.message}; in syntax {others[0]!r} it is right"
            raise ParseError(number, error.column, source, message) from None

    def instructions(self) -> list[Instruction]:
        """All of them, in order, labels resolved."""
        if self._slots:
            self._put_in_order()
        if self._syntax == "ubpf":
            self._name_last_exit()
        try:
            return resolve_labels(self._items)
        except EncodingError as error:
            raise self._located(error) from None

    def _read_labels(self, number: int, text: str) -> int:
        """Take the labels at the beginning of a line; where they end."""
        end = 0
        while (found := _LABEL.match(text, end)) is not None:
            name = found[1]
            if name in self._labels:
                message = f"label `{name}` is already in line {self._labels[name]}"
                raise self._error(number, message, found.start(1) + 1)
            self._labels[name] = number
            self._items.append(Label(name))
            end = found.end()
        return end

    def _add_slot(self, number: int, slot: str | None) -> None:
        if slot is None:
            raise self._error(number, "a slot's number is missing: number all instructions or none")
        if len(self._slots) < len(self._places):
            raise self._error(number, "a slot's number here, and none before: number all instructions or none")
        self._slots.append(int(slot))

    def _put_in_order(self) -> None:
        """Sort numbered instructions; one that was seen on several paths is taken once."""
        if self._labels:
            raise self._error(
                min(self._labels.values()), "a label among numbered instructions: leave out one or the other"
            )
        found: dict[int, tuple[Instruction, tuple[int, int]]] = {}
        for slot, instruction, place in zip(self._slots, self._items, self._places, strict=True):
            assert isinstance(instruction, Instruction)  # noqa: S101 - there are no labels
            if found.setdefault(slot, (instruction, place))[0] != instruction:
                raise self._error(place[0], f"slot {slot} is another instruction in line {found[slot][1][0]}")
        ordered = sorted(found.items())
        expected = ordered[0][0]
        for slot, (instruction, place) in ordered:
            if slot != expected:
                raise self._error(place[0], _gap(slot, expected))
            expected = slot + (2 if instruction[0] == LD_IMM64 else 1)
        self._items = [instruction for _, (instruction, _) in ordered]
        self._places = [place for _, (_, place) in ordered]

    def _name_last_exit(self) -> None:
        if "exit" in self._labels:
            return
        exits = [index for index, item in enumerate(self._items) if not isinstance(item, Label) and item[0] == EXIT]
        if exits:
            self._items.insert(exits[-1], Label("exit"))

    def _located(self, error: EncodingError) -> ParseError:
        """The line of a jump whose label is missing or too far away."""
        wanted, _, message = str(error).removeprefix("slot ").partition(": ")
        slot = 0
        instructions = (item for item in self._items if isinstance(item, Instruction))
        for instruction, (number, start) in zip(instructions, self._places, strict=True):
            symbol = instruction.symbol
            if slot == int(wanted) and symbol is not None:
                if instruction.opcode == CALL:
                    message = f"`{symbol}` is no label, and {_CALLABLE[self._syntax]}"
                name = re.compile(rf"(?<![\w.$]){re.escape(symbol)}(?![\w.$])").search(self._sources[number - 1], start)
                return self._error(number, message, name.start() + 1 if name else start + 1)
            slot += instruction.slots
        raise AssertionError(error)

    def _error(self, number: int, message: str, column: int = 1) -> ParseError:
        return ParseError(number, column, self._sources[number - 1], message)


def _gap(slot: int, expected: int) -> str:
    if slot < expected:
        return f"slot {slot} is the second slot of the instruction before it, which takes two"
    return f"slot {expected} is missing before slot {slot}; a verifier's log lacks what was never reached"


def _meant(instruction: Instruction, opcode: int, line: int, source: str) -> Instruction:
    """What the opcode in parentheses makes of text that can be read in two ways."""
    if opcode == LD_IMM64 and instruction.opcode == _MOV_IMM:
        return Instruction(opcode, instruction.dst, imm=instruction.imm & (1 << 64) - 1)
    if opcode == _MOV_IMM and instruction.opcode == LD_IMM64 and instruction.src == WideKind.IMM:
        imm = instruction.imm - (1 << 64) if instruction.imm >> 63 else instruction.imm
        if not -0x80000000 <= imm <= 0x7FFFFFFF:
            raise ParseError(line, source.rindex("=") + 2, source, f"{imm} is out of range for opcode {opcode:#04x}")
        return Instruction(opcode, instruction.dst, imm=imm)
    message = f"the opcode in parentheses is {opcode:#04x}, the instruction beside it has {instruction.opcode:#04x}"
    raise ParseError(line, source.index("(") + 2, source, message)
