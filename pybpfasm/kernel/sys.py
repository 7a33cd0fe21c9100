"""System calls, the only module that knows cffi. Everything above deals in file descriptors, bytes and our own errors.

cffi is used in out-of-line ABI mode: `_abi.py` is generated without a compiler by tools/generate_abi.py.
Each function raises `KernelError` with the kernel's errno and a line that says what was attempted.
"""

import errno
import os
import platform
import resource
from typing import Any

from pybpfasm.errors import BpfError, KernelError
from pybpfasm.kernel import _abi
from pybpfasm.uapi import Command

CLONE_NEWNET = 0x40000000
CLONE_NEWNS = 0x00020000

ffi: Any = _abi.ffi
libc: Any = ffi.dlopen(None)

NULL: Any = ffi.NULL

# __NR_bpf from arch/*/entry/syscalls and include/uapi/asm-generic/unistd.h.
_BPF_SYSCALL = {"x86_64": 321, "aarch64": 280}

_COUNTED_AS_LOCKED = (Command.MAP_CREATE, Command.PROG_LOAD, Command.BTF_LOAD)

_CAPABILITIES = "it needs root, or CAP_BPF and CAP_NET_ADMIN"

_HINTS = {
    errno.EPERM: _CAPABILITIES,
    errno.EACCES: "permission denied",
    errno.ENOMEM: "the kernel is out of memory",
    errno.EMFILE: "this process is out of file descriptors: raise its limit (ulimit -n)",
    errno.ENFILE: "the machine is out of file descriptors",
    errno.ENOSYS: "this kernel has no bpf() system call",
}


def failure(number: int, attempted: str) -> KernelError:
    """A `KernelError` for errno `number`: what was attempted, and the cause in words."""
    cause = _HINTS.get(number) or os.strerror(number)
    return KernelError(number, f"cannot {attempted}: {cause} ({errno.errorcode.get(number, number)})")


def new(structure: str, **fields: Any) -> Any:
    """A zeroed structure of `_abi` with the given fields set."""
    value = ffi.new(f"struct {structure} *")
    for name, content in fields.items():
        setattr(value, name, content)
    return value


def buffer(data: bytes | int) -> Any:
    """Memory that the kernel may read or write: a copy of `data`, or so many zero bytes."""
    return ffi.new("uint8_t[]", data)


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

    A program load that the kernel interrupts (EAGAIN) is tried again, and what fails for RLIMIT_MEMLOCK, with the limit
    lifted. `attempted` completes "cannot …" in the error.
    """
    machine = platform.machine()
    if machine not in _BPF_SYSCALL:
        raise BpfError(f"cannot {attempted}: machine type {machine} is not supported (x86_64 and aarch64 are)")
    for _ in range(5):
        result = libc.syscall(
            ffi.cast("long", _BPF_SYSCALL[machine]),
            ffi.cast("long", int(command)),
            attributes,
            ffi.cast("long", size_of(attributes)),
        )
        if result >= 0:
            return int(result)
        number = ffi.errno
        memlock = number == errno.EPERM and command in _COUNTED_AS_LOCKED and _raise_memlock_limit()
        if number != errno.EAGAIN and not memlock:
            break
    raise failure(number, attempted)


def _raise_memlock_limit() -> bool:
    """Lift RLIMIT_MEMLOCK, against which kernels before 5.11 count maps and programs; False if that changes nothing.

    They say EPERM when it is reached, as they do without the privilege.
    """
    unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    if resource.getrlimit(resource.RLIMIT_MEMLOCK) == unlimited:
        return False
    try:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, unlimited)
    except (ValueError, OSError):
        return False
    return True


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
