"""Functions that are declared oddly: programs and inline functions, their parameters, decorators, scopes, sources."""

import textwrap
from pathlib import Path
from typing import Any

import pytest
from written_modules import MakeModule
from written_programs import DECLARATIONS, assert_points_at, program, refusal, with_body

from pybpfasm.compiler import CompileError, compile_program

WRAPPING = """
def other(function):
    @functools.wraps(function)
    def inner(ctx):
        return 0
    return inner
"""

# Source after DECLARATIONS | line and piece | reason.
FUNCTIONS = [
    (
        "@bpf.connect4\ndef prog() -> int:\n    return 1\n",
        "def prog() -> int:",
        "this program is declared `def prog(ctx: SockAddr) -> int`",
    ),
    (
        "@bpf.connect4\ndef prog(ctx: SockAddr, x: int) -> int:\n    return 1\n",
        "def prog(ctx: SockAddr, x: int) -> int:",
        "this program is declared",
    ),
    (
        "@bpf.connect4\ndef prog(ctx: SockOps) -> int:\n    return 1\n",
        "def prog(ctx: SockOps) -> int:",
        "this program is declared",
    ),
    ("@bpf.connect4\ndef prog(ctx) -> int:\n    return 1\n", "def prog(ctx) -> int:", "this program is declared"),
    ("@bpf.connect4\ndef prog(ctx: SockAddr):\n    return 1\n", "def prog(ctx: SockAddr):", "this program is declared"),
    (
        "@bpf.connect4\ndef prog(ctx: SockAddr) -> u64:\n    return 1\n",
        "def prog(ctx: SockAddr) -> u64:",
        "this program is declared",
    ),
    (
        "@bpf.connect4\ndef prog(ctx: SockAddr = 5) -> int:\n    return 1\n",
        "def prog(ctx: SockAddr = 5) -> int:",
        "a function of a BPF program has plain parameters only",
    ),
    (
        "@bpf.connect4\ndef prog(*ctx: SockAddr) -> int:\n    return 1\n",
        "def prog(*ctx: SockAddr) -> int:",
        "a function of a BPF program has plain",
    ),
    (
        "@bpf.connect4\ndef prog(ctx: SockAddr, /) -> int:\n    return 1\n",
        "def prog(ctx: SockAddr, /) -> int:",
        "a function of a BPF program has plain",
    ),
    (
        "@bpf.connect4\ndef prog(*, ctx: SockAddr) -> int:\n    return 1\n",
        "def prog(*, ctx: SockAddr) -> int:",
        "a function of a BPF program has plain",
    ),
    (
        "@bpf.connect4\ndef prog(ctx: SockAddr) -> int:\n    pass\n",
        "def prog(ctx: SockAddr) -> int:",
        "`prog` can end without a `return`",
    ),
    (
        "@bpf.connect4\ndef prog(ctx: SockAddr) -> int:\n    if ctx.type:\n        return 1\n",
        "def prog(ctx: SockAddr) -> int:",
        "`prog` can end without a `return`",
    ),
    (
        "@bpf.connect4\nasync def prog(ctx: SockAddr) -> int:\n    return 1\n",
        "@bpf.connect4",
        "a program is a function: write it with `def`",
    ),
    ("@bpf.connect4\nclass prog:\n    pass\n", "@bpf.connect4", "a program is a function: write it with `def`"),
    (
        "prog = bpf.connect4(lambda ctx: 1)\n",
        "prog = bpf.connect4(lambda ctx: 1)",
        "a program is a function: write it with `def`",
    ),
    ("prog = bpf.connect4(\n    lambda ctx: 1)\n", "lambda ctx: 1)", "a program is a function: write it with `def`"),
    (
        "@bpf.connect4\ndef prog(ctx: 'Missing') -> int:\n    return 1\n",
        "def prog(ctx: 'Missing') -> int:",
        "an annotation cannot be evaluated: name 'Missing'",
    ),
    (
        f"{WRAPPING}\n@bpf.connect4\n@other\ndef prog(ctx: SockAddr) -> int:\n    return 1\n",
        "@bpf.connect4",
        "`prog` is wrapped by another decorator, which a program would leave out: remove it",
    ),
]


