"""Programs in the kernel."""

import errno
from collections.abc import Mapping
from contextlib import ExitStack
from struct import pack
from sys import byteorder
from typing import TYPE_CHECKING, Any

from pybpfasm.errors import BpfError, KernelError
from pybpfasm.isa import Instruction, WideKind, decode, encode
from pybpfasm.isa.opcodes import LD_IMM64
from pybpfasm.kernel import sys
from pybpfasm.kernel.debug_info import FUNCTION_RECORD_BYTES, LINE_RECORD_BYTES, DebugInfo, load_debug_info
from pybpfasm.kernel.descriptor import Descriptor
from pybpfasm.kernel.info import ProgramInfo, program_info, translated_program
from pybpfasm.kernel.ksyms import KernelSymbols
from pybpfasm.kernel.loading import load_program
from pybpfasm.kernel.maps import Map, object_name
from pybpfasm.records import frozen
from pybpfasm.spec import ProgramSpec
from pybpfasm.uapi import AttachType, Command, ProgramRunFlag, ProgramType

if TYPE_CHECKING:
    from pybpfasm.kernel.pins import StrPath
    from pybpfasm.kernel.runs import Run

__all__ = ["DebugInfo", "Program", "ProgramStats"]

_NO_MAPS: Mapping[str, Map] = {}


_ATTACHED_BY_BTF = (ProgramType.TRACING, ProgramType.LSM, ProgramType.STRUCT_OPS, ProgramType.EXT)


@frozen
class ProgramStats:
    """What `enable_stats` has counted: nanoseconds spent in the program, its runs, runs missed within itself (5.12)."""

    run_time_ns: int
    run_count: int
    recursion_misses: int


