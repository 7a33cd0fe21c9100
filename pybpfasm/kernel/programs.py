"""Programs in the kernel."""

import errno
import os
import struct
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path, PurePath
from sys import byteorder
from typing import Any

import attrs

from pybpfasm import btf
from pybpfasm.errors import BpfError, KernelError
from pybpfasm.isa import CallKind, Instruction, WideKind, decode, encode
from pybpfasm.isa.opcodes import CALL, LD_IMM64
from pybpfasm.kernel import sys
from pybpfasm.kernel.descriptor import Descriptor
from pybpfasm.kernel.info import ProgramInfo, program_info, translated_program
from pybpfasm.kernel.maps import Map, load_btf, object_name
from pybpfasm.kernel.pins import open_pin, pin
from pybpfasm.kernel.verifier import rejection
from pybpfasm.spec import ProgramSpec
from pybpfasm.uapi import AttachType, Command, ProgramType

_FIRST_LOG_BYTES = 1 << 16
# The largest log that kernels before 5.2 accept is 16 MiB - 1; no reason is further from the end than that.
_LARGEST_LOG_BYTES = (1 << 24) - 1

# line_col of struct bpf_line_info keeps 10 bits for the column.
_MAX_COLUMN = 1023

# The kernel's own ENOTSUPP (include/linux/errno.h), which user space has no name for.
_ENOTSUPP = 524


class Program(Descriptor):
    """A program of the kernel; `log` is what the verifier said, empty unless `load` was asked for it."""

    def __init__(self, fd: int, spec: ProgramSpec, log: str = "") -> None:
        super().__init__(fd)
        self.spec = spec
        self.log = log

    @classmethod
    def load(cls, spec: ProgramSpec, maps: Mapping[str, Map], *, log_level: int = 0) -> "Program":
        """Load the program with the maps it names. `log_level` 4 asks for the verifier's statistics (Linux 5.2).

        Raises `VerifierError` if the verifier rejects it, `KernelError` if the kernel will not try.
        """
        with ExitStack() as held:
            attributes = _attributes(spec, maps, held)
            debug = DebugInfo.of(spec)
            if debug is not None:
                _add_debug_info(spec, attributes, debug, held)
            log = _attach_log(attributes, log_level, held) if log_level else None
            fd = _load(spec, attributes)
            return cls(fd, spec, _log_text(log) if log is not None else "")

    @classmethod
    def open(cls, path: Path) -> "Program":
        """The program pinned at `path`; its spec has the name and type only.

        Raises `KernelError`: ENOENT if nothing is pinned there, EINVAL if something else is than a program.
        """
        return cls._of(open_pin(path), f"{path} as a program")

    @classmethod
    def by_id(cls, number: int) -> "Program":
        """The loaded program of that id; its spec has the name and type only.

        Raises `KernelError`: ENOENT if there is none, EPERM without CAP_SYS_ADMIN.
        """
        if not 0 < number < 1 << 32:
            raise KernelError(errno.ENOENT, f"there is no program with id {number}")
        what = f"program {number}"
        try:
            fd = sys.bpf(Command.PROG_GET_FD_BY_ID, sys.new("id", id=number), f"open {what}")
        except KernelError as error:
            if error.errno != errno.ENOENT:
                raise
            raise KernelError(errno.ENOENT, f"there is no program with id {number}") from None
        return cls._of(fd, what)

    @classmethod
    def _of(cls, fd: int, what: str) -> "Program":
        """The program behind a descriptor, which it owns from now on."""
        with Descriptor(fd) as owner:
            if os.readlink(f"/proc/self/fd/{fd}") != "anon_inode:bpf-prog":
                raise KernelError(errno.EINVAL, f"cannot open {what}: it is another kind of object")
            info = program_info(fd)
            known = info.type in set(ProgramType)
            kind = ProgramType(info.type) if known else ProgramType.UNSPEC
            return cls(owner.detach(), ProgramSpec(info.name, kind, AttachType(0), "", (), {}))

    def info(self) -> ProgramInfo:
        """What the kernel says of the program."""
        return program_info(self.fd)

    def xlated(self) -> tuple[Instruction, ...]:
        """The instructions that the verifier made of the program: dead code gone, accesses and helpers rewritten.

        Maps have their ids, a call of a helper has its distance from the kernel's `__bpf_call_base`, or 0 where
        kernel addresses are not shown. Raises `KernelError` (EPERM) if this process may not see them.
        """
        data = bytearray(translated_program(self.fd))
        if not data:
            raise KernelError(errno.EPERM, "cannot read the program's instructions: it needs root, or CAP_BPF (EPERM)")
        # The address of a function has the function's number in the upper half (kernel/bpf/verifier.c, jit_subprogs).
        kind = WideKind.FUNC << 4 if byteorder == "little" else WideKind.FUNC
        for start in range(0, len(data), 8):
            if data[start] == LD_IMM64 and data[start + 1] & (0xF0 if byteorder == "little" else 0x0F) == kind:
                data[start + 12 : start + 16] = bytes(4)
        return tuple(decode(bytes(data), byteorder))

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
    def of(cls, spec: ProgramSpec) -> "DebugInfo | None":
        """The debug information of a program; None if there is none for all of its functions."""
        if any(each.opcode == CALL and each.src == CallKind.FUNCTION for each in spec.instructions):
            return None
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


