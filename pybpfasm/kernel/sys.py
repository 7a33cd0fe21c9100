"""System calls, the only module that knows cffi. Everything above deals in file descriptors, bytes and our own errors.

cffi is used in out-of-line ABI mode: `_abi.py` is generated without a compiler by tools/generate_abi.py.
Each function raises `KernelError` with the kernel's errno and a line that says what was attempted.
"""

import errno
import functools
import os
import re
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from pybpfasm.errors import BpfError, KernelError
from pybpfasm.kernel import _abi
from pybpfasm.uapi import Command

CLONE_NEWNET = 0x40000000
CLONE_NEWNS = 0x00020000

ffi: Any = _abi.ffi
libc: Any = ffi.dlopen(None)

NULL: Any = ffi.NULL

_MACHINE = os.uname().machine

# __NR_bpf from arch/*/entry/syscalls and include/uapi/asm-generic/unistd.h.
_BPF_SYSCALL = {"x86_64": 321, "aarch64": 280}
_MEMBARRIER_SYSCALL = {"x86_64": 324, "aarch64": 283}

# include/uapi/linux/membarrier.h.
_MEMBARRIER_CMD_GLOBAL_EXPEDITED = 1 << 1

_COUNTED_AS_LOCKED = (Command.MAP_CREATE, Command.PROG_LOAD, Command.BTF_LOAD)

# As often as libbpf tries a load that signals interrupt; then once more without those of timers.
_ATTEMPTS = 5

_CAPABILITIES = "it needs root, or CAP_BPF and CAP_NET_ADMIN"

_HINTS = {
    errno.EPERM: _CAPABILITIES,
    errno.EACCES: "permission denied",
    errno.EAGAIN: "signals came faster than the kernel could finish, or a limit of this user is reached",
    errno.EINTR: "a signal interrupted it: try again",
    errno.ENOMEM: "the kernel is out of memory",
    errno.EMFILE: "this process is out of file descriptors: raise its limit (ulimit -n)",
    errno.ENFILE: "the machine is out of file descriptors",
    errno.ENOSYS: "this kernel has no bpf() system call",
}


def failure(number: int, attempted: str, cause: str | None = None) -> KernelError:
    """A `KernelError` for errno `number`: what was attempted, and the cause in words, the usual one unless given."""
    cause = cause or _HINTS.get(number) or os.strerror(number)
    return KernelError(number, f"cannot {attempted}: {cause} ({errno.errorcode.get(number, number)})")


def new(structure: str, **fields: Any) -> Any:
    """A zeroed structure of `_abi` with the given fields set. Raises `BpfError` for what a field cannot hold."""
    value = ffi.new(f"struct {structure} *")
    for name, content in fields.items():
        try:
            setattr(value, name, content)
        except (OverflowError, TypeError):
            raise BpfError(f"{name} is {content!r}, which is no number that the kernel takes there") from None
    return value


def buffer(data: bytes | int) -> Any:
    """Memory that the kernel may read or write: a copy of `data`, or so many zero bytes."""
    return ffi.new("uint8_t[]", data)


def borrowed(data: bytes | bytearray | memoryview) -> Any:
    """The memory of `data` itself, for the kernel to read as long as the result is kept."""
    return ffi.from_buffer(data)


def words(count: int) -> Any:
    """Memory for `count` 32-bit numbers that the kernel writes."""
    return ffi.new("uint32_t[]", count)


def size_of(structure: Any) -> int:
    """Size in bytes of a structure from `new`."""
    return int(ffi.sizeof(structure[0]))


def text(characters: Any) -> str:
    """The text in a structure's array of characters."""
    return bytes(ffi.string(characters)).decode()


def address(pointer: Any) -> int:
    """The address of memory from `buffer`, for a field of a structure."""
    return int(ffi.cast("uintptr_t", pointer))


def contents(pointer: Any) -> bytes:
    """What the memory from `buffer` holds."""
    return bytes(ffi.buffer(pointer))


