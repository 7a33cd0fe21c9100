"""Count how often processes call a function of a library or a program, by process.

    python examples/count_calls.py /lib/x86_64-linux-gnu/libc.so.6 getaddrinfo
    python examples/count_calls.py ./server handle_request --pid 1234

The function's name has to be in the file's table of symbols. Needs root and Linux 4.17.
"""

import argparse
from contextlib import suppress
from pathlib import Path
from signal import pause
from typing import Annotated

import pybpfasm as bpf
from pybpfasm import Length, LruHash, PtRegs, Struct, atomic_add, get_current_comm, u32, u64
from pybpfasm import helpers as h
from pybpfasm.compiler import compile_collection
from pybpfasm.kernel import Collection, TypedMap
from pybpfasm.kernel.links import attach_uprobe
from pybpfasm.scripts import run_script

EVERY_PROCESS = -1


class Calls(Struct):
    """By a process."""

    number: u64
    comm: Annotated[bytes, Length(16)]


calls = LruHash[u32, Calls](max_entries=8192)


@bpf.uprobe("FILE:FUNCTION")  # which ones is said when it is attached
def called(ctx: PtRegs) -> int:
    """Count the call; at the first keep the process's name."""
    pid = h.get_current_pid_tgid() >> 32
    entry = calls.lookup(pid)
    if entry is not None:
        atomic_add(entry.number, 1)
        return 0
    first = Calls(number=1, comm=b"")
    get_current_comm(first.comm)
    calls.update(pid, first)
    return 0


def main() -> None:
    """Attach, wait, print the table."""
    parser = argparse.ArgumentParser(description="Count how often processes call a function.")
    parser.add_argument("file", type=Path, help="a library or a program")
    parser.add_argument("function")
    parser.add_argument("--pid", type=int, default=EVERY_PROCESS, help="only this process; else all of them")
    arguments = parser.parse_args()
    with Collection.load(compile_collection([called])) as loaded:
        link = attach_uprobe(loaded.programs["called"], arguments.file, arguments.function, pid=arguments.pid)
        loaded.attach("called", link)
        with suppress(KeyboardInterrupt):
            print(f"counting calls of {arguments.function}; Ctrl-C ends it")
            pause()
        found = sorted(TypedMap(calls, loaded.maps["calls"]).items(), key=lambda entry: -entry[1].number)
        for pid, entry in found:
            print(f"{entry.number:>10}  {entry.comm.split(bytes(1))[0].decode(errors='replace')}[{pid}]")


if __name__ == "__main__":
    run_script(main)
