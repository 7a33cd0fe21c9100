"""Iterators: a program runs once for each task, map, entry …, and what it writes is read as a file (Linux 5.8)."""

import errno
import io
import struct

from pybpfasm.errors import BpfError
from pybpfasm.kernel import features, sys
from pybpfasm.kernel.links.attempt import attempting
from pybpfasm.kernel.links.base import Link, create
from pybpfasm.kernel.maps import Map
from pybpfasm.kernel.programs import Program
from pybpfasm.uapi import AttachType, CgroupIterOrder, Command

_CAUSES = {
    errno.EINVAL: "it is no iterator, or its kind wants something else to go through (a map, a cgroup)",
    errno.EBADF: "it goes through a map or a cgroup, which is not given, closed, or of another kind",
    errno.ESRCH: "there is no such process or thread",
    errno.EACCES: "the program uses more of a key or value than the map's entries have",
}


class IteratorLink(Link):
    """The link of an iterator: each `open_stream` is a run from the start."""

    def open_stream(self) -> io.BufferedReader:
        """A file with what the program writes, made as it is read; the caller closes it. Raises `KernelError`."""
        request = sys.new("iter_create", link_fd=self.fd)
        fd = sys.bpf(Command.ITER_CREATE, request, "start the iterator")
        return open(fd, "rb", closefd=True)

    def read(self) -> bytes:
        """All that the program writes in one run. Raises `KernelError`, also for a run that the kernel breaks off."""
        with self.open_stream() as stream:
            try:
                return stream.read()
            except OSError as error:
                raise sys.failure(error.errno or 0, "read the iterator") from None


def attach_iterator(
    program: Program,
    *,
    map_: Map | None = None,
    cgroup_fd: int | None = None,
    order: CgroupIterOrder = CgroupIterOrder.DESCENDANTS_PRE,
    pid: int = 0,
    tid: int = 0,
) -> IteratorLink:
    """Make an iterator of a program that was loaded for one: `attach_to` is `task`, `bpf_map`, `bpf_map_elem` ….

    `map_` is for those that go through a map's entries (bpf_map_elem, bpf_sk_storage_map), `cgroup_fd` with an `order`
    for cgroups (6.1), `pid` or `tid` to see the threads of one process, or one thread, only (6.1).
    It runs when it is read. Raises `KernelError`, `UnsupportedFeatureError`, `BpfError` for a program that is none.
    """
    spec = program.spec
    if spec.attach_type != AttachType.TRACE_ITER:
        hook = spec.attach_type.name.lower()
        raise BpfError(f"cannot make an iterator of program {spec.name}: it is loaded for {hook}")
    attempted = f"make an iterator of program {spec.name}"
    target = _target(map_, cgroup_fd, order, pid, tid)
    held = sys.buffer(target)
    fields = {"info": sys.address(held), "info_len": len(target)} if target else {}
    with attempting(attempted, _CAUSES, features.ITERATORS):
        link = create(program, 0, attempted, iter=fields)
        return IteratorLink(link.release())


def _target(map_: Map | None, cgroup_fd: int | None, order: CgroupIterOrder, pid: int, tid: int) -> bytes:
    """union bpf_iter_link_info of uapi linux/bpf.h; empty for what is gone through as a whole."""
    if sum((map_ is not None, cgroup_fd is not None, bool(pid or tid))) > 1:
        raise BpfError("an iterator goes through one thing: a map, a cgroup, a process or a thread")
    if map_ is not None:
        return _words(map_.fd)
    if cgroup_fd is not None:
        return _words(order, cgroup_fd, 0, 0)
    if pid or tid:
        return _words(tid, pid, 0)
    return b""


def _words(*numbers: int) -> bytes:
    return struct.pack(f"={len(numbers)}I", *numbers)