def bpf(command: Command, attributes: Any, attempted: str) -> int:
    """bpf(2) with a structure from `new`; returns what the kernel returned.

    What a signal interrupts (EAGAIN) is tried again, in the end with the signals of timers held back; and what fails
    for RLIMIT_MEMLOCK, with the limit lifted. `attempted` completes "cannot …" in the error. Raises `KernelError`: an
    EPERM says which capability is missing, or what else is the likely cause.
    """
    if _MACHINE not in _BPF_SYSCALL:
        raise BpfError(f"cannot {attempted}: machine type {_MACHINE} is not supported (x86_64 and aarch64 are)")
    call = prepared(command, attributes)
    for _ in range(_ATTEMPTS):
        result = call()
        if result >= 0:
            return result
        number = last_errno()
        memlock = number == errno.EPERM and command in _COUNTED_AS_LOCKED and _raise_memlock_limit()
        if number != errno.EAGAIN and not memlock:
            break
    else:
        with _timers_held_back():
            result = call()
            number = last_errno()
        if result >= 0:
            return result
    raise failure(number, attempted, _why_forbidden(command) if number == errno.EPERM else None)


def _why_forbidden(command: Command) -> str:
    from pybpfasm.kernel.permissions import Capability, command_denial, has

    limited = command in _COUNTED_AS_LOCKED and _is_memlock_counted() and _memlock_is_limited()
    if limited and has(Capability.BPF):
        return "the limit of locked memory is reached: raise it (ulimit -l), for which CAP_SYS_RESOURCE is missing here"
    return command_denial(command)


@contextmanager
def _timers_held_back() -> Iterator[None]:
    """The signals of timers (a profiler's, say) reach this thread later."""
    import signal

    timers = {signal.SIGALRM, signal.SIGPROF, signal.SIGVTALRM}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, timers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


# The same system call with fixed arguments: cffi prepares a variadic one anew for each call, which costs as much again.
_plain_syscall: Any = ffi.cast("long (*)(long, long, void *, long)", libc.syscall)


def prepared(command: Command, attributes: Any) -> Callable[[], int]:
    """bpf(2) with a structure from `new`, made ready to be called often; it keeps the structure.

    A call returns what the kernel returned and raises nothing: -1 is failure, and `last_errno` has the reason.
    """
    if _MACHINE not in _BPF_SYSCALL:
        raise BpfError(f"machine type {_MACHINE} is not supported (x86_64 and aarch64 are)")
    return functools.partial(_plain_syscall, _BPF_SYSCALL[_MACHINE], int(command), attributes, size_of(attributes))


def last_errno() -> int:
    """The reason why the last `prepared` call of this thread failed."""
    return int(ffi.errno)


def view(pointer: Any) -> Any:
    """Memory from `buffer` to copy from (`view[:]`) and to fill (`view[:] = data`, of the same length)."""
    return ffi.buffer(pointer)


def _raise_memlock_limit() -> bool:
    """Lift RLIMIT_MEMLOCK where the kernel counts maps and programs against it; False if that changes nothing.

    Such kernels say EPERM when it is reached, as they do without the privilege.
    """
    if not _is_memlock_counted() or not _memlock_is_limited():
        return False
    unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    try:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, unlimited)
    except (ValueError, OSError):
        return False
    return True


def _is_memlock_counted() -> bool:
    """Whether this kernel may: from 5.11 on none does, control groups count instead.

    That came by the series "bpf: switch to memcg-based memory accounting" of 2020. Some older kernels of distributions
    have it too; there the limit is lifted for nothing, and only after an EPERM.
    """
    release = re.match(r"(\d+)\.(\d+)", os.uname().release)
    return release is not None and (int(release[1]), int(release[2])) < (5, 11)


def _memlock_is_limited() -> bool:
    return resource.getrlimit(resource.RLIMIT_MEMLOCK) != (resource.RLIM_INFINITY, resource.RLIM_INFINITY)


