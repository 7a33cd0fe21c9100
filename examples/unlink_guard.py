"""Keep the files of a directory from being deleted, by whomever, root included.

    python examples/unlink_guard.py /srv/evidence

A hook of the Linux security modules, which needs `bpf` in the kernel's list of them (/sys/kernel/security/lsm). Files
of directories below it are not guarded. Needs root and Linux 5.8.
"""

import argparse
import os
from pathlib import Path
from typing import Annotated

import pybpfasm as bpf
from pybpfasm import KernelStruct, Length, RingBuf, Struct, get_current_comm, probe_read_kernel_str, u32, u64
from pybpfasm import helpers as h
from pybpfasm.compiler import compile_collection
from pybpfasm.kernel import Collection, RingBuffer
from pybpfasm.scripts import run_script

# The directory; other numbers are put in their place below, when the program is compiled.
INODE, DEVICE = 0, 0

EPERM = 1


class SuperBlock(KernelStruct, name="super_block"):
    """A file system."""

    s_dev: u32


class Inode(KernelStruct, name="inode"):
    """A file or a directory."""

    i_ino: int
    i_sb: SuperBlock


class Name(KernelStruct, name="qstr"):
    """A name, by address."""

    name: u64


class Entry(KernelStruct, name="dentry"):
    """A name in a directory."""

    d_name: Name


class Refused(Struct):
    """A deletion that was refused."""

    pid: u32
    comm: Annotated[bytes, Length(16)]
    file: Annotated[bytes, Length(64)]


refusals = RingBuf(max_entries=1 << 16)


@bpf.lsm("inode_unlink")
def guard(directory: Inode, entry: Entry) -> int:
    """Refuse what is in the directory."""
    if directory.i_ino != INODE or directory.i_sb.s_dev != DEVICE:
        return 0
    event = refusals.reserve(Refused)
    if event is not None:
        event.pid = h.get_current_pid_tgid() >> 32
        get_current_comm(event.comm)
        probe_read_kernel_str(event.file, entry.d_name.name)
        refusals.submit(event)
    return -EPERM


def text(octets: bytes) -> str:
    """Up to the zero."""
    return octets.split(b"\0")[0].decode(errors="replace")


def main() -> None:
    """Attach, and print what is refused."""
    parser = argparse.ArgumentParser(description="Keep the files of a directory from being deleted.")
    parser.add_argument("directory", type=Path)
    arguments = parser.parse_args()
    place = arguments.directory.stat()
    # As the kernel has a device's number inside: 12 bits and 20 (include/linux/kdev_t.h).
    constants = {"INODE": place.st_ino, "DEVICE": os.major(place.st_dev) << 20 | os.minor(place.st_dev)}
    with Collection.load(compile_collection([guard], constants)) as loaded:
        loaded.attach_all()
        print(f"files of {arguments.directory} stay; Ctrl-C ends it")
        with RingBuffer(loaded.maps["refusals"], Refused) as events:
            for event in events:
                print(f"{text(event.comm)}[{event.pid}] was refused to delete {text(event.file)}")


if __name__ == "__main__":
    run_script(main)
