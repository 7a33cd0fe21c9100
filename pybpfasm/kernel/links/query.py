"""What is attached at a hook (BPF_PROG_QUERY, Linux 4.15), in the order in which it runs."""

import errno

from pybpfasm.errors import KernelError
from pybpfasm.kernel import sys
from pybpfasm.records import frozen
from pybpfasm.uapi import AttachFlag, AttachType, Command, QueryFlag

_FIRST_COUNT = 64


@frozen
class AttachedProgram:
    """A program at a hook. `link_id` is its link's, 0 if it has none or the kernel does not say (cgroups, netns)."""

    id: int
    link_id: int = 0


@frozen
class Attached:
    """The programs at a hook, in the order in which they run.

    `flags` are those that the programs of a cgroup were attached with. `revision` counts the changes, for
    `expected_revision`; 0 where the kernel does not count them (cgroups before Linux 6.17, effective programs, netns).
    """

    programs: tuple[AttachedProgram, ...]
    flags: AttachFlag
    revision: int

    @property
    def ids(self) -> tuple[int, ...]:
        """The programs' ids."""
        return tuple(each.id for each in self.programs)


def query(target: int, hook: AttachType, attempted: str, *, effective: bool = False, links: bool = False) -> Attached:
    """Ask the kernel, with links' ids if `links`. `attempted` completes "cannot …". Raises `KernelError`."""
    room = _FIRST_COUNT
    while True:
        programs, link_ids, flags = sys.words(room), sys.words(room), sys.words(room)
        request = sys.new(
            "prog_query",
            target_fd=target,
            attach_type=hook,
            query_flags=QueryFlag.EFFECTIVE if effective else 0,
            prog_ids=sys.address(programs),
            count=room,
            link_ids=sys.address(link_ids) if links else 0,
            # This hook is many, and the kernel insists on telling the flags of each (__cgroup_bpf_query, Linux 6.0).
            prog_attach_flags=sys.address(flags) if hook == AttachType.LSM_CGROUP and not effective else 0,
        )
        try:
            sys.bpf(Command.PROG_QUERY, request, attempted)
        except KernelError as error:
            if error.errno != errno.ENOSPC:
                raise
            room = max(room * 2, request.count)
            continue
        found = zip(list(programs)[: request.count], list(link_ids)[: request.count], strict=True)
        return Attached(
            tuple(AttachedProgram(*ids) for ids in found), AttachFlag(request.attach_flags), request.revision
        )
