"""Compile errors: file, line, column, the source line with a caret, and what to write instead."""

import ast
import inspect
import textwrap
from collections.abc import Callable
from typing import Any

import attrs

from pybpfasm.errors import BpfError
from pybpfasm.ir import Location


class CompileError(BpfError):
    """A program that the compiler refuses. `location` says where, `reason` what is wrong and what to write instead.

    The text's first line is `file:line:column: reason`; the source line and a caret follow.
    """

    def __init__(self, location: Location, reason: str) -> None:
        self.location = location
        self.reason = reason
        caret = " " * (location.column - 1) + "^"
        place = f"{location.file}:{location.line}:{location.column}"
        super().__init__(f"{place}: {reason}\n    {location.text}\n    {caret}")


@attrs.frozen
class Source:
    """A function's source: its tree, and how the tree's places relate to the file's."""

    function: Callable[..., Any]
    tree: ast.FunctionDef
    file: str
    first_line: int
    indent: int
    lines: tuple[str, ...]

    @classmethod
    def of(cls, function: Callable[..., Any]) -> "Source":
        """Read a function's source; a `CompileError` without a line if Python cannot find it."""
        file = inspect.getsourcefile(function) or "<unknown>"
        try:
            lines, first_line = inspect.getsourcelines(function)
        except (OSError, TypeError):
            reason = f"the source of {function.__name__} cannot be found: define it in a file"
            raise CompileError(Location(file, 1, 1, ""), reason) from None
        text = "".join(lines)
        tree = ast.parse(textwrap.dedent(text)).body[0]
        indent = len(lines[0]) - len(lines[0].lstrip())
        location = Location(file, first_line, indent + 1, lines[0].rstrip("\n"))
        if not isinstance(tree, ast.FunctionDef):
            raise CompileError(location, "a program is a function: write it with `def`")
        return cls(function, tree, file, first_line, indent, tuple(line.rstrip("\n") for line in lines))

    def location(self, node: ast.AST) -> Location:
        """Where a node of the tree stands in the file; a function stands at its `def`."""
        line = getattr(node, "lineno", self.tree.lineno)
        column = getattr(node, "col_offset", 0)
        text = self.lines[line - 1]
        # ast counts UTF-8 bytes, people count characters.
        prefix = text.encode()[: column + self.indent].decode(errors="ignore")
        return Location(self.file, self.first_line + line - 1, len(prefix) + 1, text)
