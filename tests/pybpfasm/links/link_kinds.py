"""What the conformance suite knows of a kind of link, and the programs that it attaches: they count their runs."""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

import attrs

from pybpfasm import isa
from pybpfasm.isa import Alu, Instruction, Jump, Label
from pybpfasm.kernel.features import Feature
from pybpfasm.kernel.links import Attachment
from pybpfasm.kernel.maps import Map
from pybpfasm.kernel.programs import Program
from pybpfasm.spec import ProgramSpec
from pybpfasm.uapi import AttachType, Helper, LinkType, ProgramType

_TGID_SHIFT = 32


class Scene(Protocol):
    """A place to attach to, for the time of a test. `target` is what the link's info has as its target or its name."""

    @property
    def target(self) -> int | str:
        """The number or the name of what is attached to."""

    def attach(self, program: Program) -> Attachment:
        """Attach the program."""

    def trigger(self) -> None:
        """Do once what makes an attached program run."""


@attrs.frozen
class LinkKind:
    """A row of the suite.

    `needs` are what attaching needs, `link` what doing so by a link needs beside that.
    `exclusive`: a second attach is refused (EBUSY), and attaching is otherwise possible again and again, all programs
    run. `updates`, `detaches`: the kernel can do so for this kind. `of_this_process`: programs count runs in the test's
    process only, where others could cause some. `verdict` is what the programs return.
    """

    name: str
    type: LinkType
    program_type: ProgramType
    hook: AttachType
    scene: Callable[[], AbstractContextManager[Scene]]
    needs: tuple[Feature, ...]
    link: tuple[Feature, ...] = ()
    verdict: int = 0
    attach_to: str | None = None
    exclusive: bool = False
    updates: bool = False
    detaches: bool = False
    of_this_process: bool = False

    def program(self, counts: Map, index: int) -> Program:
        """A program of this kind that counts its runs in a slot of the array."""
        code = (*(_only_this_process() if self.of_this_process else ()), *_counting(index, self.verdict))
        spec = ProgramSpec(
            f"count_{index}",
            self.program_type,
            self.hook,
            "ctx",
            tuple(isa.resolve_labels(code)),
            {},
            attach_to=self.attach_to,
        )
        return Program.load(spec, {"counts": counts})


def _only_this_process() -> tuple[Instruction | Label, ...]:
    return (
        isa.call(Helper.GET_CURRENT_PID_TGID),
        isa.alu_imm(Alu.RSH, 0, _TGID_SHIFT),
        isa.jump_if_imm(Jump.JNE, 0, os.getpid(), "out"),
    )


def _counting(index: int, verdict: int) -> tuple[Instruction | Label, ...]:
    return (
        isa.store_imm(4, 10, -4, index),
        isa.mov(2, 10),
        isa.alu_imm(Alu.ADD, 2, -4),
        isa.load_map(1, "counts"),
        isa.call(Helper.MAP_LOOKUP_ELEM),
        isa.jump_if_imm(Jump.JEQ, 0, 0, "out"),
        isa.mov_imm(1, 1),
        isa.atomic(isa.Atomic.ADD, 8, 0, 0, 1),
        Label("out"),
        isa.mov_imm(0, verdict),
        isa.exit_program(),
    )
