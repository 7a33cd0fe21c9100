"""Links: a program's attachment as an object, which ends when its last descriptor and pin are gone (Linux 5.7).

    program ──fd──┐                        ┌── pin in a bpf file system
                  ├─ BPF_LINK_CREATE ─> link ── descriptors (this process's, others')
    target  ──fd──┘                        └── the hook, until the last of these is gone

A program stays loaded as long as a link holds it: its descriptor may be closed once it is attached.
Each kind of target has a module of its own beside this one, with a function that attaches.
"""

import errno
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from pybpfasm.errors import KernelError, UnsupportedFeatureError
from pybpfasm.kernel import sys
from pybpfasm.kernel.descriptor import Descriptor
from pybpfasm.kernel.link_info import LinkInfo, link_info
from pybpfasm.kernel.pins import StrPath, check_kind, open_pin, pin
from pybpfasm.kernel.programs import Program
from pybpfasm.uapi import AttachFlag, AttachType, Command, LinkType


class Attachment(ABC):
    """What holds a program in its place: a `Link`, or, on kernels without links for the place, a `LegacyAttachment`.

    Closing it, or leaving its `with` block, ends the attachment, unless a pin or another descriptor holds it.
    """

    @abstractmethod
    def info(self) -> LinkInfo:
        """What the kernel says of the link. Raises `UnsupportedFeatureError` where there is none."""

    @abstractmethod
    def pin(self, path: StrPath) -> None:
        """Keep the program attached under a name in a bpf file system.

        Raises `KernelError` (EEXIST: the name is taken), `UnsupportedFeatureError` where there is no link.
        """

    @abstractmethod
    def unpin(self) -> None:
        """Remove the name that `pin` gave, or by which it was opened; nothing happens without one."""

    @abstractmethod
    def update(self, program: Program, old: Program | None = None) -> None:
        """Put another program of the same kind in place, with no moment between them; with `old` only if that is there.

        Raises `KernelError`: EPERM if the attached program is another than `old`, EINVAL where the kernel cannot, or
        for a program of another kind, ENOLINK once the target is gone; `UnsupportedFeatureError` without a link.
        """

    @abstractmethod
    def detach(self) -> None:
        """End the attachment now, whoever else holds the link (Linux 5.9).

        The link remains, attached to nothing; a second time changes nothing. Raises `KernelError` (EOPNOTSUPP) for
        kinds that end only with their last descriptor and pin: those of tracing, before all.
        """

    @abstractmethod
    def close(self) -> None:
        """Let go of it; closing twice does nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class Link(Descriptor, Attachment):
    """A link of the kernel; owns one descriptor of it."""

    def __init__(self, fd: int, pinned: Path | None = None) -> None:
        super().__init__(fd)
        self._pinned = pinned

    @classmethod
    def open(cls, path: StrPath) -> Self:
        """The link pinned at `path`.

        Raises `KernelError`: ENOENT if nothing is pinned there, EINVAL if something else is than a link.
        """
        with Descriptor(open_pin(path)) as opened:
            link_info_of_pin(opened.fd, path)
            return cls(opened.release(), Path(path))

    @classmethod
    def by_id(cls, number: int) -> Self:
        """The link of that id (Linux 5.8).

        Raises `KernelError`: ENOENT if there is none, EPERM without CAP_SYS_ADMIN.
        """
        missing = KernelError(errno.ENOENT, f"there is no link with id {number}")
        if not 0 < number < 1 << 32:
            raise missing
        try:
            return cls(sys.bpf(Command.LINK_GET_FD_BY_ID, sys.new("id", id=number), f"open link {number}"))
        except KernelError as error:
            if error.errno != errno.ENOENT:
                raise
            raise missing from None

    def info(self) -> LinkInfo:
        """What the kernel says of the link (Linux 5.8)."""
        return link_info(self.fd)

    def pin(self, path: StrPath) -> None:  # noqa: D102 - as the base says
        pin(self.fd, path)
        self._pinned = Path(path)

    def unpin(self) -> None:  # noqa: D102 - as the base says
        path, self._pinned = self._pinned, None
        if path is None:
            return
        try:
            path.unlink()
        except OSError as error:
            raise sys.failure(error.errno or 0, f"remove the pin {path}") from None

    def update(self, program: Program, old: Program | None = None) -> None:  # noqa: D102 - as the base says
        attributes = sys.new("link_update", link_fd=self.fd, new_prog_or_map_fd=program.fd)
        if old is not None:
            attributes.flags, attributes.old_prog_or_map_fd = AttachFlag.REPLACE, old.fd
        attempted = f"replace the attached program by {program.spec.name}"
        try:
            sys.bpf(Command.LINK_UPDATE, attributes, attempted)
        except KernelError as error:
            raise self._update_failure(error, attempted, old) from None

    def detach(self) -> None:  # noqa: D102 - as the base says
        try:
            sys.bpf(Command.LINK_DETACH, sys.new("link_detach", link_fd=self.fd), "detach the link")
        except KernelError as error:
            if error.errno != errno.EOPNOTSUPP:
                raise
            text = "this kind ends only with its last descriptor and pin: close the link, remove its pins"
            raise KernelError(error.errno, f"cannot detach the {self._kind()} link: {text} (EOPNOTSUPP)") from None

    def _update_failure(self, error: KernelError, attempted: str, old: Program | None) -> KernelError:
        causes = {
            errno.EINVAL: f"it is of another kind, or {self._kind()} links cannot be updated: attach it beside",
            errno.EOPNOTSUPP: f"{self._kind()} links cannot be updated: attach it beside and close this link",
            errno.ENOLINK: "what the link was attached to is gone",
        }
        if old is not None:
            causes[errno.EPERM] = f"another program than {old.spec.name} is attached, or the privilege is missing"
        cause = causes.get(error.errno or 0)
        return error if cause is None else sys.failure(error.errno or 0, attempted, cause)

    def _kind(self) -> str:
        kind = self.info().type
        return LinkType(kind).name.lower() if kind in set(LinkType) else f"type {kind}"


class LegacyAttachment(Attachment):
    """An attachment that the kernel has no link for: it lasts until `end` is called, by `close` or `detach`.

    `missing` is what the kernel lacks; `info`, `pin` and `update` raise it, unless a subclass can do better.
    """

    def __init__(self, missing: UnsupportedFeatureError, end: Callable[[], None]) -> None:
        self.missing = missing
        self._end: Callable[[], None] | None = end

    def info(self) -> LinkInfo:  # noqa: D102 - as the base says
        raise self.missing

    def pin(self, path: StrPath) -> None:  # noqa: ARG002, D102 - as the base says; there is nothing to pin
        raise self.missing

    def unpin(self) -> None:  # noqa: D102 - as the base says
        return

    def update(self, program: Program, old: Program | None = None) -> None:  # noqa: ARG002, D102 - likewise
        raise self.missing

    def detach(self) -> None:  # noqa: D102 - as the base says
        self.close()

    def close(self) -> None:  # noqa: D102 - as the base says
        end, self._end = self._end, None
        if end is not None:
            end()

    def __del__(self) -> None:
        self.close()


def create(
    program: Program,
    target: int,
    attempted: str,
    *,
    attach_type: AttachType | None = None,
    flags: int = 0,
    **fields: Any,
) -> Link:
    """BPF_LINK_CREATE (Linux 5.7): `program` at `target`, a descriptor, an interface's index, or 0 as the kind wants.

    The attach type is the program's unless another is given. `fields` are members of the union in `struct link_create`
    (pybpfasm/kernel/_abi.py), each a dict: `mprog={"expected_revision": 3}`. `attempted` completes "cannot …".
    Raises `KernelError`.
    """
    chosen = program.spec.attach_type if attach_type is None else attach_type
    attributes = sys.new("link_create", prog_fd=program.fd, target_fd=target, attach_type=chosen, flags=flags, **fields)
    return Link(sys.bpf(Command.LINK_CREATE, attributes, attempted))


def link_info_of_pin(fd: int, path: StrPath) -> LinkInfo:
    """The information of the link opened from a pin. Raises `KernelError` (EINVAL) if the pin is of something else."""
    check_kind(fd, "link", f"{path} as a link")
    return link_info(fd)
