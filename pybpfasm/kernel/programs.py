"""Programs in the kernel."""

import errno
import os
import struct
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

import attrs

from pybpfasm import btf
from pybpfasm.errors import BpfError, KernelError
from pybpfasm.isa import PSEUDO_MAP_FD, Instruction, encode
from pybpfasm.isa.opcodes import LD_IMM64
from pybpfasm.kernel import sys
from pybpfasm.kernel.descriptor import Descriptor
from pybpfasm.kernel.info import ProgramInfo, program_info
from pybpfasm.kernel.maps import Map, load_btf, object_name
from pybpfasm.kernel.pins import pin
from pybpfasm.kernel.verifier import rejection
from pybpfasm.spec import ProgramSpec
from pybpfasm.uapi import Command

_FIRST_LOG_BYTES = 1 << 16
# The largest log that kernels before 5.2 accept is 16 MiB - 1; no reason is further from the end than that.
_LARGEST_LOG_BYTES = (1 << 24) - 1

# line_col of struct bpf_line_info keeps 10 bits for the column.
_MAX_COLUMN = 1023

# The kernel's own ENOTSUPP (include/linux/errno.h), which user space has no name for.
_ENOTSUPP = 524


class Program(Descriptor):
    """A program of the kernel."""

    def __init__(self, fd: int, spec: ProgramSpec) -> None:
        super().__init__(fd)
        self.spec = spec

    @classmethod
    def load(cls, spec: ProgramSpec, maps: Mapping[str, Map]) -> "Program":
        """Load the program with the maps it names.

        Raises `VerifierError` if the verifier rejects it, `KernelError` if the kernel will not try.
        """
        debug = DebugInfo.of(spec)
        with load_btf(debug.types, f"the source lines of program {spec.name}") as types:
            attributes, held = _attributes(spec, maps, debug, types.fd)
            fd = _load(spec, attributes)
            del held  # until here the attributes pointed into it
        return cls(fd, spec)

    def info(self) -> ProgramInfo:
        """What the kernel says of the program."""
        return program_info(self.fd)

    def pin(self, path: Path) -> None:
        """Keep the program alive under a name."""
        pin(self.fd, path)


@attrs.frozen
class DebugInfo:
    """What ties instructions to source lines: BTF, and the records that refer to it.

    The records are struct bpf_func_info and struct bpf_line_info of uapi linux/bpf.h.
    """

    types: bytes
    functions: bytes
    lines: bytes

    @classmethod
    def of(cls, spec: ProgramSpec) -> "DebugInfo":
        """The debug information of a program."""
        encoder = btf.Encoder()
        context = btf.Pointer(btf.Struct(spec.context, 0))
        function = btf.Function(spec.name, (btf.Parameter("ctx", context),), btf.Int("int", 4, signed=True))
        functions = struct.pack("<II", 0, encoder.function_id(function))
        lines = b"".join(
            struct.pack(
                "<IIII",
                line.slot,
                encoder.string_offset(PurePath(line.file).name),
                encoder.string_offset(line.text),
                line.line << 10 | min(line.column, _MAX_COLUMN),
            )
            for line in spec.lines
        )
        return cls(encoder.encode(), functions, lines)


def _attributes(spec: ProgramSpec, maps: Mapping[str, Map], debug: DebugInfo, btf_fd: int) -> tuple[Any, list[Any]]:
    """The load's attributes, and the memory that they point into."""
    resolved = [_with_map(instruction, maps) for instruction in spec.instructions]
    instructions, functions, lines, license_ = held = [
        sys.buffer(data) for data in (encode(resolved), debug.functions, debug.lines, spec.license.encode() + b"\0")
    ]
    attributes = sys.new(
        "prog_load",
        prog_type=spec.type,
        expected_attach_type=spec.attach_type,
        insns=sys.address(instructions),
        insn_cnt=len(instructions) // 8,
        license=sys.address(license_),
        prog_name=object_name(spec.name),
        prog_btf_fd=btf_fd,
        func_info=sys.address(functions),
        func_info_cnt=1,
        func_info_rec_size=8,
        line_info=sys.address(lines),
        line_info_cnt=len(spec.lines),
        line_info_rec_size=16,
    )
    return attributes, held


def _with_map(instruction: Instruction, maps: Mapping[str, Map]) -> Instruction:
    if instruction.opcode != LD_IMM64 or instruction.src != PSEUDO_MAP_FD or instruction.symbol is None:
        return instruction
    if instruction.symbol not in maps:
        raise BpfError(f"the program refers to map {instruction.symbol}, which is not among those given")
    return instruction._replace(imm=maps[instruction.symbol].fd, symbol=None)


def _load(spec: ProgramSpec, attributes: Any) -> int:
    """Load without a log, which is quicker; if that fails, once more with one to learn the reason."""
    attempted = f"load program {spec.name}"
    try:
        return sys.bpf(Command.PROG_LOAD, attributes, attempted)
    except KernelError as error:
        if error.errno not in (errno.EINVAL, errno.EACCES, errno.E2BIG, errno.ENOSPC, errno.EPERM, _ENOTSUPP):
            raise
        log = _verifier_log(attributes, attempted)
        if not log:
            raise
        raise rejection(spec, log, str(error)) from None


def _verifier_log(attributes: Any, attempted: str) -> str:
    size = _FIRST_LOG_BYTES
    while True:
        log = sys.buffer(size)
        attributes.log_level, attributes.log_size, attributes.log_buf = 1, size, sys.address(log)
        try:
            os.close(sys.bpf(Command.PROG_LOAD, attributes, attempted))
        except KernelError as error:
            if error.errno == errno.ENOSPC and size < _LARGEST_LOG_BYTES:
                size = min(size * 8, _LARGEST_LOG_BYTES)
                continue
        return sys.contents(log).split(b"\0", 1)[0].decode(errors="replace")
