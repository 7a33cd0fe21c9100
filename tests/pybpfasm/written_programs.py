"""Programs as text: what tests of the compiler declare around the statements that they are about."""

import textwrap
from pathlib import Path
from typing import Any

import pytest
from written_modules import MakeModule

from pybpfasm.compiler import CompileError, compile_program
from pybpfasm.compiler.targets import AnyTarget

DECLARATIONS = """
from enum import IntEnum
from types import SimpleNamespace

class Stat(Struct):
    a: u64
    b: u32

class Signed(Struct):
    s: i64
    n: i32

class Inner(Struct):
    port: be16
    ip: be32

class Outer(Struct):
    inner: Inner
    z: u8

class Text(Struct):
    name: Annotated[bytes, Length(16)]
    n: u32

class Big(Struct):
    a: u64
    b: Annotated[bytes, Length(600)]

class Color(IntEnum):
    RED = 3

class Settings:
    PORT = 80

class Held(Struct):
    lock: SpinLock = SpinLock()
    n: u32 = 0

helds = HashMap[u32, Held](max_entries=4)
stats = HashMap[u32, Stat](max_entries=4)
other_stats = HashMap[u32, Stat](max_entries=4)
signeds = HashMap[u32, Signed](max_entries=4)
outers = HashMap[u32, Outer](max_entries=4)
texts = HashMap[u32, Text](max_entries=4)
by_ip = HashMap[be32, Stat](max_entries=4)
numbers = HashMap[u32, u64](max_entries=4)
storage = SkStorage[i32, Stat]()
untyped = HashMap(max_entries=4)
MAPS = (stats, other_stats)
K = 5
TRACE = False
WORDS = "words"
LONG = 1 << 100_000
ENDLESS = range(1 << 70)
WEEK = (1, 2, 3, 4, 5, 6, 7)
config = SimpleNamespace(port=80)

@bpf.inline
def add(x: int, y: int) -> int:
    return x + y

@bpf.inline
def odd(x: int) -> bool:
    return x & 1 == 1

@bpf.inline
def nothing(x: int) -> None:
    return

@bpf.inline
def find(x: int) -> Stat | None:
    return stats.lookup(x)

@bpf.inline
def use(p: Stat) -> int:
    return p.a

@bpf.inline
def recursive(x: int) -> int:
    return recursive(x)

@bpf.inline
def ping(x: int) -> int:
    return pong(x)

@bpf.inline
def pong(x: int) -> int:
    return ping(x)

def plain(x: int) -> int:
    return x
"""


def program(body: str, name: str = "prog") -> str:
    """A program of these statements, which ends with `return 1` unless they end it."""
    last = body.splitlines()[-1]
    end = "" if last.startswith(("return", "raise")) else "\n    return 1"
    return f"@bpf.connect4\ndef {name}(ctx: SockAddr) -> int:\n{textwrap.indent(body, '    ')}{end}\n"


def with_body(body: str, before: str = "") -> str:
    """A module with a program of these statements."""
    return DECLARATIONS + textwrap.dedent(before) + program(textwrap.dedent(body).strip("\n"))


def refusal(write_module: MakeModule, source: str, name: str = "prog") -> CompileError:
    """The error with which the compiler refuses the program."""
    module = write_module(source)
    with pytest.raises(CompileError) as caught:
        compile_program(getattr(module, name))
    return caught.value


def assert_refused(module: Any, marked: str, reason: str, target: AnyTarget | None = None) -> None:
    """The module's `prog` is refused for the target, at the piece of source that the case marks, for this reason."""
    with pytest.raises(CompileError) as caught:
        compile_program(module.prog, target=target)
    assert caught.value.reason.startswith(reason), str(caught.value)
    assert_points_at(caught.value, marked)


def assert_points_at(error: CompileError, marked: str) -> None:
    """The error stands at the piece of source that the case marks: `line | piece`."""
    wanted, _, piece = marked.partition(" | ")
    row = Path(error.location.file).read_text().splitlines()[error.location.line - 1]
    assert row.strip() == wanted.strip()
    assert row[error.location.column - 1 :].startswith(piece or wanted.strip())
    assert error.location.text == row
    first, shown, carets = str(error).splitlines()[:3]
    assert first == f"{error.location.file}:{error.location.line}:{error.location.column}: {error.reason}"
    assert shown[4:] == row
    assert len(carets) - len(carets.lstrip()) - 4 == error.location.column - 1
    assert carets.strip() == "^" * max(error.location.end - error.location.column, 1)
    assert error.location.end - 1 <= len(row)