@pytest.mark.parametrize(("source", "place", "reason"), FUNCTIONS, ids=[rule[0][:70] for rule in FUNCTIONS])
def test_odd_programs(write_module: MakeModule, source: str, place: str, reason: str) -> None:
    """A program that is declared in another way is refused at its declaration."""
    error = refusal(write_module, DECLARATIONS + source)
    assert error.reason.startswith(reason)
    assert_points_at(error, place)


VARIABLES = "from typing import TypeVar\nT = TypeVar('T')\nS = TypeVar('S', bound=Struct)\n"

# The inline function | its call | line and piece | reason.
INLINE = [
    (
        "def f(x) -> int:\n    return 1",
        "f(1)",
        "def f(x) -> int: | x)",
        "parameter `x` of f has no annotation: declare its type",
    ),
    (
        "def f(x: 'Missing') -> int:\n    return 1",
        "f(1)",
        "f(1)",
        "f: an annotation cannot be evaluated: name 'Missing'",
    ),
    (
        "def f(x: 'bpf.Missing') -> int:\n    return 1",
        "f(1)",
        "f(1)",
        "f: an annotation cannot be evaluated: module 'pybpfasm'",
    ),
    (
        "def f(x: 'int +') -> int:\n    return 1",
        "f(1)",
        "f(1)",
        "f: an annotation cannot be evaluated: Forward reference",
    ),
    (
        "def f(x: 'int | 5') -> int:\n    return 1",
        "f(1)",
        "f(1)",
        "f: an annotation cannot be evaluated: unsupported operand",
    ),
    ("def f(x: str) -> int:\n    return 1", "f(1)", "f(1)", "str is no type of a BPF program"),
    ("def f(x: u32) -> int:\n    return 1", "f(1 << 32)", "f(1 << 32) | 1 << 32", "4294967296 does not fit u32"),
    ("def f(x: int | None) -> int:\n    return 1", "f(1)", "f(1)", "only a struct or a socket can be `… | None`"),
    ("def f(x: list[int]) -> int:\n    return 1", "f(1)", "f(1)", "list is no type of a BPF program"),
    ("def f(x: u8 = 300) -> int:\n    return 1", "f()", "f()", "300 does not fit u8"),
    ("def f(x: int = 'a') -> int:\n    return 1", "f()", "f()", "this is str where int is wanted"),
    (
        "def f(*x: int) -> int:\n    return 1",
        "f(1)",
        "def f(*x: int) -> int:",
        "a function of a BPF program has plain parameters",
    ),
    (
        "def f(**x: int) -> int:\n    return 1",
        "f(x=1)",
        "def f(**x: int) -> int:",
        "a function of a BPF program has plain parameters",
    ),
    (
        "def f(x: int) -> int:\n    x = htons(1)\n    return 1",
        "f(1)",
        "x = htons(1) | htons",
        "this is be16 where int is",
    ),
    ("def f(x: u8) -> int:\n    x = 300\n    return x", "f(1)", "x = 300 | 300", "300 does not fit u8"),
    (
        "def f(ctx: SockAddr) -> int:\n    ctx = ctx\n    return 1",
        "f(ctx)",
        "ctx = ctx | ctx",
        "`ctx` is a parameter, a loop's name or a struct",
    ),
    (
        "def f(x: T, y: T) -> T:\n    return x",
        "f(ctx.type, htons(1))",
        "f(ctx.type, htons(1)) | htons",
        "T is int in this",
    ),
    ("def f(x: T) -> T:\n    return x.a", "f(ctx.type)", "return x.a | x", "int has no attribute `a`"),
    ("def f(x: S) -> int:\n    return 1", "f(ctx.type)", "f(ctx.type) | ctx", "a Struct is wanted, this is int"),
    ("def f(x: type[S]) -> int:\n    return 1", "f(5)", "f(5) | 5", "a Struct is wanted, this is int"),
    (
        "def f(x: S) -> int:\n    return x.a",
        "f(stats.lookup(1))",
        "f(stats.lookup(1)) | stats",
        "this may be None where S is",
    ),
    (
        "def f(x: S) -> S | None:\n    return None",
        "f(Stat(a=1, b=2))",
        "return None | None",
        "of what this is None is not known",
    ),
    ("def f(x: int) -> int:\n    pass", "f(1)", "def f(x: int) -> int:", "`f` can end without a `return`"),
    ("def f(x: int) -> int:\n    return", "f(1)", "return", "`return` without a value: the function returns int"),
    (
        "def f(x: int) -> bool:\n    return",
        "if f(1):\n    pass",
        "return",
        "`return` without a value: the function returns bool",
    ),
    ("def f(x: int) -> None:\n    return x", "f(1)", "return x | x", "the function is declared to return None"),
    ("def f(x: int) -> bool:\n    return x", "f(1)", "return x | x", "this is int where bool is wanted"),
    (
        "def f(x: int) -> bool:\n    return x",
        "if f(1):\n    pass",
        "return x | x",
        "a bool is wanted, this is int: compare it",
    ),
    (
        "def f(x: int) -> be16:\n    return 80",
        "f(1)",
        "return 80 | 80",
        "this is int where be16 is wanted: convert it with htons()",
    ),
    (
        "def f(x: int) -> Stat:\n    return stats.lookup(x)",
        "f(1)",
        "return stats.lookup(x) | stats",
        "this may be None where Stat is wanted",
    ),
    ("def f(x: int) -> i64:\n    return x", "f(ctx.type)", "return x | x", "this is u64 where i64 is wanted"),
    ("def f(x: i64) -> i64:\n    return x", "f(ctx.type)", "f(ctx.type) | ctx", "this is u64 where i64 is wanted"),
    (
        "def f(x: int) -> Stat:\n    if x == 1:\n        return Stat(a=1, b=1)\n    return Stat(a=2, b=2)",
        "f(ctx.type)",
        "return Stat(a=2, b=2) | Stat",
        "this returns Stat, another `return`",
    ),
    (
        "async def f(x: int) -> int:\n    return 1",
        "f(1)",
        "@bpf.inline",
        "a program is a function: write it with `def`",
    ),
    ("def f(x: int) -> int:\n    yield x", "f(1)", "yield x", "`(yield x)` is not supported in a BPF program"),
    ("def f(x: Stat | None) -> int:\n    return x.a", "f(stats.lookup(1))", "return x.a | x", "this may be None"),
    ("@functools.cache\ndef f(x: int) -> int:\n    return x", "f(1)", "f(1)", "f cannot be called in a BPF program"),
]


