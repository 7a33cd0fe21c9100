"""Nothing is skipped: every kind of statement and expression of Python compiles, or is refused with a place."""

import ast
import re
import textwrap
from pathlib import Path
from typing import Any

import pytest
from written_modules import MakeModule
from written_programs import DECLARATIONS, program

from pybpfasm.compiler import CompileError, compile_program

WITH = "v = helds.lookup(1)\nif v is None:\n    return 0\nwith spin_lock(v.lock):\n    v.n = 1"

STATEMENT_SOURCES: dict[str, list[str]] = {
    "FunctionDef": ["def f() -> None:\n    pass"],
    "AsyncFunctionDef": ["async def f() -> None:\n    pass"],
    "ClassDef": ["class C:\n    pass"],
    "Return": ["return 1", "return", "return K"],
    "Delete": ["x = 1\ndel x"],
    "Assign": ["x = 1", "x = y = 1", "x, y = 1, 2", "[x] = [1]", "(x) = 1", "*x, y = 1, 2", "ctx.user_port = htons(1)"],
    "TypeAlias": ["type X = int"],
    "AugAssign": ["x = 1\nx += 1", "x = 1\nx @= 2", "x = 1\nx **= 2", "x = 1\nx /= 2"],
    "AnnAssign": ["x: u64 = 1", "x: u64", "(x): u64 = 1"],
    "For": [
        "for i in range(2):\n    pass",
        "for i in range(2):\n    pass\nelse:\n    pass",
        "for i in 'ab':\n    pass",
    ],
    "AsyncFor": ["async for i in K:\n    pass"],
    "While": ["while True:\n    pass", "while ctx.type:\n    break"],
    "If": ["if ctx.type:\n    pass", "if K:\n    pass\nelse:\n    return 0"],
    "With": [
        "with K:\n    pass",
        "v = helds.lookup(1)\nif v is None:\n    return 0\nwith spin_lock(v.lock):\n    v.n = 1",
    ],
    "AsyncWith": ["async with K:\n    pass"],
    "Match": ["match ctx.type:\n    case 1:\n        pass\n    case _:\n        pass"],
    "Raise": ["raise ValueError", "raise ValueError(1) from None"],
    "Try": ["try:\n    pass\nexcept ValueError:\n    pass", "try:\n    pass\nfinally:\n    pass"],
    "TryStar": ["try:\n    pass\nexcept* ValueError:\n    pass"],
    "Assert": ["assert ctx.type", "assert True"],
    "Import": ["import os"],
    "ImportFrom": ["from os import path"],
    "Global": ["global K"],
    "Nonlocal": ["nonlocal K"],
    "Expr": ["h.ktime_get_ns()", "5", "'text'", "ctx.type"],
    "Pass": ["pass"],
    "Break": ["for i in range(2):\n    break"],
    "Continue": ["for i in range(2):\n    continue"],
}

