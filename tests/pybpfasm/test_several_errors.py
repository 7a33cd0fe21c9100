"""All errors of a program are told at once, each once, and none that only follows from another."""

import textwrap
from pathlib import Path

import pytest
from written_modules import MakeModule
from written_programs import DECLARATIONS, refusal, with_body

from pybpfasm.compiler import CompileError, compile_program

# Statements | for each error: the line, and the beginning of the reason.
CASES = [
    (
        """
        x = stats.lookup(1).a
        y = x + 1
        ctx.user_port = 80
        p = stats.lookup(1)
        z = p.a
        z = p.b
        return 5
        """,
        [
            ("x = stats.lookup(1).a", "this may be None: test it first, `if stats.lookup(1) is None`"),
            ("ctx.user_port = 80", "SockAddr.user_port is be16, this is int"),
            ("z = p.a", "this may be None: test it first, `if p is None`"),
            ("return 5", "5 is no result of this program"),
        ],
    ),
    (
        """
        if ctx.type == 1:
            x = nope
            y = x
        else:
            y = 1 / 2
        z = y
        for i in range(3):
            z = i.real
            if i == 2:
                break
            ctx.type = 1
        """,
        [
            ("x = nope", "`nope` is not defined"),
            ("y = 1 / 2", "`/` is not supported"),
            ("z = i.real", "int has no attribute"),
            ("ctx.type = 1", "SockAddr.type cannot be assigned"),
        ],
    ),
    (
        """
        x = wrong(1)
        y = wrong(2) + x
        z = called(3) + y
        if flag(3):
            z = 1
        ctx.type = 1
        """,
        [
            ("ctx.type = 1", "SockAddr.type cannot be assigned"),
            ("return x / 2", "`/` is not supported"),
            ("return x / 3", "`/` is not supported"),
            ("return x / 4 == 1", "`/` is not supported"),
        ],
    ),
    (
        """
        while ctx.type:
            x = nope
            if x == 3:
                continue
            x += 1
            return 7
        """,
        [("x = nope", "`nope` is not defined"), ("return 7", "7 is no result")],
    ),
]

BEFORE = """
@bpf.inline
def wrong(x: int) -> int:
    return x / 2

@bpf.subprogram
def called(x: int) -> int:
    return x / 3

@bpf.inline
def flag(x: int) -> bool:
    return x / 4 == 1
"""


@pytest.mark.parametrize(("body", "wanted"), CASES, ids=range(len(CASES)))
def test_all_errors_are_told(write_module: MakeModule, body: str, wanted: list[tuple[str, str]]) -> None:
    """Each with its place, in the text of the first and among its others."""
    error = refusal(write_module, with_body(body, BEFORE))
    found = [error, *error.others]
    told = [(each.location.text.strip(), each.reason) for each in found]
    assert [line for line, _ in told] == [line for line, _ in sorted(wanted, key=lambda each: _place(error, each[0]))]
    assert all(reason.startswith(dict(wanted)[line]) for line, reason in told)
    rows = str(error).splitlines()
    assert [row for row in rows if ": " in row and row.startswith("/")] == [
        f"{each.location.file}:{each.location.line}:{each.location.column}: {each.reason}" for each in found
    ]


def _place(error: CompileError, line: str) -> int:
    rows = [row.strip() for row in Path(error.location.file).read_text().splitlines()]
    return rows.index(line)


def test_the_part_that_is_meant_is_marked(write_module: MakeModule) -> None:
    """The carets reach from where the error begins to where it ends, counted in characters."""
    error = refusal(write_module, with_body("ctx.user_port = K + 1  # ä"))
    assert str(error).splitlines()[1:] == ["        ctx.user_port = K + 1  # ä", "                        ^^^^^"]
    error = refusal(write_module, with_body("x = ctx.user_port + (1 +\n    2)"))
    assert str(error).splitlines()[2].strip() == "^" * len("ctx.user_port")
    error = refusal(write_module, with_body("x = add(\n    1)"))
    assert str(error).splitlines()[2].strip() == "^" * len("add(")


def test_one_error_has_no_others(write_module: MakeModule) -> None:
    """A program with one error is told of one."""
    module = write_module(
        DECLARATIONS + textwrap.dedent("@bpf.connect4\ndef prog(ctx: SockAddr) -> int:\n    return 9\n")
    )
    with pytest.raises(CompileError) as caught:
        compile_program(module.prog)
    assert caught.value.others == ()
