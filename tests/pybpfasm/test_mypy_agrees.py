"""The three slips that matter are caught twice: by `mypy --strict` and by the compiler, at the same line."""

import re
import sys
from pathlib import Path

import pytest
from mypy import api
from written_modules import import_source

from pybpfasm.compiler import CompileError, compile_program

SOURCE = '''
"""Programs with one mistake each; the wrong line ends with its number."""

import pybpfasm as bpf
from pybpfasm import HashMap, KernelStruct, SockAddr, Struct, be16, be32, htons, i32, u32, u64


class Stat(Struct):
    connects: u64
    port: be16


class task_struct(KernelStruct):
    pid: i32


@bpf.kfunc(acquire=True)
def bpf_task_from_pid(pid: i32) -> task_struct | None:
    raise NotImplementedError


@bpf.kfunc(release=True)
def bpf_task_release(p: task_struct) -> None: ...


stats = HashMap[u32, Stat](max_entries=4)
by_ip = HashMap[be32, Stat](max_entries=4)


@bpf.inline
def count(stat: Stat) -> None:
    stat.connects += 1


@bpf.inline
def is_http(port: be16) -> bool:
    return port == htons(80)


@bpf.connect4
def right(ctx: SockAddr) -> int:
    stat = stats.lookup(1)
    if stat is None:
        return 1
    count(stat)
    stat.port = ctx.user_port
    if is_http(stat.port):
        ctx.user_port = htons(8080)
    return 1

{cases}'''

# What is wrong | the statement.
CASES = {
    "a missing None test": "stat.connects += 1",
    "a missing None test before a write": "stat.port = ctx.user_port",
    "a missing None test before a call": "count(stat)",
    "a host-order int in a context's field": "ctx.user_port = 80",
    "a host-order int in a struct's field": "Stat(connects=1, port=80)",
    "a host-order int as a parameter": "is_http(80)",
    "a host-order int as a key": "by_ip.lookup(1)",
    "a number of another width in network order": "ctx.user_ip4 = ctx.user_port",
    "two conversions": "ctx.user_port = htons(htons(80))",
    "arithmetic in network order": "x = ctx.user_port + 1",
    "a misspelt field of a context": "ctx.user_prt = htons(80)",
    "a misspelt field read": "x = ctx.user_prt",
    "a misspelt field in a constructor": "Stat(conects=1, connects=1, port=ctx.user_port)",
    "a comparison of network with host order": "x = ctx.user_port == 80",
    "a missing argument": "stats.lookup()",
    "an unknown method": "stats.find(1)",
    "an unknown field of a struct of the kernel": "x = bpf.get_current_task(task_struct).nothing",
    "a Struct where one of the kernel is wanted": "x = bpf.get_current_task(Stat)",
    "a number where a lock is wanted": "bpf.spin_lock(1)",
    "a kfunc that may give None": "bpf_task_release(bpf_task_from_pid(1))",
    "a struct where a number is wanted": "for i in bpf.numbers(stats): pass",
    "two numbers of another width": "bpf.csum_diff(None, 5)",
}


def function(number: int, statement: str) -> str:
    """A program with the statement; `stat` may be None in it."""
    return f"""
@bpf.connect4
def wrong_{number}(ctx: SockAddr) -> int:
    stat = stats.lookup(1)
    {statement}  # wrong {number}
    return 1

"""


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, set[int]]:
    """The file, and the lines at which mypy finds something."""
    folder = tmp_path_factory.mktemp("mypy")
    source = SOURCE.format(cases="".join(function(number, each) for number, each in enumerate(CASES.values())))
    module = import_source(source, folder)
    path = Path(str(module.__file__))
    command = ["--strict", "--no-error-summary", "--show-error-codes", f"--cache-dir={folder / 'cache'}", str(path)]
    output, failure, _ = api.run(command)
    assert not failure
    return path, {int(number) for number in re.findall(rf"{path.name}:(\d+): error", output)}


@pytest.mark.parametrize(("number", "what"), list(enumerate(CASES)), ids=list(CASES))
def test_mypy_and_the_compiler_agree(written: tuple[Path, set[int]], number: int, what: str) -> None:
    """Both report the slip, at the line where it is."""
    path, lines = written
    rows = path.read_text().splitlines()
    line = next(at for at, row in enumerate(rows, start=1) if row.endswith(f"# wrong {number}"))
    assert line in lines
    with pytest.raises(CompileError) as caught:
        compile_program(getattr(sys.modules[path.stem], f"wrong_{number}"))
    assert caught.value.location.line == line


def test_neither_finds_fault_elsewhere(written: tuple[Path, set[int]]) -> None:
    """The right program, and all other lines, pass both."""
    path, lines = written
    rows = path.read_text().splitlines()
    assert [rows[line - 1] for line in lines if "# wrong" not in rows[line - 1]] == []
    assert compile_program(sys.modules[path.stem].right).instructions