EXPRESSION_SOURCES: dict[str, list[str]] = {
    "BoolOp": ["odd(1) and odd(2)", "ctx.type and 5", "True or False"],
    "NamedExpr": ["(y := 5)"],
    "BinOp": [f"ctx.type {sign} 2" for sign in ("+", "-", "*", "/", "//", "%", "**", "@", "<<", ">>", "&", "|", "^")],
    "UnaryOp": ["-ctx.type", "+ctx.type", "~ctx.type", "not ctx.type", "-htons(1)"],
    "Lambda": ["lambda: 1", "(lambda: 1)()"],
    "IfExp": ["1 if ctx.type else 2", "ctx if ctx.type else ctx"],
    "Dict": ["{}", "{1: 2}"],
    "Set": ["{1, 2}"],
    "ListComp": ["[i for i in range(3)]"],
    "SetComp": ["{i for i in range(3)}"],
    "DictComp": ["{i: i for i in range(3)}"],
    "GeneratorExp": ["(i for i in range(3))"],
    "Await": ["await K"],
    "Yield": ["(yield)", "(yield 1)"],
    "YieldFrom": ["(yield from K)"],
    "Compare": [f"ctx.type {sign} 2" for sign in ("==", "!=", "<", "<=", ">", ">=", "is", "is not", "in", "not in")]
    + ["1 < ctx.type < 3"],
    "Call": ["add(1, 2)", "len('abc')", "add(1, y=2)", "stats.delete(1)"],
    "FormattedValue": ["f'{K}'"],
    "JoinedStr": ["f''", "f'{ctx.type!r:>{K}}'"],
    "TemplateStr": ["t'{K}'"],
    "Interpolation": ["t'{K!r}'"],
    "Constant": ["1", "True", "None", "'text'", "b'bytes'", "1.5", "1j", "..."],
    "Attribute": ["ctx.type", "ctx.type.real", "Color.RED", "Settings.PORT", "Color.RED.value", "(5).real"],
    "Subscript": ["WORDS[0]", "K[0]", "WORDS[0:1]", "ctx[0]"],
    "Starred": ["(*K,)", "add(*(1, 2))"],
    "Name": ["K", "ctx", "nowhere", "stats", "add", "print", "bpf", "__name__", "__debug__"],
    "List": ["[]", "[1, 2]"],
    "Tuple": ["()", "(1, 2)", "(ctx.type,)"],
    "Slice": ["WORDS[ctx.type:]", "WORDS[::2]"],
}

# Wherever an expression may stand.
PLACES = [
    "x = {}",
    "x: u64 = {}",
    "ctx.user_port = {}",
    "{}",
    "return {}",
    "if {}:\n    return 0",
    "x = 1 + {}",
    "x = not {}",
    "x = {} == 1",
    "x = 5 if {} else 6",
    "x = {} if ctx.type else 6",
    "x = add({}, 1)",
    "p = stats.lookup({})",
    "stats.update(1, {})",
    "x = Stat(a={}, b=1)",
    "for i in unroll({}):\n    pass",
    "for i in range({}):\n    pass",
    "{}.x = 5",
    "x = ({}).x",
    "x = ({})[0]",
    "x = ({})(1)",
    "x = htons({})",
    "x = ip4({})",
    "x = ({}) is None",
    "x = h.get_netns_cookie({})",
]


def nodes_of(base: type[ast.AST]) -> list[str]:
    """The node types of this Python that stand below `base`; old names that only warn are left out."""
    gone = {"Num", "Str", "Bytes", "NameConstant", "Ellipsis"}
    return sorted(
        each.__name__ for each in base.__subclasses__() if each.__module__ == "ast" and each.__name__ not in gone
    )


@pytest.mark.parametrize("kind", nodes_of(ast.stmt))
def test_every_kind_of_statement_has_a_snippet(kind: str) -> None:
    """No kind of statement of this Python is left out of the tests below, and each snippet is of its kind."""
    assert any(contains(source, kind) for source in STATEMENT_SOURCES[kind])


@pytest.mark.parametrize("kind", nodes_of(ast.expr))
def test_every_kind_of_expression_has_a_snippet(kind: str) -> None:
    """No kind of expression of this Python is left out of the tests below, and each snippet is of its kind."""
    assert any(contains(source, kind) for source in EXPRESSION_SOURCES[kind])


def contains(source: str, kind: str) -> bool:
    """Whether a snippet has a node of this kind."""
    function = f"async def f():\n{textwrap.indent(source, '    ')}\n"
    return any(type(node).__name__ == kind for node in ast.walk(ast.parse(function)))


def compiled_ones(write_module: MakeModule, bodies: list[str]) -> set[str]:
    """Which bodies compile. All others are refused by a `CompileError` that stands in the file, without internals."""
    sources = {f"prog{number}": (body, program(body, f"prog{number}")) for number, body in enumerate(bodies)}
    python = {name: source for name, (_, source) in sources.items() if is_python(source)}
    module = write_module(DECLARATIONS + "".join(python.values()))
    return {sources[name][0] for name in python if compiles_or_is_refused(getattr(module, name))}


