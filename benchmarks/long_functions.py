"""Functions of any number of lines, of statements that programs are made of, and how long their compilation takes."""

import importlib.util
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from pybpfasm.compiler import compile_program

_PRELUDE = '''\
"""A long program."""

import pybpfasm as bpf
from pybpfasm import HashMap, SockOps, Struct, be32, htonl, ntohl, u32, u64


class Flow(Struct):
    """A flow."""

    source: be32
    target: be32
    number: u32


class Stat(Struct):
    """Its counters."""

    packets: u64
    octets: u64
    flags: u32


stats = HashMap[Flow, Stat](max_entries=1024)


@bpf.sock_ops
def long(ctx: SockOps) -> int:
    """Look things up, count them, remember."""
    total = 0
    mark = ctx.op
'''

# What a line is made from: `{n}` is the block's number. Every block is complete in itself, as statements are.
_BLOCK = """\
    length = ctx.data_segs_out + {n}
    if length > {limit}:
        total += length - {limit}
    elif mark == {n}:
        mark = length ^ {n}
    key = Flow(source=ctx.remote_ip4, target=htonl({n}), number=length & 0xFF)
    stat = stats.lookup(key)
    if stat is not None:
        stat.packets += 1
        stat.octets += length
        if stat.flags & 1 == 0 and ntohl(ctx.local_ip4) >> 24 != 127:
            stat.flags |= mark & 0xFF
        total += stat.packets
    else:
        total = total * 3 + {n}
"""


def lines_of(count: int) -> Iterator[str]:
    """A module whose program has about `count` lines in its body."""
    yield _PRELUDE
    block = _BLOCK.count("\n")
    for number in range(count // block):
        yield _BLOCK.format(n=number, limit=64 + number % 1400)
    yield "    return total & 0xFFFF\n"


def compiled(count: int) -> float:
    """How many seconds a function of so many lines takes, its module's import not counted."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"long_{count}.py"
        path.write_text("".join(lines_of(count)))
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None  # noqa: S101 - it is a file
        assert spec.loader is not None  # noqa: S101 - of Python
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        start = time.perf_counter()
        compile_program(module.long)
        return time.perf_counter() - start
