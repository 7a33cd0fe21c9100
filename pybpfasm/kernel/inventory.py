"""What the kernel holds at this moment: the ids of all programs, maps and links, and the names that pins give them."""

import errno
import os
from collections.abc import Iterator
from enum import Enum
from pathlib import Path

from pybpfasm.errors import KernelError
from pybpfasm.kernel import sys
from pybpfasm.kernel.descriptor import Descriptor
from pybpfasm.kernel.info import map_info, program_info
from pybpfasm.kernel.link_info import link_info
from pybpfasm.kernel.pins import object_behind, open_pin
from pybpfasm.records import frozen
from pybpfasm.uapi import Command


class ObjectKind(Enum):
    """What has an id of its own; the value is its name in messages."""

    PROGRAM = "program"
    MAP = "map"
    LINK = "link"


_NEXT = {
    ObjectKind.PROGRAM: Command.PROG_GET_NEXT_ID,
    ObjectKind.MAP: Command.MAP_GET_NEXT_ID,
    ObjectKind.LINK: Command.LINK_GET_NEXT_ID,
}


@frozen
class Pin:
    """A name in a bpf file system, and the object that it keeps alive."""

    path: Path
    kind: ObjectKind
    id: int


def object_ids(kind: ObjectKind) -> Iterator[int]:
    """The ids of all objects of a kind, in rising order; an object may be gone when its id is used.

    Linux 4.13 for programs and maps, 5.8 for links. Raises `KernelError`: EPERM without CAP_SYS_ADMIN.
    """
    number = 0
    while True:
        attributes = sys.new("id", id=number)
        try:
            sys.bpf(_NEXT[kind], attributes, f"list the kernel's {kind.value}s")
        except KernelError as error:
            if error.errno == errno.ENOENT:
                return
            raise
        number = int(attributes.next_id)
        yield number


def find_pins() -> list[Pin]:
    """The pins in all bpf file systems that this process's mount namespace has, in the order of their names.

    What this process may not open, or what goes meanwhile, is left out. Raises `KernelError` for another failure.
    """
    pins: dict[Path, Pin] = {}
    for mount in _mounts():
        for folder, _, names in os.walk(mount):
            for name in names:
                path = Path(folder, name)
                found = _pin_at(path)
                if found is not None:
                    pins[path] = found
    return [pins[path] for path in sorted(pins)]


def object_at(fd: int) -> tuple[ObjectKind, int] | None:
    """The kind and the id of the object behind a descriptor; None if it is none of these."""
    found = object_behind(fd)
    kind = None if found is None else ObjectKind(found)
    match kind:
        case ObjectKind.PROGRAM:
            return kind, program_info(fd).id
        case ObjectKind.MAP:
            return kind, map_info(fd).id
        case ObjectKind.LINK:
            return kind, link_info(fd).id
    return None


def _mounts() -> list[Path]:
    """Where bpf file systems are mounted, from /proc/self/mountinfo (see proc(5)); it has blanks as octal numbers."""
    found = []
    for row in Path("/proc/self/mountinfo").read_text().splitlines():
        place, _, kind = row.partition(" - ")
        if kind.split()[0] == "bpf":
            found.append(Path(place.split()[4].encode().decode("unicode_escape")))
    return found


def _pin_at(path: Path) -> Pin | None:
    try:
        with Descriptor(open_pin(path)) as opened:
            found = object_at(opened.fd)
    except KernelError as error:
        if error.errno in (errno.ENOENT, errno.EACCES, errno.EPERM):
            return None
        raise
    return None if found is None else Pin(path, *found)
