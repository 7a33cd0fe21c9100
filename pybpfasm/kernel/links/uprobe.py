"""Uprobes: at a function of a program or library in user space, at its return, or at many places of a file at once.

A place is an offset in the file, not an address: the probe is met by every process that maps the file there.
"""

import errno
import os
from array import array
from collections.abc import Sequence
from pathlib import Path

from pybpfasm.errors import BpfError
from pybpfasm.kernel import features, sys
from pybpfasm.kernel.links.attempt import attempting
from pybpfasm.kernel.links.base import Attachment, Link, create
from pybpfasm.kernel.links.elf_file import symbol_offsets
from pybpfasm.kernel.links.perf import attach_perf_event
from pybpfasm.kernel.links.probe_events import attach_by_tracefs, pmu_probe
from pybpfasm.kernel.programs import Program
from pybpfasm.uapi import AttachType, UprobeMultiFlag

EVERY_PROCESS = -1


def attach_uprobe(
    program: Program,
    path: Path,
    symbol: str | None = None,
    *,
    offset: int = 0,
    pid: int = EVERY_PROCESS,
    on_return: bool = False,
    semaphore_offset: int = 0,
    cookie: int = 0,
    by_tracefs: bool = False,
) -> Attachment:
    """Attach to a function of the ELF file at `path`, `offset` bytes into it, or without a symbol into the file.

    It is met by every process, or by one (`pid`, 0: this one; not `by_tracefs`). `semaphore_offset` is the place in the
    file of a counter that is raised in the processes meanwhile (a USDT's; Linux 4.20). A link from 5.15 on, with a
    `cookie` for bpf_get_attach_cookie. Raises `KernelError`: ENOENT without the file, ESRCH without the process,
    EINVAL if no instruction begins there; `BpfError` if the file is no ELF or has no such symbol;
    `UnsupportedFeatureError` without uprobes.
    """
    place = offset if symbol is None else symbol_offsets(path, [symbol])[symbol] + offset
    named = f"{symbol} of {path}" if symbol else f"offset {place:#x} of {path}"
    what = f"{'uretprobe' if on_return else 'uprobe'} {named}"
    if by_tracefs:
        if pid != EVERY_PROCESS or semaphore_offset:
            raise BpfError(f"cannot attach to {what}: tracefs knows neither processes nor semaphores")
        where = f"{path}:{place:#x}"
        return attach_by_tracefs(program, "uprobe_events", where, what=what, on_return=on_return, cookie=cookie)
    event = pmu_probe(
        "uprobe",
        os.fspath(path),
        place,
        what=what,
        on_return=on_return,
        semaphore_offset=semaphore_offset,
        pid=pid,
    )
    return attach_perf_event(program, event, cookie=cookie)


_MULTI_CAUSES = {
    errno.EINVAL: "no instruction begins there, or the program was not loaded for it (attach type trace_uprobe_multi)",
    errno.EBADF: "the path is no regular file",
    errno.ENOENT: "there is no such file",
    errno.ESRCH: "there is no such process",
    errno.EOPNOTSUPP: "this kernel was built without it (CONFIG_UPROBES)",
}


def attach_uprobes(
    program: Program,
    path: Path,
    symbols: Sequence[str] = (),
    *,
    offsets: Sequence[int] = (),
    pid: int = EVERY_PROCESS,
    on_return: bool = False,
    semaphore_offsets: Sequence[int] = (),
    cookies: Sequence[int] = (),
) -> Link:
    """Attach to many places of a file by one link (uprobe.multi, Linux 6.6): to functions, or to offsets in the file.

    The program is loaded with attach type trace_uprobe_multi. `semaphore_offsets` and `cookies` are one a place, if
    any. `pid` is a process, 0 this one. Raises as `attach_uprobe` does.
    """
    if bool(symbols) == bool(offsets):
        raise BpfError("attach_uprobes takes symbols or offsets, not both")
    places = list(offsets) or [symbol_offsets(path, symbols)[each] for each in symbols]
    if any(given and len(given) != len(places) for given in (semaphore_offsets, cookies)):
        raise BpfError(f"attach_uprobes takes as many cookies and semaphores as places ({len(places)}), or none")
    attempted = f"attach program {program.spec.name} to {len(places)} places of {path}"
    held = [sys.buffer(os.fsencode(path) + b"\0"), *(_numbers(e) for e in (places, semaphore_offsets, cookies))]
    fields = {
        "path": sys.address(held[0]),
        "offsets": sys.address(held[1]),
        "ref_ctr_offsets": sys.address(held[2]) if semaphore_offsets else 0,
        "cookies": sys.address(held[3]) if cookies else 0,
        "cnt": len(places),
        "flags": UprobeMultiFlag.RETURN if on_return else 0,
        "pid": os.getpid() if pid == 0 else max(pid, 0),
    }
    hook = program.spec.attach_type or AttachType.TRACE_UPROBE_MULTI
    with attempting(attempted, _MULTI_CAUSES, features.UPROBE_MULTI):
        return create(program, 0, attempted, attach_type=hook, uprobe_multi=fields)


def _numbers(values: Sequence[int]) -> object:
    return sys.buffer(array("Q", values).tobytes())
