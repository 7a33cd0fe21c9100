"""Compile errors: file, line, column, the source line with a caret, and what to write instead."""

import ast
import inspect
from collections.abc import Callable
from typing import Any

import attrs

from pybpfasm.errors import BpfError
from pybpfasm.ir.operations import Location

TOO_DEEP = "the program is nested too deeply: split it, with locals or inline functions (each `elif` counts)"


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
        # ast counts UTF-8 bytes, people count characters.
        prefix = text.encode()[:column].decode(errors="ignore")
        return Location(self.file, self.first_line + line - 1, len(prefix) + 1, text)


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
