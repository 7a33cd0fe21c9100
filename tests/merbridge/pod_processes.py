"""A cgroup tree of a test's own, and processes in it and in namespaces of their own; nothing of it is left."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from uuid import uuid4

import pytest

from merbridge.watchers import host_cgroup_root

PROC = Path("/proc")

# Runs in the pod: joins the cgroup, then perhaps a namespace of its own whose lo has an address, says so, and waits for
# the end of its input.
IN_POD = """
import fcntl, json, os, socket, struct, sys
from pybpfasm.kernel import sys as kernel
cgroup, address = sys.argv[1:]
if cgroup:
    with open(cgroup + "/cgroup.procs", "w") as procs:
        procs.write(str(os.getpid()))
if address:
    kernel.unshare(kernel.CLONE_NEWNET)
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
    if address:
        packed = struct.pack("16sHH4s8x", b"lo", socket.AF_INET, 0, socket.inet_aton(address))
        fcntl.ioctl(s, 0x8916, packed)
        fcntl.ioctl(s, 0x8914, struct.pack("16sH14x", b"lo", 1))
    cookie = int.from_bytes(s.getsockopt(socket.SOL_SOCKET, 71, 8), sys.byteorder)
print(json.dumps({"cookie": cookie, "inode": os.stat("/proc/self/ns/net").st_ino}), flush=True)
sys.stdin.read()
"""

Start = Callable[..., SimpleNamespace]


@pytest.fixture
def tree() -> Iterator[Path]:
    """A fresh cgroup2 directory; it and all below are removed afterwards."""
    root = host_cgroup_root(PROC) / f"merbridge-test-{os.getpid()}-{uuid4().hex[:8]}"
    root.mkdir()
    try:
        yield root
    finally:
        for directory, _, _ in os.walk(root, topdown=False):
            remove_cgroup(Path(directory))


def remove_cgroup(directory: Path) -> None:
    """Remove one cgroup, for whose last processes' end the kernel may need a moment."""
    deadline_s = time.monotonic() + 5
    while True:
        try:
            directory.rmdir()
        except OSError:
            if time.monotonic() > deadline_s:
                raise
            time.sleep(0.01)
        else:
            return


@pytest.fixture
def start(tree: Path) -> Iterator[Start]:
    """Starts a process in a cgroup, with an address in a namespace of its own; ends them all before the tree goes."""
    started: list[subprocess.Popen[str]] = []

    def begin(cgroup: Path | None, address: str = "") -> SimpleNamespace:
        arguments = [sys.executable, "-c", IN_POD, str(cgroup or ""), address]
        process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None
        return SimpleNamespace(pid=process.pid, process=process, **json.loads(process.stdout.readline()))

    yield begin
    for process in started:
        end(process)


def end(process: "subprocess.Popen[str]") -> None:
    """End a process and wait until it is gone."""
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()


def make_pod(tree: Path, uid: str, *containers: str) -> Path:
    """Make a pod's cgroup with its containers', as the kubelet's cgroupfs driver does."""
    pod = tree / "kubepods" / "burstable" / f"pod{uid}"
    for container in containers:
        (pod / container).mkdir(parents=True)
    return pod


def new_uid() -> str:
    """A pod UID that nobody else on this machine uses."""
    return str(uuid4())


def inode(path: Path) -> int:
    """A cgroup directory's id, or a namespace file's number."""
    return path.stat().st_ino