def memory_barrier() -> None:
    """A full barrier for this thread's memory accesses, by membarrier(2) (Linux 4.16, CONFIG_MEMBARRIER).

    See docs/events.md for why this command, and what it promises. Raises `KernelError`.
    """
    number = _MEMBARRIER_SYSCALL[_MACHINE]
    if _plain_syscall(number, _MEMBARRIER_CMD_GLOBAL_EXPEDITED, NULL, 0) != 0:
        raise failure(ffi.errno, "order memory accesses by membarrier(2), which shared rings need on this machine")


# __NR_perf_event_open, from where _BPF_SYSCALL's numbers are.
_PERF_EVENT_OPEN_SYSCALL = {"x86_64": 298, "aarch64": 241}

# PERF_FLAG_FD_CLOEXEC of uapi linux/perf_event.h.
_PERF_CLOSE_ON_EXEC = 8


def perf_event_open(attributes: Any, pid: int, cpu: int, attempted: str) -> int:
    """perf_event_open(2) with a `perf_event_attr` from `new`: a descriptor. `attempted` completes "cannot …".

    `pid` -1 means every process (then `cpu` is one), 0 the calling one; `cpu` -1 every CPU.
    """
    if _MACHINE not in _PERF_EVENT_OPEN_SYSCALL:
        raise BpfError(f"cannot {attempted}: machine type {_MACHINE} is not supported (x86_64 and aarch64 are)")
    attributes.size = size_of(attributes)
    result = libc.syscall(
        ffi.cast("long", _PERF_EVENT_OPEN_SYSCALL[_MACHINE]),
        attributes,
        ffi.cast("long", pid),
        ffi.cast("long", cpu),
        ffi.cast("long", -1),
        ffi.cast("long", _PERF_CLOSE_ON_EXEC),
    )
    if result < 0:
        number = int(ffi.errno)
        from pybpfasm.kernel.permissions import Capability, denial

        forbidden = number in (errno.EPERM, errno.EACCES)
        raise failure(number, attempted, denial(Capability.PERFMON) if forbidden else None)
    return int(result)


def setns(fd: int, nstype: int = 0) -> None:
    """Move the calling thread into the namespace behind `fd`; `nstype` is a CLONE_NEW… flag, or 0 for any kind."""
    if libc.setns(fd, nstype) != 0:
        raise _namespace_failure("enter a namespace", "CAP_SYS_ADMIN")


def unshare(flags: int) -> None:
    """Move the calling thread into new namespaces of the kinds in `flags` (CLONE_NEW…)."""
    if libc.unshare(flags) != 0:
        raise _namespace_failure("create a namespace", "CAP_SYS_ADMIN")


def mount(source: str, target: str, fstype: str, flags: int = 0) -> None:
    """Mount a file system without data of its own, such as `bpf`, on the directory `target`."""
    if libc.mount(os.fsencode(source), os.fsencode(target), os.fsencode(fstype), flags, ffi.NULL) != 0:
        raise _namespace_failure(f"mount {fstype} on {target}", "CAP_SYS_ADMIN")


def umount(target: str) -> None:
    """Unmount what is mounted on `target`."""
    if libc.umount2(os.fsencode(target), 0) != 0:
        raise _namespace_failure(f"unmount {target}", "CAP_SYS_ADMIN")


def filesystem_magic(path: os.PathLike[str]) -> int:
    """The number by which statfs(2) tells file systems apart."""
    result = ffi.new("struct statfs_buffer *")
    if libc.statfs(os.fsencode(path), result) != 0:
        raise failure(ffi.errno, f"look at the file system of {os.fspath(path)}")
    return int(result.type)


def _namespace_failure(attempted: str, capability: str) -> KernelError:
    number = ffi.errno
    if number == errno.EPERM:
        return KernelError(number, f"cannot {attempted}: it needs root, or {capability} (EPERM)")
    return failure(number, attempted)