def is_python(source: str) -> bool:
    """Whether Python takes the source."""
    try:
        compile(source, "snippet", "exec")
    except SyntaxError:
        return False
    return True


def compiles_or_is_refused(tried: Any) -> bool:
    """Whether a program compiles, and if not, that the error is one for its author."""
    try:
        compile_program(tried)
    except CompileError as error:
        assert_for_its_author(error)
        return False
    return True


def assert_for_its_author(error: CompileError) -> None:
    """The error stands in the file, in one line, and says nothing of the compiler's insides."""
    rows = Path(error.location.file).read_text().splitlines()
    assert rows[error.location.line - 1] == error.location.text
    assert "\n" not in error.reason
    assert not re.search(r"\bast\b|pybpfasm\.compiler|<.* object at|Scalar|Constant\b|BoundMethod", error.reason)


@pytest.mark.parametrize("kind", [kind for kind in STATEMENT_SOURCES if hasattr(ast, kind)])
def test_statements_compile_or_are_refused(write_module: MakeModule, kind: str) -> None:
    """Every kind of statement compiles or is refused with a place: none is skipped, none shows a traceback."""
    sources = STATEMENT_SOURCES[kind]
    assert compiled_ones(write_module, sources) == COMPILED_STATEMENTS & set(sources)
    inside = {f"if ctx.type:\n{textwrap.indent(source, '    ')}": source for source in sources}
    found = compiled_ones(write_module, list(inside))
    assert {inside[body] for body in found} == COMPILED_STATEMENTS & set(sources)


COMPILED_STATEMENTS = {
    "return 1",
    "x = 1",
    "(x) = 1",
    "ctx.user_port = htons(1)",
    "x = 1\nx += 1",
    "x = y = 1",
    "x, y = 1, 2",
    "x: u64 = 1",
    "(x): u64 = 1",
    "for i in range(2):\n    pass",
    "for i in range(2):\n    pass\nelse:\n    pass",
    "while ctx.type:\n    break",
    WITH,
    "match ctx.type:\n    case 1:\n        pass\n    case _:\n        pass",
    "assert True",
    "if ctx.type:\n    pass",
    "if K:\n    pass\nelse:\n    return 0",
    "h.ktime_get_ns()",
    "'text'",
    "pass",
    "for i in range(2):\n    break",
    "for i in range(2):\n    continue",
}


@pytest.mark.parametrize("place", PLACES)
def test_expressions_compile_or_are_refused_everywhere(write_module: MakeModule, place: str) -> None:
    """Every kind of expression, in every place an expression can stand, compiles or is refused with a place."""
    expressions = [source for sources in EXPRESSION_SOURCES.values() for source in sources]
    compiled_ones(write_module, [place.format(source) for source in expressions])


COMPILED_VALUES = {
    *["odd(1) and odd(2)", "True or False", "-ctx.type", "+ctx.type", "~ctx.type", "not ctx.type"],
    *[f"ctx.type {sign} 2" for sign in ("+", "-", "*", "//", "%", "<<", ">>", "&", "|", "^")],
    *[f"ctx.type {sign} 2" for sign in ("==", "!=", "<", "<=", ">", ">=")],
    *["1 if ctx.type else 2", "add(1, 2)", "add(1, y=2)", "stats.delete(1)", "1", "True", "ctx.type", "Color.RED"],
    "Color.RED.value",
    *["Settings.PORT", "K", "ctx", "__debug__", "(y := 5)", "len('abc')", "1 < ctx.type < 3"],
}


def test_what_a_name_can_be_given(write_module: MakeModule) -> None:
    """Of all kinds of expression, exactly those that docs/language.md lists can be given to a name."""
    expressions = {f"x = {source}": source for sources in EXPRESSION_SOURCES.values() for source in sources}
    found = compiled_ones(write_module, list(expressions))
    assert {expressions[body] for body in found} == COMPILED_VALUES
