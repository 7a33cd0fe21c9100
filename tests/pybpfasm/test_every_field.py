"""No field of a syntax tree is dropped: another value of it gives other instructions, or is refused."""

# ruff: noqa: E501 - a case a line

import ast
from typing import Any

import pytest
from test_compiler_syntax import (
    COMPILED_STATEMENTS,
    EXPRESSION_SOURCES,
    STATEMENT_SOURCES,
    compiled_ones,
)
from written_modules import MakeModule
from written_programs import DECLARATIONS, with_body

from pybpfasm.compiler import CompileError, compile_program

FUNCTION = "\n@bpf.inline\ndef f({}){}:\n    {}\n"


def called(parameters: str, returns: str = " -> int", body: str = "return a + 1", call: str = "f(ctx.type)") -> str:
    """A program that calls an inline function declared like this; after `|` comes what is before the program."""
    return f"return {call} & 1|" + FUNCTION.format(parameters, returns, body)


# Node and field | statements | statements that differ in this field only.
CASES: dict[str, tuple[str, str]] = {
    "AnnAssign.target": ("x: u64 = 1\ny = 2\nreturn x & 1", "y: u64 = 1\nx = 2\nreturn x & 1"),
    "AnnAssign.annotation": ("x: u8 = ctx.type\nreturn x >> 9", "x: u64 = ctx.type\nreturn x >> 9"),
    "AnnAssign.value": ("x: u64 = 1\nreturn x", "x: u64 = 0\nreturn x"),
    "Assert.test": ("assert True", "assert False"),
    "Assert.msg": ("assert False, 'one'", "assert False, 'other'"),
    "Assign.targets": ("x = y = 1\nx = 0\nreturn y", "x = 1\nx = 0\nreturn y"),
    "Assign.value": ("x = 1\nreturn x", "x = 0\nreturn x"),
    "Attribute.value": ("return Settings.PORT & 1", "return Color.PORT & 1"),
    "Attribute.attr": ("return ctx.type & 1", "return ctx.family & 1"),
    "AugAssign.target": ("x = 1\ny = 1\nx -= 1\nreturn x", "x = 1\ny = 1\ny -= 1\nreturn x"),
    "AugAssign.op": ("x = ctx.type\nx += 1\nreturn x & 1", "x = ctx.type\nx -= 1\nreturn x & 3"),
    "AugAssign.value": ("x = ctx.type\nx += 1\nreturn x & 7", "x = ctx.type\nx += 2\nreturn x & 7"),
    "BinOp.left": ("return ctx.type - 1 & 1", "return ctx.family - 1 & 1"),
    "BinOp.op": ("return ctx.type + 2 & 1", "return ctx.type | 2 & 1"),
    "BinOp.right": ("return ctx.type - 1 & 7", "return ctx.type - 2 & 7"),
    "BoolOp.op": ("return odd(ctx.type) and odd(ctx.family)", "return odd(ctx.type) or odd(ctx.family)"),
    "BoolOp.values": ("return odd(ctx.type) and odd(ctx.family)", "return odd(ctx.type) and odd(ctx.protocol)"),
    "Call.func": ("return add(ctx.type, 1) & 1", "return use(ctx.type, 1) & 1"),
    "Call.args": ("return add(ctx.type, 1) & 7", "return add(ctx.type, 2) & 7"),
    "Call.keywords": ("return add(ctx.type, y=1) & 7", "return add(ctx.type, y=2) & 7"),
    "Compare.left": ("return ctx.type < 5", "return ctx.family < 5"),
    "Compare.ops": ("return ctx.type < 5", "return ctx.type > 5"),
    "Compare.comparators": ("return 1 < ctx.type < 5", "return 1 < ctx.type < 6"),
    "Constant.value": ("return 1", "return 0"),
    "Expr.value": ("h.ktime_get_ns()", "h.get_current_pid_tgid()"),
    "For.target": ("x = 1\nfor i in unroll((5, 0)):\n    pass\nreturn x", "x = 1\nfor x in unroll((5, 0)):\n    pass\nreturn x"),
    "For.iter": ("for i in unroll((1, 2)):\n    ctx.user_port = htons(i)", "for i in unroll((1, 3)):\n    ctx.user_port = htons(i)"),
    "For.body": ("for i in range(3):\n    ctx.user_port = htons(1)", "for i in range(3):\n    ctx.user_port = htons(2)"),
    "For.orelse": ("for i in range(3):\n    pass\nelse:\n    return 0", "for i in range(3):\n    pass\nelse:\n    return 1"),
    "FunctionDef.args": (called("a: int"), called("b: int")),
    "FunctionDef.body": (called("a: int"), called("a: int", body="return a + 2")),
    "FunctionDef.decorator_list": (called("a: int"), called("a: int").replace("@bpf.inline", "@bpf.subprogram")),
    "FunctionDef.returns": (called("a: int", call="f(ctx.type) >> 9"), called("a: int", " -> u8", call="f(ctx.type) >> 9")),
    "If.test": ("if ctx.type:\n    return 0", "if ctx.family:\n    return 0"),
    "If.body": ("if ctx.type:\n    return 0", "if ctx.type:\n    ctx.user_port = htons(1)"),
    "If.orelse": ("if ctx.type:\n    return 0\nelse:\n    ctx.user_port = htons(1)", "if ctx.type:\n    return 0\nelse:\n    pass"),
    "IfExp.test": ("return 1 if ctx.type else 0", "return 1 if ctx.family else 0"),
    "IfExp.body": ("return 1 if ctx.type == 7 else 0", "return 0 if ctx.type == 7 else 0"),
    "IfExp.orelse": ("return 0 if ctx.type == 7 else 1", "return 0 if ctx.type == 7 else 0"),
    "List.elts": ("l = Listed(all=[1, 2])\nreturn l.all[1] - 1", "l = Listed(all=[1, 1])\nreturn l.all[1] - 1"),
    "Match.subject": ("match ctx.type:\n    case 1:\n        return 0", "match ctx.family:\n    case 1:\n        return 0"),
    "Match.cases": ("match ctx.type:\n    case 1:\n        return 0", "match ctx.type:\n    case 2:\n        return 0"),
    "MatchAs.pattern": ("match ctx.type:\n    case _:\n        return 0", "match ctx.type:\n    case 1 as x:\n        return 0"),
    "MatchAs.name": ("match ctx.type:\n    case _:\n        return 0", "match ctx.type:\n    case x:\n        return 0"),
    "MatchOr.patterns": ("match ctx.type:\n    case 1 | 2:\n        return 0", "match ctx.type:\n    case 1 | 5:\n        return 0"),
    "MatchSingleton.value": ("match odd(ctx.type):\n    case True:\n        return 0", "match odd(ctx.type):\n    case False:\n        return 0"),
    "MatchValue.value": ("match ctx.type:\n    case 1:\n        return 0", "match ctx.type:\n    case 2:\n        return 0"),
    "Name.id": ("return K - 5", "return WORDS - 5"),
    "NamedExpr.target": ("if (x := ctx.type) > 1:\n    return x & 1", "if (y := ctx.type) > 1:\n    return x & 1"),
    "NamedExpr.value": ("if (x := ctx.type) > 1:\n    return x & 1", "if (x := ctx.family) > 1:\n    return x & 1"),
    "Return.value": ("return 1", "return 0"),
    "Starred.value": ("return add(*MAPS)", "return add(*(1, 2))"),
    "Subscript.value": ("return ctx.user_ip6[0] == htonl(1)", "return ctx.type[0] == htonl(1)"),
    "Subscript.slice": ("return ctx.user_ip6[0] == htonl(1)", "return ctx.user_ip6[1] == htonl(1)"),
    "Tuple.elts": ("return ctx.type in (1, 2)", "return ctx.type in (1, 9)"),
    "UnaryOp.op": ("return -ctx.type & 7", "return ~ctx.type & 7"),
    "UnaryOp.operand": ("return -ctx.type & 7", "return -ctx.family & 7"),
    "While.test": ("x = 9\nwhile x > 3:\n    x -= 1\nreturn x - 3", "x = 9\nwhile x > 2:\n    x -= 1\nreturn x - 2"),
    "While.body": ("x = 9\nwhile x > 3:\n    x -= 1\nreturn x - 3", "x = 9\nwhile x > 3:\n    x -= 2\nreturn x - 3"),
    "While.orelse": ("x = 9\nwhile x > 3:\n    x -= 1\nelse:\n    return 0", "x = 9\nwhile x > 3:\n    x -= 1\nelse:\n    return 1"),
    "With.items": ("v, w = helds.lookup(1), helds.lookup(2)\nif v is None or w is None:\n    return 0\nwith spin_lock(v.lock):\n    v.n = 1", "v, w = helds.lookup(1), helds.lookup(2)\nif v is None or w is None:\n    return 0\nwith spin_lock(w.lock):\n    v.n = 1"),
    "With.body": ("v, w = helds.lookup(1), helds.lookup(2)\nif v is None or w is None:\n    return 0\nwith spin_lock(v.lock):\n    v.n = 1", "v, w = helds.lookup(1), helds.lookup(2)\nif v is None or w is None:\n    return 0\nwith spin_lock(v.lock):\n    v.n = 2"),
    "arg.arg": (called("a: int"), called("b: int")),
    "arg.annotation": (called("a: int", body="return a >> 9"), called("a: u8", body="return a >> 9")),
    "arguments.args": (called("a: int"), called("a: int, b: int")),
    "arguments.posonlyargs": (called("a: int", call="f(a=ctx.type)"), called("a: int, /", call="f(a=ctx.type)")),
    "arguments.vararg": (called("a: int"), called("a: int, *b: int")),
    "arguments.kwonlyargs": (called("a: int, b: int = 1", call="f(ctx.type, 2)"), called("a: int, *, b: int = 1", call="f(ctx.type, 2)")),
    "arguments.kw_defaults": (called("a: int, *, b: int"), called("a: int, *, b: int = 1")),
    "arguments.kwarg": (called("a: int"), called("a: int, **b: int")),
    "arguments.defaults": (called("a: int, b: int", body="return a + b"), called("a: int, b: int = 3", body="return a + b")),
    "keyword.arg": ("return add(x=ctx.type, y=1) & 7", "return add(x=ctx.type, z=1) & 7"),
    "keyword.value": ("return add(x=ctx.type, y=1) & 7", "return add(x=ctx.type, y=2) & 7"),
    "match_case.pattern": ("match ctx.type:\n    case 1:\n        return 0", "match ctx.type:\n    case 2:\n        return 0"),
    "match_case.guard": ("match ctx.type:\n    case 1 if K == 5:\n        return 0", "match ctx.type:\n    case 1 if K == 6:\n        return 0"),
    "withitem.context_expr": ("v, w = helds.lookup(1), helds.lookup(2)\nif v is None or w is None:\n    return 0\nwith spin_lock(v.lock):\n    v.n = 1", "v, w = helds.lookup(1), helds.lookup(2)\nif v is None or w is None:\n    return 0\nwith spin_lock(w.lock):\n    v.n = 1"),
    "withitem.optional_vars": ("v, w = helds.lookup(1), helds.lookup(2)\nif v is None or w is None:\n    return 0\nwith spin_lock(v.lock):\n    v.n = 1", "v, w = helds.lookup(1), helds.lookup(2)\nif v is None or w is None:\n    return 0\nwith spin_lock(v.lock) as x:\n    v.n = 1"),
    "match_case.body": ("match ctx.type:\n    case 1:\n        return 0", "match ctx.type:\n    case 1:\n        pass"),
}  # fmt: skip