def _attributes(spec: ProgramSpec, maps: Mapping[str, Map], held: ExitStack) -> Any:
    """The load's attributes; `held` keeps the memory that they point into."""
    code = encode(_with_map(instruction, maps) for instruction in spec.instructions)
    return sys.new(
        "prog_load",
        prog_type=spec.type,
        expected_attach_type=spec.attach_type,
        insns=_pointer(code, held),
        insn_cnt=len(code) // 8,
        license=_pointer(spec.license.encode() + b"\0", held),
        prog_name=object_name(spec.name),
        prog_flags=spec.flags,
    )


def _add_debug_info(spec: ProgramSpec, attributes: Any, debug: DebugInfo, held: ExitStack) -> None:
    types = held.enter_context(load_btf(debug.types, f"the source lines of program {spec.name}"))
    attributes.prog_btf_fd = types.fd
    attributes.func_info = _pointer(debug.functions, held)
    attributes.func_info_cnt, attributes.func_info_rec_size = 1, 8
    attributes.line_info = _pointer(debug.lines, held)
    attributes.line_info_cnt, attributes.line_info_rec_size = len(spec.lines), 16


def _pointer(data: bytes, held: ExitStack) -> int:
    memory = sys.buffer(data)
    held.callback(lambda: memory)
    return sys.address(memory)


def _with_map(instruction: Instruction, maps: Mapping[str, Map]) -> Instruction:
    opcode, _, kind, _, imm, symbol = instruction
    if opcode != LD_IMM64 or kind not in (WideKind.MAP_FD, WideKind.MAP_VALUE) or symbol is None:
        return instruction
    if symbol not in maps:
        raise BpfError(f"the program refers to map {symbol}, which is not among those given")
    # The upper half is the offset into the map's value.
    return instruction._replace(imm=imm | maps[symbol].fd, symbol=None)


def _load(spec: ProgramSpec, attributes: Any) -> int:
    """Load, as a rule without a log, which is quicker; if that fails, once more with one to learn the reason."""
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


def _attach_log(attributes: Any, level: int, held: ExitStack) -> Any:
    log = sys.buffer(_FIRST_LOG_BYTES)
    held.callback(lambda: log)
    attributes.log_level, attributes.log_size, attributes.log_buf = level, _FIRST_LOG_BYTES, sys.address(log)
    return log


def _log_text(log: Any) -> str:
    return sys.contents(log).split(b"\0", 1)[0].decode(errors="replace")


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
        return _log_text(log)
