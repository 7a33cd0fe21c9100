"""Many entries in one system call (BPF_MAP_*_BATCH, Linux 5.6).

Keys and values go packed: one behind the other, no gaps. A kernel that has no batches for a map's type says ENOTSUPP
before it does anything; the map then goes entry by entry.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import TYPE_CHECKING, final

from pybpfasm.errors import KernelError
from pybpfasm.kernel import sys
from pybpfasm.kernel.maps.calls import Data
from pybpfasm.kernel.maps.errors import ENOTSUPP, MapFullError
from pybpfasm.kernel.maps.failures import operation_failure
from pybpfasm.kernel.maps.kinds import Operation
from pybpfasm.uapi import Command

if TYPE_CHECKING:
    from pybpfasm.kernel.maps.map import Map

# A system call cannot be interrupted; so much memory is passed in one, and so many entries.
_BYTES = 1 << 20
_FEWEST, _MOST = 64, 1 << 16

# Generic look-ups before Linux 6.15 gave up with EINTR when entries vanished under them (5644c6b50ffe).
_MOST_INTERRUPTIONS = 1000


@final
class NoBatchError(Exception):
    """The kernel has no batches for the map's type: a signal between the parts of this package."""


def walk_batches(map_: Map, *, take: bool = False) -> Iterator[tuple[bytes, bytes]]:
    """All entries, in packed keys and packed values; with `take` they are removed as they are read.

    A hash is read bucket by bucket: an entry that stays all the time comes once. Raises `NoBatchError`, `KernelError`.
    """
    command = Command.MAP_LOOKUP_AND_DELETE_BATCH if take else Command.MAP_LOOKUP_BATCH
    operation = Operation.POP if take else Operation.WALK
    key_size, value_size = map_.spec.key.size, map_.entry_size
    # The place in the walk is a number for a hash, a key for others; the kernel reads it before it writes it.
    place = sys.buffer(max(key_size, 8))
    attributes = sys.new("map_batch", out_batch=sys.address(place))
    call = sys.prepared(command, attributes)
    count, interruptions = _chunk(key_size + value_size), 0
    keys, values = sys.buffer(count * key_size), sys.buffer(count * value_size)
    while True:
        attributes.map_fd, attributes.count = map_.fd, count
        attributes.keys, attributes.values = sys.address(keys), sys.address(values)
        number = 0 if call() >= 0 else sys.last_errno()
        if number == errno.ENOSPC and count <= 2 * map_.spec.max_entries:
            # A bucket holds more than there is room for; nothing was read or removed.
            count *= 2
            keys, values = sys.buffer(count * key_size), sys.buffer(count * value_size)
            continue
        interruptions = interruptions + 1 if number == errno.EINTR else 0
        if number == ENOTSUPP:
            raise NoBatchError
        if number not in (0, errno.ENOENT, errno.EINTR) or interruptions > _MOST_INTERRUPTIONS:
            raise operation_failure(map_, operation, number)
        done = attributes.count
        if done:
            attributes.in_batch = attributes.out_batch
            yield sys.view(keys)[: done * key_size], sys.view(values)[: done * value_size]
        if number == errno.ENOENT:
            return


def update_batches(map_: Map, keys: Data, values: Data, count: int, flags: int) -> None:
    """Set `count` entries. Raises `NoBatchError`; `MapFullError` or `KernelError` at the first entry that fails."""
    key_size, value_size = map_.spec.key.size, map_.entry_size
    held_keys, held_values = sys.borrowed(keys), sys.borrowed(values)
    attributes = sys.new("map_batch", elem_flags=flags)
    call = sys.prepared(Command.MAP_UPDATE_BATCH, attributes)
    for start in range(0, count, _MOST):
        attributes.map_fd, attributes.count = map_.fd, min(_MOST, count - start)
        attributes.keys = sys.address(held_keys) + start * key_size
        attributes.values = sys.address(held_values) + start * value_size
        if call() < 0:
            number = sys.last_errno()
            if number == ENOTSUPP:
                raise NoBatchError
            raise stopped(operation_failure(map_, Operation.UPDATE, number, flags), start + attributes.count, count)


def delete_batches(map_: Map, keys: Data, count: int) -> int:
    """Remove entries; how many were there. Raises `NoBatchError` or `KernelError`."""
    key_size = map_.spec.key.size
    held = sys.borrowed(keys)
    attributes = sys.new("map_batch")
    call = sys.prepared(Command.MAP_DELETE_BATCH, attributes)
    at = deleted = 0
    while at < count:
        attributes.map_fd, attributes.count = map_.fd, min(_MOST, count - at)
        attributes.keys = sys.address(held) + at * key_size
        number = 0 if call() >= 0 else sys.last_errno()
        if number == ENOTSUPP:
            raise NoBatchError
        if number not in (0, errno.ENOENT):
            raise stopped(operation_failure(map_, Operation.DELETE, number), at + attributes.count, count)
        deleted += attributes.count
        # The kernel stops at a key that is not there.
        at += attributes.count + (number == errno.ENOENT)
    return deleted


def stopped(error: KernelError, done: int, count: int) -> KernelError:
    """The error of one entry as that of a batch: with what was done before it."""
    made = type(error)(error.errno or 0, f"{error.message}; {done} of {count} entries were done before")
    if isinstance(made, MapFullError):
        made.done = done
    return made


def _chunk(entry_size: int) -> int:
    return max(_FEWEST, min(_MOST, _BYTES // max(entry_size, 1)))