# Fields that say nothing about what a program does.
MEANINGLESS = {
    "AnnAssign.simple": "whether the target has parentheses",
    "Assign.type_comment": "a comment",
    "Constant.kind": "the u of u'text'",
    "For.type_comment": "a comment",
    "FunctionDef.type_comment": "a comment",
    "FunctionDef.name": "what a function is called; programs refer to the object",
    "With.type_comment": "a comment",
    "arg.type_comment": "a comment",
}
CONTEXTS = {"ctx"}  # whether it is read or assigned, which its place in the tree says, too

LISTED = """
class Listed(Struct):
    all: Annotated[list[u32], Length(2)]
"""


def outcome(write_module: MakeModule, source: str) -> Any:
    """The program's instructions, or why it is refused."""
    body, _, before = source.partition("|\n")
    module = write_module(with_body(body, LISTED + (f"\n{before}" if before else "")))
    try:
        return compile_program(module.prog).instructions
    except CompileError as error:
        return str(error).replace(str(error.location.file), "")


@pytest.mark.parametrize("field", CASES)
def test_a_field_counts(write_module: MakeModule, field: str) -> None:
    """Two sources that differ in one field do not compile to the same."""
    one, other = CASES[field]
    assert outcome(write_module, one) != outcome(write_module, other)


