"""From an errno of an operation on entries to an error in words; after a failure there is time to ask the kernel."""

from __future__ import annotations

import errno
import fcntl
import os
from typing import TYPE_CHECKING

from pybpfasm.errors import KernelError
from pybpfasm.kernel.maps.errors import ENOTSUPP, MapFullError, MapOperationError, errno_name
from pybpfasm.kernel.maps.kinds import Operation, kind_of
from pybpfasm.uapi import MapType, MapUpdateFlag

if TYPE_CHECKING:
    from pybpfasm.kernel.maps.map import Map

_ATTEMPTED = {
    Operation.LOOKUP: "look up in map {}",
    Operation.UPDATE: "update map {}",
    Operation.DELETE: "delete from map {}",
    Operation.POP: "take from map {}",
    Operation.WALK: "walk through map {}",
}

# How the kernel says that a map's type has no such operation.
_UNSUPPORTED = (ENOTSUPP, errno.EOPNOTSUPP, errno.EINVAL)


def operation_failure(map_: Map, operation: Operation, number: int, flags: int = 0) -> KernelError:
    """The error for errno `number` of an operation that was given `flags`."""
    attempted = _ATTEMPTED[operation].format(map_.spec.name)
    if operation is Operation.UPDATE and _is_full(map_, number):
        return MapFullError(number, f"cannot {attempted}: it is full, it holds {map_.spec.max_entries} entries")
    kind = kind_of(map_.spec.type)
    if number in _UNSUPPORTED and (operation in kind.lacks or number != errno.EINVAL):
        return _failure(MapOperationError, number, attempted, f"a map of type {kind.title} has no {operation.value}")
    return _failure(KernelError, number, attempted, _cause(map_, operation, number, flags))


def freeze_failure(error: KernelError, attempted: str) -> KernelError:
    """The error of a freeze in words."""
    match error.errno:
        case errno.EBUSY:
            cause = "it is mapped writable, or being written, or frozen already"
            return _failure(KernelError, errno.EBUSY, attempted, cause)
        case errno.EPERM:
            return _failure(KernelError, errno.EPERM, attempted, "it is frozen already, or was opened read-only")
        case int(number) if number == ENOTSUPP:
            return _failure(MapOperationError, number, attempted, "such a map, or one with timers, cannot be frozen")
    return error


def _is_full(map_: Map, number: int) -> bool:
    # An array says E2BIG for an index past its end, a trie ENOSPC when it is full (kernel/bpf/lpm_trie.c).
    full = errno.ENOSPC if map_.spec.type == MapType.LPM_TRIE else errno.E2BIG
    return number == full and not kind_of(map_.spec.type).indexed


def _failure(made: type[KernelError], number: int, attempted: str, cause: str) -> KernelError:
    return made(number, f"cannot {attempted}: {cause} ({errno_name(number)})")


def _cause(map_: Map, operation: Operation, number: int, flags: int) -> str:
    kind = kind_of(map_.spec.type)
    updating = operation is Operation.UPDATE
    match number:
        case errno.E2BIG if kind.indexed:
            return f"it has no such index, it holds {map_.spec.max_entries} entries"
        case errno.EEXIST if flags & MapUpdateFlag.NOEXIST:
            return "the key is there already, and NOEXIST was asked for"
        case errno.ENOENT if flags & MapUpdateFlag.EXIST:
            return "the key is not there, and EXIST was asked for"
        case errno.ENOENT if updating and kind.shape.entries == "none":
            return "there is no such entry: one is made when a program that uses the map is attached to a cgroup"
        case errno.EPERM:
            return _why_forbidden(map_, operation)
        case errno.EBADF | errno.ENOTSOCK if updating and kind.value_is_fd and is_map(map_.fd):
            return f"the value is no open descriptor of a {kind.refers}"
        case errno.EBADF | errno.ENOTSOCK | errno.EINVAL if kind.key_is_fd and is_map(map_.fd):
            hint = " (of files: the BPF security module has to be on)" if kind.refers == "file" else ""
            return f"the key is no open descriptor of a {kind.refers}, or it does not suit{hint}"
        case errno.EBADF:
            return "its descriptor was closed behind its back, or is another object's now"
        case errno.EINVAL if updating and kind.value_is_fd:
            return f"the value is no descriptor of a {kind.refers} that suits this map, or the flags do not suit"
        case errno.EINVAL if flags:
            return f"the flags {flags:#x} do not suit a map of type {kind.title}, or this kernel does not know them"
        case errno.ENOMEM:
            return "the kernel is out of memory, or the control group's limit is reached"
        case errno.EBUSY:
            return "it is in use by another operation at this moment: try again"
    return os.strerror(number) if number in errno.errorcode else "the kernel refuses"


def _why_forbidden(map_: Map, operation: Operation) -> str:
    """Entries are guarded by the map and its descriptor, not by capabilities (map_get_sys_perms)."""
    if operation in (Operation.UPDATE, Operation.DELETE, Operation.POP) and is_frozen(map_.fd):
        return "it is frozen"
    mode = fcntl.fcntl(map_.fd, fcntl.F_GETFL) & os.O_ACCMODE
    if mode != os.O_RDWR:
        return f"it was opened {'read-only' if mode == os.O_RDONLY else 'write-only'}"
    return "it needs root, or CAP_BPF and CAP_NET_ADMIN; or a security module forbids it"


def is_frozen(fd: int) -> bool:
    """Whether the map behind `fd` is frozen, which the kernel tells in fdinfo alone (5.2); False without /proc."""
    try:
        with open(f"/proc/self/fdinfo/{fd}") as file:
            return "\nfrozen:\t1" in file.read()
    except OSError:  # no /proc, or closed to a process that has given its privileges away
        return False


def is_map(fd: int) -> bool:
    """Whether the object behind `fd` is a map."""
    from pybpfasm.kernel.pins import object_behind

    return object_behind(fd) == "map"
