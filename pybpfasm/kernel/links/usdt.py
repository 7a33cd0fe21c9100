"""USDT: probe points that a program's author put into it (`DTRACE_PROBE`), found by notes in its ELF file.

    .note.stapsdt, a note a place:   owner "stapsdt", type 3
    +--------------+--------------+--------------+-----------+-------+-----------------------+
    | address of a | address of   | address of   | provider  | name  | arguments             |
    | nop          | .stapsdt.base| a semaphore  | "libc"    |"setjmp"| "8@%rdi -4@$3 8@-8(%rbp)"
    +--------------+--------------+--------------+-----------+-------+-----------------------+

A program where prelink has moved things has another .stapsdt.base than the note says: the difference is added. The
semaphore, if there is one, is raised while a probe is attached: the program then computes the arguments.
Source: https://sourceware.org/systemtap/wiki/UserSpaceProbeImplementation
"""

import errno
import re
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pybpfasm.errors import BpfError, KernelError, UnsupportedFeatureError
from pybpfasm.kernel.link_info import LinkInfo
from pybpfasm.kernel.links.base import Attachment, LegacyAttachment
from pybpfasm.kernel.links.elf_file import elf_file, file_offset
from pybpfasm.kernel.links.uprobe import EVERY_PROCESS, attach_uprobe, attach_uprobes
from pybpfasm.kernel.pins import StrPath
from pybpfasm.kernel.programs import Program
from pybpfasm.records import evolve, frozen
from pybpfasm.uapi import AttachType

_NOTES = ".note.stapsdt"
_BASE = ".stapsdt.base"


@frozen
class UsdtArgument:
    """Where a program finds one argument: `size` bytes, signed or not.

    `constant` is its value; else it is in `register`, or in memory at `register` plus `index` times `scale` plus
    `offset`. `text` is how the note has it, in the assembler's syntax of the machine.
    """

    text: str
    size: int
    signed: bool
    constant: int | None = None
    register: str | None = None
    in_memory: bool = False
    offset: int = 0
    index: str | None = None
    scale: int = 1


@frozen
class UsdtProbe:
    """One place of a probe point: offsets count from the file's start; `semaphore_offset` is 0 without a semaphore."""

    provider: str
    name: str
    offset: int
    semaphore_offset: int
    arguments: tuple[UsdtArgument, ...]


def usdt_probes(path: Path, provider: str | None = None, name: str | None = None) -> list[UsdtProbe]:
    """The places of the probe points in a file, of all or of one provider or name.

    Raises `KernelError` if the file cannot be opened, `BpfError` if it is no ELF file or a note is damaged.
    """
    with elf_file(path) as elf:
        section = elf.get_section_by_name(_NOTES)
        found = [] if section is None else list(_probes(elf, section, path))
    return [each for each in found if provider in (None, each.provider) and name in (None, each.name)]


def attach_usdt(
    program: Program, path: Path, provider: str, name: str, *, pid: int = EVERY_PROCESS, cookie: int = 0
) -> Attachment:
    """Attach to all places of a probe point: `libc`, `setjmp`.

    With a program of attach type trace_uprobe_multi (Linux 6.6) by one link; else by a uprobe a place, held together by
    what is returned, which is a link if there is one place. How it gets the arguments is told by `usdt_probes`.
    Raises `KernelError` (ENOENT) if the file has no such probe point; else as `attach_uprobe` does.
    """
    probes = usdt_probes(path, provider, name)
    if not probes:
        text = f"{path} has no probe point {provider}:{name}"
        raise KernelError(errno.ENOENT, f"cannot attach program {program.spec.name}: {text} (ENOENT)")
    if program.spec.attach_type == AttachType.TRACE_UPROBE_MULTI:
        semaphores = [each.semaphore_offset for each in probes]
        return attach_uprobes(
            program,
            path,
            offsets=[each.offset for each in probes],
            pid=pid,
            semaphore_offsets=semaphores if any(semaphores) else (),
            cookies=[cookie] * len(probes) if cookie else (),
        )
    return _attach_each(program, path, probes, pid, cookie)


