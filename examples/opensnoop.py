"""Print each file that is opened on the machine: by whom, its name, and the descriptor or the error.

    python examples/opensnoop.py --failed

A probe at the function's entry keeps where the name is; one at its return reads it, when it is in memory for certain,
and knows how it ended. Needs root and Linux 5.8.
"""

import argparse
import errno
from typing import Annotated

import pybpfasm as bpf
from pybpfasm import HashMap, Length, RingBuf, Struct, get_current_comm, i32, probe_read_user_str, u32, u64
from pybpfasm import helpers as h
from pybpfasm.compiler import compile_collection
from pybpfasm.kernel import Collection, RingBuffer
from pybpfasm.scripts import run_script


class Opening(Struct):
    """Where in the process's memory the name is."""

    name: u64


class Opened(Struct):
    """What came of it: a descriptor, or an errno below 0."""

    pid: u32
    result: i32
    comm: Annotated[bytes, Length(16)]
    name: Annotated[bytes, Length(128)]


openings = HashMap[u64, Opening](max_entries=16384)
opened = RingBuf(max_entries=1 << 18)


@bpf.kprobe("do_sys_openat2")
def begins(directory: i32, name: u64) -> int:
    """Keep the name's address, by thread."""
    openings.update(h.get_current_pid_tgid(), Opening(name=name))
    return 0


@bpf.kretprobe("do_sys_openat2")
def ends(*, result: i32) -> int:
    """Tell what was opened."""
    thread = h.get_current_pid_tgid()
    opening = openings.lookup(thread)
    if opening is None:
        return 0
    event = opened.reserve(Opened)
    if event is not None:
        event.pid = thread >> 32
        event.result = result
        get_current_comm(event.comm)
        probe_read_user_str(event.name, opening.name)
        opened.submit(event)
    openings.delete(thread)
    return 0


def text(octets: bytes) -> str:
    """Up to the zero."""
    return octets.split(b"\0")[0].decode(errors="replace")


def main() -> None:
    """Attach both, and print what comes."""
    parser = argparse.ArgumentParser(description="Print each file that is opened on the machine.")
    parser.add_argument("--failed", action="store_true", help="only what could not be opened")
    arguments = parser.parse_args()
    with Collection.load(compile_collection([begins, ends])) as loaded:
        loaded.attach_all()
        print("PID      COMMAND          RESULT   FILE")
        with RingBuffer(loaded.maps["opened"], Opened) as events:
            for event in events:
                if event.result < 0 or not arguments.failed:
                    failed = errno.errorcode.get(-event.result, str(event.result))
                    result = failed if event.result < 0 else str(event.result)
                    print(f"{event.pid:<9}{text(event.comm):<17}{result:<9}{text(event.name)}")


if __name__ == "__main__":
    run_script(main)
