"""Links: a program's attachment as an object, which ends when its last descriptor and pin are gone."""

import errno
from pathlib import Path

from pybpfasm.errors import KernelError
from pybpfasm.kernel import sys
from pybpfasm.kernel.descriptor import Descriptor
from pybpfasm.kernel.info import LinkInfo, link_info
from pybpfasm.kernel.maps import Map
from pybpfasm.kernel.pins import open_pin, pin
from pybpfasm.kernel.programs import Program
from pybpfasm.uapi import AttachType, Command


class Link(Descriptor):
    """A link of the kernel."""

    @classmethod
    def open(cls, path: Path) -> "Link":
        """Open a pinned link. Raises `KernelError`: ENOENT if there is none."""
        return cls(open_pin(path))

    def info(self) -> LinkInfo:
        """What the kernel says of the link."""
        return link_info(self.fd)

    def pin(self, path: Path) -> None:
        """Keep the program attached under a name."""
        pin(self.fd, path)

    def update(self, program: Program) -> None:
        """Put another program of the same kind in place, with no moment between them."""
        attributes = sys.new("link_update", link_fd=self.fd, new_prog_or_map_fd=program.fd)
        sys.bpf(Command.LINK_UPDATE, attributes, f"replace the attached program by {program.spec.name}")


def attach_cgroup(program: Program, cgroup_fd: int) -> Link:
    """Attach to a cgroup (v2) and all below it, beside programs of others (Linux 5.7)."""
    return Link(_create(program, cgroup_fd, f"attach program {program.spec.name} to the cgroup"))


def attach_sockmap(program: Program, map_: Map) -> Link | None:
    """Attach an sk_msg program to a SOCKHASH.

    Before Linux 6.10 there is no link for this (699c23f02c65): the program then stays attached as long as the map
    lives, and None is returned. Raises `KernelError`: EBUSY if the map has a program already.
    """
    attempted = f"attach program {program.spec.name} to map {map_.spec.name}"
    try:
        return Link(_create(program, map_.fd, attempted))
    except KernelError as error:
        if error.errno != errno.EINVAL:
            raise
    attributes = sys.new(
        "prog_attach", target_fd=map_.fd, attach_bpf_fd=program.fd, attach_type=program.spec.attach_type
    )
    sys.bpf(Command.PROG_ATTACH, attributes, attempted)
    return None


def _create(program: Program, target_fd: int, attempted: str) -> int:
    attach_type: AttachType = program.spec.attach_type
    attributes = sys.new("link_create", prog_fd=program.fd, target_fd=target_fd, attach_type=attach_type)
    return sys.bpf(Command.LINK_CREATE, attributes, attempted)
