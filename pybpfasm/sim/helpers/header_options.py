"""Helpers of TCP header options (net/core/filter.c, bpf_sock_ops_…_hdr_opt)."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pybpfasm.sim.contexts.sockets import SockOps
from pybpfasm.sim.helpers.arguments import context_of
from pybpfasm.sim.helpers.registry import helper
from pybpfasm.sim.linux_errno import Errno
from pybpfasm.uapi import Helper, LoadHeaderOptionFlag, SockOpsOp

if TYPE_CHECKING:
    from pybpfasm.sim.machine import Machine

_HEADER_BYTES = 20
_MAX_OPTION_BYTES = 40
_END, _NO_OPERATION = 0, 1
_EXPERIMENTAL = (253, 254)


def _options(header: bytes) -> Iterator[bytes]:
    """The options of a TCP header, each with its kind and length."""
    end = min((header[12] >> 4) * 4, len(header)) if len(header) > 12 else 0
    yield from _in(header[_HEADER_BYTES:end])


def _in(data: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(data) and data[at] != _END:
        if data[at] == _NO_OPERATION:
            at += 1
            continue
        size = data[at + 1] if at + 1 < len(data) else 0
        if size < 2 or at + size > len(data):
            return
        yield data[at : at + size]
        at += size


def _is(option: bytes, wanted: bytes) -> bool:
    """Whether an option is of the wanted kind; an experimental one has a number of its own behind it."""
    return option[0] == wanted[0] and (option[0] not in _EXPERIMENTAL or option[2:].startswith(wanted[2:]))


@helper(Helper.LOAD_HDR_OPT)
def load_hdr_opt(machine: "Machine", context: int, result: int, size: int, flags: int) -> int:
    """Find an option by its kind in the first byte (and by its number, for an experimental one); its length."""
    found = context_of(machine, context, SockOps)
    if size < 2 or flags & ~int(LoadHeaderOptionFlag.TCP_SYN):
        return -Errno.EINVAL
    data = machine.memory.read(result, size)
    kind, wanted_size = data[0], data[1]
    if kind in _EXPERIMENTAL:
        if wanted_size not in (4, 6) or size < wanted_size:
            return -Errno.EINVAL
        wanted = data[:wanted_size]
    elif kind in (_END, _NO_OPERATION) or wanted_size:
        return -Errno.EINVAL
    else:
        wanted = data[:2]
    for option in _options(bytes(found.skb_data)):
        if _is(option, wanted):
            machine.memory.write(result, option[:size])
            return len(option) if len(option) <= size else -Errno.ENOSPC
    return -Errno.ENOMSG


@helper(Helper.STORE_HDR_OPT)
def store_hdr_opt(machine: "Machine", context: int, source: int, size: int, flags: int) -> int:
    """Write an option into the room that was reserved; `SockOps.written` has it afterwards."""
    found = context_of(machine, context, SockOps)
    if found.op != SockOpsOp.WRITE_HDR_OPT_CB:
        return -Errno.EPERM
    if size < 2 or flags:
        return -Errno.EINVAL
    option = machine.memory.read(source, size)
    length = option[1]
    if option[0] in (_END, _NO_OPERATION) or length < 2 or length > size:
        return -Errno.EINVAL
    if option[0] in _EXPERIMENTAL and length < 4:
        return -Errno.EINVAL
    option = option[:length]
    if any(_is(other, option[:4]) for other in (*_options(bytes(found.skb_data)), *_in(found.written))):
        return -Errno.EEXIST
    if len(found.written) + length > found.reserved:
        return -Errno.ENOSPC
    found.written += option
    return 0


@helper(Helper.RESERVE_HDR_OPT)
def reserve_hdr_opt(machine: "Machine", context: int, size: int, flags: int) -> int:
    """Ask for room for options in the header that is about to be written; `SockOps.reserved` counts it."""
    found = context_of(machine, context, SockOps)
    if found.op != SockOpsOp.HDR_OPT_LEN_CB:
        return -Errno.EPERM
    if flags or size < 2:
        return -Errno.EINVAL
    if found.reserved + size > _MAX_OPTION_BYTES:
        return -Errno.ENOSPC
    found.reserved += size
    return 0