def kinds() -> list[type[ast.AST]]:
    """The kinds of nodes of the running Python that can be in a function, but for deprecated ones."""
    roots = (ast.stmt, ast.expr, ast.pattern, ast.arguments, ast.arg, ast.keyword, ast.match_case, ast.withitem)
    found = [kind for root in roots for kind in (root, *root.__subclasses__())]
    return [kind for kind in found if kind._fields and kind.__module__ == "ast" and issubclass(kind, roots)]


def test_every_field_has_a_case(write_module: MakeModule) -> None:
    """Each field of each kind of node that can compile is in the table, or has no meaning for the reason given."""
    refused = _always_refused(write_module)
    missing = []
    for kind in kinds():
        if kind.__name__ in refused or kind in (ast.stmt, ast.expr, ast.pattern):
            continue
        for field in kind._fields:
            name = f"{kind.__name__}.{field}"
            if field not in CONTEXTS and name not in CASES and name not in MEANINGLESS:
                missing.append(name)
    assert missing == []


def _always_refused(write_module: MakeModule) -> set[str]:
    """Kinds of nodes of which no snippet compiles, and those that are parts of such only."""
    del write_module
    statements = {kind for kind, sources in STATEMENT_SOURCES.items() if not COMPILED_STATEMENTS & set(sources)}
    patterns = {"MatchClass", "MatchMapping", "MatchSequence", "MatchStar"}
    expressions = {
        "Await", "Dict", "DictComp", "FormattedValue", "GeneratorExp", "Interpolation", "JoinedStr", "Lambda",
        "ListComp", "Set", "SetComp", "Slice", "TemplateStr", "Yield", "YieldFrom",
    }  # fmt: skip
    deprecated = {"Num", "Str", "Bytes", "NameConstant", "Ellipsis", "Index", "ExtSlice"}
    return statements | patterns | expressions | deprecated