@pytest.mark.parametrize(("function", "call", "place", "reason"), INLINE, ids=[rule[0][:70] for rule in INLINE])
def test_odd_inline_functions(write_module: MakeModule, function: str, call: str, place: str, reason: str) -> None:
    """What an inline function may not be is refused, at its declaration, in its body or at its call."""
    error = refusal(write_module, with_body(call, f"{VARIABLES}@bpf.inline\n{function}\n"))
    assert error.reason.startswith(reason)
    assert_points_at(error, place)


def test_an_annotation_that_only_type_checkers_see(write_module: MakeModule) -> None:
    """A name imported under TYPE_CHECKING cannot be evaluated, and the error says so."""
    before = """
    if TYPE_CHECKING:
        from ipaddress import IPv4Address

    @bpf.inline
    def f(x: "IPv4Address") -> None:
        return
    """
    error = refusal(write_module, with_body("f(1)", before))
    assert error.reason == "f: an annotation cannot be evaluated: name 'IPv4Address' is not defined"


def test_a_file_that_was_changed(write_module: MakeModule) -> None:
    """What the module was imported from is not there any more: another function is not taken for it."""
    module = write_module(DECLARATIONS + "\n@bpf.connect4\ndef prog(ctx: SockAddr) -> int:\n    return 1\n")
    path = Path(str(module.__file__))
    path.write_text(path.read_text().replace("def prog", "def other"))
    with pytest.raises(
        CompileError, match="`prog` is not here any more: the file was changed after it had been imported"
    ):
        compile_program(module.prog)


