"""Specs of small programs, for the tests of loading."""

from collections.abc import Iterable
from typing import Any

from pybpfasm import isa
from pybpfasm.isa import Instruction, Label
from pybpfasm.spec import ProgramSpec
from pybpfasm.uapi import AttachType, ProgramType

# As long as a packet for BPF_PROG_RUN has to be at least, with room for a check or two.
PACKET = bytes(range(64))

EXIT = isa.exit_program()


def xdp(*items: Instruction | Label, name: str = "small", **fields: Any) -> ProgramSpec:
    """An XDP program of these instructions, with its labels resolved."""
    return spec(items, name, ProgramType.XDP, AttachType.XDP, "xdp_md", **fields)


def classifier(*items: Instruction | Label, name: str = "small", **fields: Any) -> ProgramSpec:
    """A tc program of these instructions."""
    return spec(items, name, ProgramType.SCHED_CLS, AttachType(0), "__sk_buff", **fields)


def spec(
    items: Iterable[Instruction | Label],
    name: str,
    program_type: ProgramType,
    hook: AttachType,
    context: str,
    **fields: Any,
) -> ProgramSpec:
    """A program of any type."""
    return ProgramSpec(name, program_type, hook, context, tuple(isa.resolve_labels(items)), {}, **fields)