@pytest.mark.parametrize(
    "kind", ["Dict", "DictComp", "GeneratorExp", "JoinedStr", "Lambda", "ListComp", "Set", "SetComp", "Slice"]
)
def test_what_is_always_refused(write_module: MakeModule, kind: str) -> None:
    """No snippet of these kinds compiles, wherever a value may stand."""
    for source in EXPRESSION_SOURCES[kind]:
        assert compiled_ones(write_module, [f"x = {source}", f"return {source}", f"add({source}, 1)"]) == set()


def test_patterns_that_are_refused(write_module: MakeModule) -> None:
    """Of patterns only constants compile."""
    patterns = ["Stat(a=1)", "{'a': 1}", "[1, 2]", "(1, *_)", "None"]
    bodies = [f"match ctx.type:\n    case {pattern}:\n        return 0" for pattern in patterns]
    assert compiled_ones(write_module, bodies) == set()


def test_type_parameters_are_refused_or_used(write_module: MakeModule) -> None:
    """A function with type parameters, `def f[T]()`, compiles only if they are given a meaning (Python 3.12)."""
    source = DECLARATIONS + "\n@bpf.connect4\ndef prog[T](ctx: SockAddr) -> int:\n    return 1\n"
    try:
        compile(source, "snippet", "exec")
    except SyntaxError:
        return
    module = write_module(source)
    with pytest.raises(CompileError, match="type parameters"):
        compile_program(module.prog)
