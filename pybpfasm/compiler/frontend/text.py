"""Text: comparisons with constants and with other text, word by word from the first byte on."""

import ast
from typing import TYPE_CHECKING

from pybpfasm.compiler.frontend.access import widest
from pybpfasm.compiler.frontend.values import Constant, Place, Value, describe
from pybpfasm.isa import Jump
from pybpfasm.lang.types import IntType, TextType

if TYPE_CHECKING:
    from pybpfasm.compiler.frontend.lowering import Lowering
    from pybpfasm.compiler.frontend.paths import Junction

_METHODS = ("startswith",)


class Text:
    """Compiles what programs do with text."""

    def __init__(self, lowering: "Lowering") -> None:
        self._lowering = lowering

    def compare(
        self, node: ast.AST, op: ast.cmpop, sides: tuple[Value, Value], yes: "Junction", no: "Junction"
    ) -> None:
        """`text == b"…"`, and `!=`."""
        if not isinstance(op, ast.Eq | ast.NotEq):
            self._lowering.fail(node, "text has no order here: compare its bytes, text[0] < …")
        if isinstance(op, ast.NotEq):
            yes, no = no, yes
        one, other = sides if is_text(sides[0]) else (sides[1], sides[0])
        assert isinstance(one, Place)  # noqa: S101 - one of them is a text
        if isinstance(other, Constant) and isinstance(other.value, bytes):
            padded = self._checked(node, one, other.value).ljust(one.type.size, b"\0")
            self._bytes_equal(node, one, padded, yes, no)
        elif isinstance(other, Place) and other.type == one.type:
            self._texts_equal(node, one, other, yes, no)
        else:
            reason = f"{describe(one)} is compared with {describe(other)}: b'…' or text of the same length is wanted"
            self._lowering.fail(node, reason)

    def starts(self, node: ast.Call, text: Place, yes: "Junction", no: "Junction") -> None:
        """`text.startswith(b"…")`."""
        if node.keywords or len(node.args) != 1:
            self._lowering.fail(node, "startswith() takes one constant, b'…'")
        prefix = self._lowering.expressions.constant(node.args[0])
        if not isinstance(prefix, bytes):
            self._lowering.fail(node.args[0], f"a constant b'…' is wanted, this is {describe(Constant(prefix))}")
        self._bytes_equal(node, text, self._checked(node.args[0], text, prefix), yes, no)

    def _checked(self, node: ast.AST, text: Place, constant: bytes) -> bytes:
        if len(constant) > text.type.size:
            self._lowering.fail(node, f"{len(constant)} bytes can never be in {text.type}")
        if b"\0" in constant:
            self._lowering.fail(node, "text ends before its zero bytes: leave them out")
        return constant

    def _bytes_equal(self, node: ast.AST, text: Place, wanted: bytes, yes: "Junction", no: "Junction") -> None:
        at = 0
        while at < len(wanted) and self._lowering.reachable:
            width = widest(text, len(wanted) - at, at)
            loaded = self._load(node, text, at, width)
            self._go_on(node, loaded, int.from_bytes(wanted[at : at + width], "little"), no)
            at += width
        self._lowering.goto(yes, node)

    def _texts_equal(self, node: ast.AST, one: Place, other: Place, yes: "Junction", no: "Junction") -> None:
        at, size = 0, one.type.size
        while at < size:
            width = min(widest(one, size - at, at), widest(other, size - at, at))
            self._go_on(node, self._load(node, one, at, width), self._load(node, other, at, width), no)
            at += width
        self._lowering.goto(yes, node)

    def _go_on(self, node: ast.AST, left: "object", right: "object", no: "Junction") -> None:
        following = self._lowering.junction()
        self._lowering.branch(node, Jump.JEQ, left, right, following, no)  # type: ignore[arg-type]  # numbers
        self._lowering.enter(following)

    def _load(self, node: ast.AST, text: Place, at: int, width: int) -> object:
        place = Place(text.base, text.offset + at, IntType(width * 8), text.alignment)
        return self._lowering.access.read(node, place)


def is_text(value: Value) -> bool:
    """Whether a value is text in memory."""
    return isinstance(value, Place) and isinstance(value.type, TextType)


def text_method(value: Value, name: str) -> bool:
    """Whether text has a method of this name."""
    return is_text(value) and name in _METHODS