def test_a_program_without_source(write_module: MakeModule) -> None:
    """Code that Python has no file of is refused by the function's name."""
    scope: dict[str, Any] = vars(write_module(DECLARATIONS))
    exec(program("return 1"), scope)  # noqa: S102 - the case itself
    with pytest.raises(CompileError, match="the source of prog cannot be found: define it with `def` in a file"):
        compile_program(scope["prog"])


@pytest.mark.parametrize("function", ["len", "functools.partial(plain)", "K"])
def test_a_program_that_is_no_function(write_module: MakeModule, function: str) -> None:
    """What is not written with `def` is refused, not tripped over."""
    module = write_module(DECLARATIONS + f"prog = bpf.connect4({function})\n")
    with pytest.raises(CompileError, match=r"the source of .* cannot be found: define it with `def` in a file"):
        compile_program(module.prog)


def test_a_function_of_a_class(write_module: MakeModule) -> None:
    """A class may hold inline functions and constants; its indentation does not move the error's column."""
    before = """
    class Group:
        LIMIT = 4

        @staticmethod
        @bpf.inline
        def wrong(x: int) -> int:
            return x + nowhere

        @staticmethod
        @bpf.inline
        def right(x: int) -> int:
            return x + Group.LIMIT
    """
    compile_program(write_module(with_body("x = Group.right(1)", before)).prog)
    error = refusal(write_module, with_body("x = Group.wrong(1)", before))
    assert error.reason == "`nowhere` is not defined"
    assert_points_at(error, "return x + nowhere | nowhere")


def test_indented_functions_may_hold_text_at_the_margin(write_module: MakeModule) -> None:
    """Comments and strings that reach further left than an indented function do not confuse where it stands."""
    source = '''
def make():
    @bpf.connect4
    def prog(ctx: SockAddr) -> int:
# at the margin
        """Text

at the margin."""
        return nowhere
    return prog
prog = make()
'''
    error = refusal(write_module, source)
    assert_points_at(error, "return nowhere | nowhere")


def test_columns_count_characters(write_module: MakeModule) -> None:
    """Letters beyond ASCII before the place count as one column each."""
    error = refusal(write_module, with_body("größe = 'ÄÖÜ'; x = nowhere", ""))
    assert error.reason == "str cannot be given to the name `größe`: a name holds a number, a pointer or a struct"
    error = refusal(write_module, with_body("größe = 1; x = nowhere", ""))
    assert_points_at(error, "größe = 1; x = nowhere | nowhere")


def test_closures(write_module: MakeModule) -> None:
    """Values of an enclosing function are constants; one that has no value yet is an error."""
    source = """
    from pybpfasm.compiler import compile_program

    def make(port):
        @bpf.connect4
        def prog(ctx: SockAddr) -> int:
            ctx.user_port = htons(port)
            return 1
        return prog
    prog = make(9)

    def early():
        @bpf.connect4
        def prog(ctx: SockAddr) -> int:
            return later
        compile_program(prog)
        later = 1
    """
    module = write_module(DECLARATIONS + textwrap.dedent(source))
    assert compile_program(module.prog).instructions
    with pytest.raises(CompileError, match="`later` has no value yet"):
        module.early()