class Program(Descriptor):
    """A program of the kernel; owns one descriptor of it. It may be shared between threads.

    `log` is what the verifier said on the way, empty unless `load` was asked for it.
    """

    def __init__(self, fd: int, spec: ProgramSpec, log: str = "") -> None:
        super().__init__(fd)
        self.spec = spec
        self.log = log

    @classmethod
    def load(
        cls,
        spec: ProgramSpec,
        maps: Mapping[str, Map] = _NO_MAPS,
        *,
        target: "Program | None" = None,
        log_level: int = 0,
    ) -> "Program":
        """Load the program with the maps it names; their descriptors may be closed afterwards.

        What the spec refers to in the kernel is looked up here: what it is attached to by BTF (`attach_to`), kfuncs,
        variables, symbols. `target` is another program of which `attach_to` names a function: for a program that
        replaces it (ext, Linux 5.6) or traces it. `log_level` asks for a log also of success: 2 each instruction on
        each path, 4 statistics (5.2), their sum both; 1, what is logged for an error, has statistics alone then.

        Raises `VerifierError` if the verifier rejects it, `KernelError` if the kernel will not try (ENOENT: a name that
        this kernel has not), `BpfError` if the spec names a map that is not given.
        """
        with ExitStack() as held:
            attributes = _attributes(spec, maps, target, held)
            fd, log = load_program(spec, attributes, log_level)
            return cls(fd, spec, log)

    @classmethod
    def open(cls, path: "StrPath", spec: ProgramSpec | None = None) -> "Program":
        """The program pinned at `path`; without a spec of the caller's, its own has the name and type only.

        Raises `KernelError`: ENOENT if nothing is pinned there, EINVAL if something else is than a program.
        """
        from pybpfasm.kernel.pins import open_pin

        return cls._of(open_pin(path), f"{path} as a program", spec)

    @classmethod
    def by_id(cls, number: int, spec: ProgramSpec | None = None) -> "Program":
        """The loaded program of that id; without a spec of the caller's, its own has the name and type only.

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
        return cls._of(fd, what, spec)

    @classmethod
    def _of(cls, fd: int, what: str, spec: ProgramSpec | None) -> "Program":
        """The program behind a descriptor, which it owns from now on."""
        from pybpfasm.kernel.pins import check_kind

        with Descriptor(fd) as owner:
            check_kind(fd, "program", what)
            if spec is None:
                info = program_info(fd)
                known = info.type in set(ProgramType)
                kind = ProgramType(info.type) if known else ProgramType.UNSPEC
                spec = ProgramSpec(info.name, kind, AttachType(0), "", (), {})
            return cls(owner.release(), spec)

    def info(self) -> ProgramInfo:
        """What the kernel says of the program."""
        return program_info(self.fd)

    @property
    def stats(self) -> ProgramStats:
        """Its runs, as far as they fell into times when `enable_stats` was in force."""
        info = self.info()
        return ProgramStats(info.run_time_ns, info.run_count, info.recursion_misses)

    def run(
        self,
        data: bytes = b"",
        context: bytes = b"",
        *,
        repeat: int = 0,
        flags: ProgramRunFlag = ProgramRunFlag(0),  # noqa: B008 - an immutable number
        cpu: int = 0,
        batch_size: int = 0,
    ) -> "Run":
        """Run it on a packet and a context, attached to nothing: see `pybpfasm.kernel.runs`, also for the errors."""
        from pybpfasm.kernel.runs import run

        return run(self.fd, self.spec, data, context, repeat=repeat, flags=flags, cpu=cpu, batch_size=batch_size)

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

    def pin(self, path: "StrPath") -> None:
        """Keep the program alive under a name."""
        from pybpfasm.kernel.pins import pin

        pin(self.fd, path)

    def bind_map(self, map_: Map) -> None:
        """Keep a map as long as the program, which need not use it: one with metadata, say (Linux 5.10).

        Binding it a second time changes nothing. Raises `KernelError`.
        """
        attributes = sys.new("prog_bind_map", prog_fd=self.fd, map_fd=map_.fd)
        sys.bpf(Command.PROG_BIND_MAP, attributes, f"bind map {map_.spec.name} to program {self.spec.name}")


def _attributes(spec: ProgramSpec, maps: Mapping[str, Map], target: Program | None, held: ExitStack) -> Any:
    """The load's attributes; `held` keeps the memory and descriptors that they refer to."""
    symbols = KernelSymbols(spec.name, held)
    code = encode(symbols.resolved(_with_map(instruction, maps)) for instruction in spec.instructions)
    attributes = sys.new(
        "prog_load",
        prog_type=spec.type,
        expected_attach_type=spec.attach_type,
        insns=_pointer(code, held),
        insn_cnt=len(code) // 8,
        license=_pointer(spec.license.encode() + b"\0", held),
        prog_name=object_name(spec.name),
        prog_flags=spec.flags,
    )
    if len(symbols.fd_array) > 1:
        attributes.fd_array = _pointer(pack(f"={len(symbols.fd_array)}i", *symbols.fd_array), held)
    _add_target(spec, target, attributes, held)
    _add_debug_info(spec, attributes, held)
    return attributes


def _add_target(spec: ProgramSpec, target: Program | None, attributes: Any, held: ExitStack) -> None:
    if spec.type not in _ATTACHED_BY_BTF:
        return
    from pybpfasm.kernel.attach_targets import attach_target  # it reads the kernel's types

    found = attach_target(spec, target, held)
    attributes.attach_btf_id, attributes.attach_prog_or_btf_fd = found.btf_id, found.fd
    attributes.expected_attach_type = found.attach_type


def _add_debug_info(spec: ProgramSpec, attributes: Any, held: ExitStack) -> None:
    types, debug = load_debug_info(spec)
    attributes.prog_btf_fd = held.enter_context(types).fd
    attributes.func_info = _pointer(debug.functions, held)
    attributes.func_info_cnt = len(debug.functions) // FUNCTION_RECORD_BYTES
    attributes.func_info_rec_size = FUNCTION_RECORD_BYTES
    attributes.line_info = _pointer(debug.lines, held)
    attributes.line_info_cnt = len(debug.lines) // LINE_RECORD_BYTES
    attributes.line_info_rec_size = LINE_RECORD_BYTES


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
