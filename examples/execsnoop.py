"""Print each program that is run on the machine: process, parent, file and arguments.

    python examples/execsnoop.py

The kernel's own structs are declared as far as they are read; where their fields lie is found when the program is
compiled. Needs root and Linux 5.5.
"""

import argparse
from typing import Annotated

import pybpfasm as bpf
from pybpfasm import KernelStruct, Length, RingBuf, Struct, i32, probe_read_kernel_str, probe_read_user, u32, u64
from pybpfasm.compiler import compile_collection
from pybpfasm.kernel import Collection, RingBuffer
from pybpfasm.scripts import run_script

ARGUMENT_BYTES = 128


class MemoryMap(KernelStruct, name="mm_struct"):
    """A process's memory, and where in it its arguments are."""

    arg_start: u64
    arg_end: u64


class Task(KernelStruct, name="task_struct"):
    """A thread."""

    tgid: i32
    real_parent: "Task"
    mm: MemoryMap


class Binary(KernelStruct, name="linux_binprm"):
    """What is being run."""

    filename: u64


class Arguments(Struct):
    """Text with a zero byte behind each argument."""

    text: Annotated[bytes, Length(ARGUMENT_BYTES)]


class Executed(Struct):
    """A program that is run; `argument_bytes` are there of the arguments, which may be more than were copied."""

    pid: u32
    parent: u32
    argument_bytes: u64
    file: Annotated[bytes, Length(128)]
    arguments: Annotated[bytes, Length(ARGUMENT_BYTES)]


executed = RingBuf(max_entries=1 << 18)


@bpf.tp_btf("sched_process_exec")
def watch(task: Task, old_pid: i32, binary: Binary) -> int:
    """The process has its new memory already, in which its arguments are."""
    event = executed.reserve(Executed)
    if event is None:  # the ring is full
        return 0
    event.pid = task.tgid
    event.parent = task.real_parent.tgid
    event.argument_bytes = 0
    probe_read_kernel_str(event.file, binary.filename)
    copied = probe_read_user(Arguments, task.mm.arg_start)
    if copied is not None:
        event.arguments = copied.text
        event.argument_bytes = task.mm.arg_end - task.mm.arg_start
    executed.submit(event)
    return 0


def main() -> None:
    """Attach, and print what comes."""
    parser = argparse.ArgumentParser(description="Print each program that is run on the machine.")
    parser.parse_args()
    with Collection.load(compile_collection([watch])) as loaded:
        loaded.attach_all()
        print("PID      PARENT   PROGRAM")
        with RingBuffer(loaded.maps["executed"], Executed) as events:
            for event in events:
                file = event.file.split(b"\0")[0].decode(errors="replace")
                words = event.arguments[: event.argument_bytes].rstrip(b"\0").split(b"\0")[1:]
                line = " ".join([file, *(word.decode(errors="replace") for word in words)])
                print(f"{event.pid:<9}{event.parent:<9}{line}")


if __name__ == "__main__":
    run_script(main)
