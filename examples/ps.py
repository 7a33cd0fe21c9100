"""List the processes of the machine, as ps does, in one run of a program over the kernel's own list of tasks.

    python examples/ps.py

Needs root and Linux 5.8.
"""

import argparse
from typing import Annotated

import pybpfasm as bpf
from pybpfasm import KernelStruct, Length, i32, seq_printf, u32, u64
from pybpfasm.compiler import compile_collection
from pybpfasm.kernel import Collection
from pybpfasm.kernel.links import attach_iterator
from pybpfasm.scripts import run_script


class SeqFile(KernelStruct, name="seq_file"):
    """What is written for the reader."""

    size: u64


class Meta(KernelStruct, name="bpf_iter_meta"):
    """Where the run is."""

    seq: SeqFile
    seq_num: u64


class UserId(KernelStruct, name="kuid_t"):
    """A user."""

    val: u32


class Credentials(KernelStruct, name="cred"):
    """On whose behalf a thread acts."""

    uid: UserId


class Signals(KernelStruct, name="signal_struct"):
    """What the threads of a process share."""

    nr_threads: i32


class Task(KernelStruct, name="task_struct"):
    """A thread; of a process's first one `pid` and `tgid` are the same."""

    pid: i32
    tgid: i32
    comm: Annotated[bytes, Length(16)]
    real_parent: "Task"
    cred: Credentials
    signal: Signals


@bpf.iterate("task")
def list_tasks(meta: Meta, task: Task | None) -> int:
    """Write a line for each process; the last call has no task."""
    if meta.seq_num == 0:
        seq_printf(meta.seq, "    PID  PARENT    USER THREADS NAME\n")
    if task is None or task.pid != task.tgid:
        return 0
    seq_printf(meta.seq, "%7d %7d %7u ", task.tgid, task.real_parent.tgid, task.cred.uid.val)
    seq_printf(meta.seq, "%7d %s\n", task.signal.nr_threads, task.comm)
    return 0


def main() -> None:
    """One run, printed."""
    argparse.ArgumentParser(description="List the processes of the machine.").parse_args()
    with (
        Collection.load(compile_collection([list_tasks])) as loaded,
        attach_iterator(loaded.programs["list_tasks"]) as link,
    ):
        print(link.read().decode(errors="replace"), end="")


if __name__ == "__main__":
    run_script(main)