class UsdtAttachment(LegacyAttachment):
    """A program at several places, each with a link of its own in `attachments`."""

    def __init__(self, attachments: Sequence[Attachment]) -> None:
        self.attachments = attachments
        super().__init__(UnsupportedFeatureError("one link to several uprobes", "6.6"), self._close_all)

    def info(self) -> LinkInfo:
        """Nothing: raises `BpfError`, as each place has a link of its own."""
        raise self._many()

    def pin(self, path: StrPath) -> None:  # noqa: ARG002 - as the base says
        """Nothing: raises `BpfError`; pin the `attachments`, or load the program for many places."""
        raise self._many()

    def _many(self) -> BpfError:
        places = f"the probe point is at {len(self.attachments)} places"
        return BpfError(
            f"{places}: one link for all takes a program that was loaded for trace_uprobe_multi (Linux 6.6)"
        )

    def _close_all(self) -> None:
        for each in self.attachments:
            each.close()


def _attach_each(program: Program, path: Path, probes: list[UsdtProbe], pid: int, cookie: int) -> Attachment:
    made: list[Attachment] = []
    try:
        for each in probes:
            made.append(
                attach_uprobe(
                    program,
                    path,
                    offset=each.offset,
                    pid=pid,
                    semaphore_offset=each.semaphore_offset,
                    cookie=cookie,
                )
            )
    except BaseException:
        for each_made in made:
            each_made.close()
        raise
    return made[0] if len(made) == 1 else UsdtAttachment(made)


def _probes(elf: Any, section: Any, path: Path) -> Iterator[UsdtProbe]:
    base = elf.get_section_by_name(_BASE)
    order = "<" if elf.little_endian else ">"
    for note in section.iter_notes():
        if note["n_name"] != "stapsdt" or _note_type(note) != 3:
            continue
        description = note["n_descdata"]
        try:
            address, noted_base, semaphore = struct.unpack_from(f"{order}3Q", description)
            provider, name, arguments = (each.decode() for each in description[24:].split(b"\0")[:3])
        except (struct.error, ValueError):
            raise BpfError(f"{path}: a note of {_NOTES} is damaged") from None
        moved = base["sh_addr"] - noted_base if base is not None else 0
        offset = file_offset(elf, address + moved)
        semaphore_offset = file_offset(elf, semaphore + moved) if semaphore else 0
        if offset is None or semaphore_offset is None:
            raise BpfError(f"{path}: probe point {provider}:{name} lies outside of what is mapped")
        yield UsdtProbe(provider, name, offset, semaphore_offset, tuple(parse_arguments(arguments)))


def _note_type(note: Any) -> int:
    """pyelftools names the types that it knows, by numbers that mean something else in other notes."""
    return 3 if note["n_type"] in (3, "NT_GNU_BUILD_ID", "NT_PRPSINFO", "NT_STAPSDT") else 0


_ARGUMENT = re.compile(r"(-?\d+)f?@(\[.*?\]|\S+(?:\(.*?\))?)")

# `$3`; `%rdi`; `-8(%rbp)`, `16(%rax,%rbx,8)`, of x86; `x0`, `#3`; `[sp, 8]`, of arm64.
_CONSTANT = re.compile(r"[$#]?(-?(?:0x[0-9a-f]+|\d+))$", re.IGNORECASE)
_REGISTER = re.compile(r"%?([a-z][a-z0-9]*)$")
_X86_MEMORY = re.compile(r"(-?\d+)?\(%([a-z0-9]+)(?:,\s*%([a-z0-9]+)(?:,\s*(\d))?)?\)$")
_ARM64_MEMORY = re.compile(r"\[\s*([a-z][a-z0-9]*)(?:\s*,\s*#?(-?\d+))?\s*\]$")


def parse_arguments(text: str) -> Iterator[UsdtArgument]:
    """The arguments that a note lists, in the form of its machine's assembler: `8@%rdi -4@$3 8@-8(%rbp)`."""
    for found in _ARGUMENT.finditer(text):
        size = int(found[1])
        yield _placed(UsdtArgument(found[0], abs(size), size < 0), found[2])


def _placed(argument: UsdtArgument, place: str) -> UsdtArgument:
    """With its place; what is in no known form keeps its text alone (a variable's address, say)."""
    if found := _CONSTANT.match(place):
        return evolve(argument, constant=int(found[1], 0))
    if found := _REGISTER.match(place):
        return evolve(argument, register=found[1])
    if found := _ARM64_MEMORY.match(place):
        return evolve(argument, register=found[1], in_memory=True, offset=int(found[2] or 0))
    if found := _X86_MEMORY.match(place):
        index, scale = found[3], int(found[4] or 1)
        return evolve(argument, register=found[2], in_memory=True, offset=int(found[1] or 0), index=index, scale=scale)
    return argument
