"""The source of a program's functions: each file is read and parsed once, whole."""

import ast
from collections.abc import Callable
from functools import lru_cache
from types import CodeType
from typing import Any

from pybpfasm.compiler.frontend.diagnostics import TOO_DEEP, CompileError
from pybpfasm.ir.operations import Location
from pybpfasm.records import frozen

# How many files are kept, parsed: a program seldom comes from more.
_FILES = 64

Definitions = dict[tuple[int, str], ast.FunctionDef | ast.AsyncFunctionDef]


@frozen
class Source:
    """A function's source: its tree, and the lines of its file."""

    function: Callable[..., Any]
    tree: ast.FunctionDef
    file: str
    lines: tuple[str, ...]

    @classmethod
    def of(cls, function: Callable[..., Any]) -> "Source":
        """Find a function's source; a `CompileError` without a line if there is none."""
        inner = _unwrapped(function)
        code = getattr(inner, "__code__", None)
        file, number = (code.co_filename, code.co_firstlineno) if isinstance(code, CodeType) else _place(function)
        text = _text(file, inner)
        if text is None or not 0 < number <= len(lines := _lines(text)):
            name = getattr(function, "__name__", None) or repr(function)
            reason = f"the source of {name} cannot be found: define it with `def` in a file"
            raise CompileError(Location(file, 1, 1, ""), reason)
        first = lines[number - 1]
        location = Location(file, number, len(first) - len(first.lstrip()) + 1, first)
        tree = _definitions(text, location).get((number, code.co_name)) if isinstance(code, CodeType) else None
        if not isinstance(tree, ast.FunctionDef):
            reason = "a program is a function: write it with `def`"
            if tree is None and isinstance(code, CodeType) and code.co_name != "<lambda>":
                reason = f"`{code.co_name}` is not here any more: the file was changed after it had been imported"
            raise CompileError(location, reason)
        if inner is not function:
            reason = f"`{tree.name}` is wrapped by another decorator, which a program would leave out: remove it"
            raise CompileError(location, reason)
        return cls(function, tree, file, lines)

    def location(self, node: ast.AST) -> Location:
        """Where a node of the tree stands in the file; a function stands at its `def`."""
        line = getattr(node, "lineno", self.tree.lineno)
        text = self.lines[line - 1]
        column = _characters(text, getattr(node, "col_offset", 0)) + 1
        return Location(self.file, line, column, text, self._end(node, line, text))

    @staticmethod
    def _end(node: ast.AST, line: int, text: str) -> int:
        """The column behind the node, or behind its first line; what has a body is shown by its first character."""
        end = getattr(node, "end_col_offset", None)
        if end is None or (hasattr(node, "body") and not isinstance(node, ast.IfExp | ast.Lambda)):
            return 0
        if getattr(node, "end_lineno", line) != line:
            return len(text.rstrip()) + 1
        return _characters(text, end) + 1


def _unwrapped(function: Any) -> Any:
    while hasattr(function, "__wrapped__"):
        function = function.__wrapped__
    return function


def _place(thing: Any) -> tuple[str, int]:
    """The file and the line of what is no function, as far as it has them."""
    import inspect  # slow to import, and seldom wanted

    try:
        return inspect.getsourcefile(thing) or "<unknown>", max(inspect.getsourcelines(thing)[1], 1)
    except (OSError, TypeError):
        return "<unknown>", 0


def _text(file: str, function: Any) -> str | None:
    """A file's text; also of what is no file but known to linecache (typed in, or from an archive)."""
    try:
        with open(file, "rb") as opened:
            return opened.read().decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except (OSError, UnicodeDecodeError, ValueError):
        import linecache

        return "".join(linecache.getlines(file, getattr(function, "__globals__", None))) or None


@lru_cache(maxsize=_FILES)
def _lines(text: str) -> tuple[str, ...]:
    return tuple(text.split("\n"))


def _definitions(text: str, location: Location) -> "Definitions":
    """The functions of a file by where Python says that they begin, at their first decorator, and by name."""
    try:
        return _parsed(text)
    except SyntaxError:
        return {}
    except (RecursionError, MemoryError):
        raise CompileError(location, TOO_DEEP) from None


@lru_cache(maxsize=_FILES)
def _parsed(text: str) -> "Definitions":
    found: Definitions = {}
    pending: list[ast.AST] = [ast.parse(text)]
    while pending:
        node = pending.pop()
        for each in ast.iter_child_nodes(node):
            if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef):
                first = min([each.lineno, *(decorator.lineno for decorator in each.decorator_list)])
                found[first, each.name] = each
            if isinstance(each, ast.stmt | ast.ExceptHandler | ast.match_case):
                pending.append(each)
    return found


def _characters(text: str, column: int) -> int:
    """ast counts UTF-8 bytes, people count characters."""
    return column if text.isascii() else len(text.encode()[:column].decode(errors="ignore"))
