"""BPF_PROG_ATTACH and BPF_PROG_DETACH, older than links: the program stays until the kernel is told otherwise."""

import errno
import os

from pybpfasm.errors import BpfError, KernelError
from pybpfasm.kernel import sys
from pybpfasm.kernel.descriptor import Descriptor
from pybpfasm.kernel.features import Feature
from pybpfasm.kernel.link_info import LinkInfo
from pybpfasm.kernel.links.attempt import lacks
from pybpfasm.kernel.links.base import LegacyAttachment
from pybpfasm.kernel.programs import Program
from pybpfasm.uapi import AttachFlag, AttachType, Command


class DirectAttachment(LegacyAttachment):
    """A program at a hook without a link. Closing it, or losing it, detaches the program, unless `keep` was called.

    It holds descriptors of its own of the program and of the target: the kernel asks for both at the end.
    """

    def __init__(self, program: Program, target: int, hook: AttachType, flags: AttachFlag, link: Feature) -> None:
        self._program = Descriptor(os.dup(program.fd))
        self._target = Descriptor(os.dup(target))
        self._name = program.spec.name
        self._hook = hook
        self._flags = flags
        self._link = link
        super().__init__(link.error(), self._detach)

    def info(self) -> LinkInfo:
        """Nothing: raises `UnsupportedFeatureError` where the kernel has no link for this, else `BpfError`."""
        raise self._without_link()

    def pin(self, path: object) -> None:  # noqa: ARG002 - there is nothing to pin
        """Nothing: raises as `info` does. `keep` leaves the program attached."""
        raise self._without_link()

    def keep(self) -> None:
        """Leave the program attached when this object ends: until its target ends, or somebody detaches it."""
        self._end = None
        self._release()

    def update(self, program: Program, old: Program | None = None) -> None:
        """Put another program in place, with no moment between them (with ALLOW_MULTI: Linux 5.6).

        `old`, if given, must be the attached one. Raises `KernelError`: ENOENT if ours is not there any more.
        """
        attempted = f"replace the attached program by {program.spec.name}"
        # Without ALLOW_MULTI there is one place, and whoever attaches takes it.
        multi = AttachFlag.ALLOW_MULTI in self._flags
        replaced = (self._program if old is None else old) if multi else None
        attach_directly(program, self._target.fd, self._hook, self._flags, attempted, replaced=replaced)
        self._program.close()
        self._program = Descriptor(os.dup(program.fd))
        self._name = program.spec.name

    def _detach(self) -> None:
        try:
            detach_directly(self._program, self._target.fd, self._hook, f"detach program {self._name}")
        except KernelError as error:
            if error.errno != errno.ENOENT:  # the target or the attachment is gone already
                raise
        finally:
            self._release()

    def _release(self) -> None:
        self._program.close()
        self._target.close()

    def _without_link(self) -> BpfError:
        if lacks(self._link):
            return self.missing
        return BpfError(f"program {self._name} was attached without a link: there is none to ask about it or to pin")


def attach_directly(
    program: Program,
    target: int,
    hook: AttachType,
    flags: AttachFlag,
    attempted: str,
    *,
    replaced: Descriptor | None = None,
    relative: int = 0,
    expected_revision: int = 0,
) -> None:
    """BPF_PROG_ATTACH. Raises `KernelError`."""
    request = sys.new(
        "prog_attach",
        target_fd=target,
        attach_bpf_fd=program.fd,
        attach_type=hook,
        attach_flags=flags if replaced is None else flags | AttachFlag.REPLACE,
        replace_bpf_fd=0 if replaced is None else replaced.fd,
        relative_fd_or_id=relative,
        expected_revision=expected_revision,
    )
    sys.bpf(Command.PROG_ATTACH, request, attempted)


def detach_directly(program: Descriptor, target: int, hook: AttachType, attempted: str) -> None:
    """BPF_PROG_DETACH. Raises `KernelError`."""
    request = sys.new("prog_attach", target_fd=target, attach_bpf_fd=program.fd, attach_type=hook)
    sys.bpf(Command.PROG_DETACH, request, attempted)
