"""Compile errors: file, line, column, the source line with a caret, and what to write instead."""

import ast
import inspect
from collections.abc import Callable, Sequence
from typing import Any

from pybpfasm.errors import BpfError
from pybpfasm.ir.operations import Location
from pybpfasm.records import frozen

TOO_DEEP = "the program is nested too deeply: split it, with locals or inline functions (each `elif` counts)"


class CompileError(BpfError):
    """A program that the compiler refuses. `location` says where, `reason` what is wrong and what to write instead.

    The text's first line is `file:line:column: reason`; the source line follows, with carets below the part that is
    meant. `others` are the further errors of the program, whose texts are in this one's, too.
    """

    def __init__(self, location: Location, reason: str, others: "Sequence[CompileError]" = ()) -> None:
        self.location = location
        self.reason = reason
        self.others = tuple(others)
        # The name of a pointer that is to be tested first: it is told once.
        self.untested: str | None = None
        super().__init__("\n".join([_told(location, reason), *(str(each) for each in others)]))


class SilentError(CompileError):
    """What follows from an error that has been told: nobody is told again."""


def _told(location: Location, reason: str) -> str:
    carets = " " * (location.column - 1) + "^" * max(location.end - location.column, 1)
    place = f"{location.file}:{location.line}:{location.column}"
    return f"{place}: {reason}\n    {location.text}\n    {carets}"


class Findings:
    """The errors of one compilation, one a place, in the order of the source."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, int, int], CompileError] = {}
        # How many were met, also of those that are not told again.
        self.met = 0

    def add(self, error: CompileError) -> None:
        """Note an error, unless it follows from another or its place has one."""
        self.met += 1
        place = error.location
        if not isinstance(error, SilentError):
            self._found.setdefault((place.file, place.line, place.column), error)

    def check(self) -> None:
        """Raise what was found, as one error."""
        found = [error for _, error in sorted(self._found.items(), key=lambda each: each[0])]
        if found:
            raise CompileError(found[0].location, found[0].reason, found[1:])


@frozen
class Source:
    """A function's source: its tree, and how the tree's places relate to the file's."""

    function: Callable[..., Any]
    tree: ast.FunctionDef
    file: str
    first_line: int
    lines: tuple[str, ...]

    @classmethod
    def of(cls, function: Callable[..., Any]) -> "Source":
        """Read a function's source; a `CompileError` without a line if Python cannot find it."""
        file = "<unknown>"
        try:
            file = inspect.getsourcefile(function) or file
            lines, first_line = inspect.getsourcelines(function)
        except (OSError, TypeError):
            name = getattr(function, "__name__", None) or repr(function)
            reason = f"the source of {name} cannot be found: define it with `def` in a file"
            raise CompileError(Location(file, 1, 1, ""), reason) from None
        column = len(lines[0]) - len(lines[0].lstrip()) + 1
        location = Location(file, first_line, column, lines[0].rstrip("\n"))
        tree = _parsed("".join(lines), location)
        if not isinstance(tree, ast.FunctionDef):
            raise CompileError(location, "a program is a function: write it with `def`")
        if inspect.unwrap(function) is not function:
            reason = f"`{tree.name}` is wrapped by another decorator, which a program would leave out: remove it"
            raise CompileError(location, reason)
        return cls(function, tree, file, first_line, tuple(line.rstrip("\n") for line in lines))

    def location(self, node: ast.AST) -> Location:
        """Where a node of the tree stands in the file; a function stands at its `def`."""
        line = getattr(node, "lineno", self.tree.lineno)
        column = getattr(node, "col_offset", 0)
        text = self.lines[line - 1]
        return Location(
            self.file, self.first_line + line - 1, _characters(text, column) + 1, text, self._end(node, line, text)
        )

    @staticmethod
    def _end(node: ast.AST, line: int, text: str) -> int:
        """The column behind the node, or behind its first line; what has a body is shown by its first character."""
        end = getattr(node, "end_col_offset", None)
        if end is None or (hasattr(node, "body") and not isinstance(node, ast.IfExp | ast.Lambda)):
            return 0
        if getattr(node, "end_lineno", line) != line:
            return len(text.rstrip()) + 1
        return _characters(text, end) + 1


def _characters(text: str, column: int) -> int:
    """ast counts UTF-8 bytes, people count characters."""
    return len(text.encode()[:column].decode(errors="ignore"))


def _parsed(text: str, location: Location) -> ast.stmt | None:
    """The first statement of `text`, with its columns as in the file; None if that is no whole statement."""
    # Taking indentation away would break a comment or a string that reaches further left; a block around it does not.
    indented = location.column > 1
    try:
        module = ast.parse(f"if True:\n{text}" if indented else text)
    except SyntaxError:
        return None
    except (RecursionError, MemoryError):
        raise CompileError(location, TOO_DEEP) from None
    if not indented:
        return module.body[0]
    ast.increment_lineno(module, -1)
    block = module.body[0]
    return block.body[0] if isinstance(block, ast.If) else None
