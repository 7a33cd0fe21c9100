"""Kprobes: at a function of the kernel, at its return, or at many at once."""

import errno
from array import array
from collections.abc import Sequence

from pybpfasm.errors import BpfError
from pybpfasm.kernel import features, sys
from pybpfasm.kernel.links.attempt import attempting
from pybpfasm.kernel.links.base import Attachment, Link, create
from pybpfasm.kernel.links.perf import attach_perf_event
from pybpfasm.kernel.links.probe_events import attach_by_tracefs, pmu_probe
from pybpfasm.kernel.programs import Program
from pybpfasm.uapi import AttachType, KprobeMultiFlag


def attach_kprobe(
    program: Program,
    function: str | None = None,
    *,
    offset: int = 0,
    on_return: bool = False,
    cookie: int = 0,
    by_tracefs: bool = False,
) -> Attachment:
    """Attach to a kernel function, `offset` bytes into it, or (`on_return`) to its return; else to `attach_to`.

    A link from Linux 5.15 on. `by_tracefs` has the probe made by a line in tracefs; without it, that is done only where
    the kernel has no PMU for kprobes (before 4.17). `cookie` is what bpf_get_attach_cookie gives (5.15).
    Raises `KernelError`: ENOENT if there is no such function, EINVAL if it cannot be probed; `UnsupportedFeatureError`
    without kprobes.
    """
    chosen = function or program.spec.attach_to
    if chosen is None:
        raise BpfError(f"program {program.spec.name} does not say to which function it is attached: name one")
    place = f"{chosen}+{offset:#x}" if offset else chosen
    what = f"{'kretprobe' if on_return else 'kprobe'} {place}"
    if by_tracefs:
        return attach_by_tracefs(program, "kprobe_events", place, what=what, on_return=on_return, cookie=cookie)
    event = pmu_probe("kprobe", chosen, offset, what=what, on_return=on_return)
    return attach_perf_event(program, event, cookie=cookie)


_MULTI_CAUSES = {
    errno.ESRCH: "one of the functions does not exist, or cannot be traced",
    errno.ENOENT: "one of the functions does not exist, or cannot be traced",
    errno.EINVAL: "the program was not loaded for it (attach type trace_kprobe_multi or _session)",
    errno.EOPNOTSUPP: "this kernel was built without it (CONFIG_FPROBE)",
    errno.E2BIG: "too many functions",
}


def attach_kprobes(
    program: Program,
    functions: Sequence[str] = (),
    *,
    addresses: Sequence[int] = (),
    on_return: bool = False,
    cookies: Sequence[int] = (),
) -> Link:
    """Attach to many kernel functions by one link (kprobe.multi, Linux 5.18): by their names, or by their addresses.

    The program is loaded with attach type trace_kprobe_multi, or trace_kprobe_session (6.10) to run at entry and
    return. `cookies`, one a function, are what bpf_get_attach_cookie gives.
    Raises `KernelError`: ESRCH if a function does not exist or cannot be traced; `UnsupportedFeatureError`.
    """
    places = addresses or functions
    if bool(functions) == bool(addresses) or (cookies and len(cookies) != len(places)):
        raise BpfError("attach_kprobes takes names or addresses of functions, not both, and as many cookies or none")
    attempted = f"attach program {program.spec.name} to {len(places)} kernel functions"
    names = [sys.buffer(each.encode() + b"\0") for each in functions]
    pointers = _numbers(addresses or [sys.address(each) for each in names])
    held_cookies = _numbers(cookies)
    fields = {
        "addrs" if addresses else "syms": sys.address(pointers),
        "cnt": len(places),
        "flags": KprobeMultiFlag.RETURN if on_return else 0,
        "cookies": sys.address(held_cookies) if cookies else 0,
    }
    hook = program.spec.attach_type or AttachType.TRACE_KPROBE_MULTI
    with attempting(attempted, _MULTI_CAUSES, features.KPROBE_MULTI):
        return create(program, 0, attempted, attach_type=hook, kprobe_multi=fields)


def _numbers(values: Sequence[int]) -> object:
    return sys.buffer(array("Q", values).tobytes())
