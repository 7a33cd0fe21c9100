"""What ties a program's instructions to functions and source lines: its BTF, and the records that refer to it.

    func_info   slot, type (a FUNC)                       each function of the program, the first at slot 0
    line_info   slot, file (string), text (string), line  the first record of each function at its start

The records are struct bpf_func_info and struct bpf_line_info of uapi linux/bpf.h. The kernel takes all functions or
none, and lines only with functions: where the spec has no types, each function gets a plain one here. With these the
log quotes source lines, callbacks (bpf_loop) are possible, and bpftool and stack traces show names.
"""

import errno
import struct
from collections.abc import Iterable

from pybpfasm import btf
from pybpfasm.btf.header import encode_header, parse_header
from pybpfasm.errors import BpfError, KernelError
from pybpfasm.isa import CallKind, WideKind
from pybpfasm.isa.opcodes import CALL, LD_IMM64
from pybpfasm.kernel import sys
from pybpfasm.kernel.descriptor import Descriptor
from pybpfasm.records import evolve, frozen
from pybpfasm.spec import FunctionInfo, ProgramSpec, SourceLine
from pybpfasm.uapi import Command

FUNCTION_RECORD_BYTES = 8
LINE_RECORD_BYTES = 16

# By these the kernel says that it has read the types, and does not take them; ENOTSUPP has no name in user space.
_REFUSALS = (errno.EINVAL, errno.E2BIG, errno.EOPNOTSUPP, 524)
_LOG_BYTES = 1 << 16

# line_col of struct bpf_line_info keeps 10 bits for the column, 22 for the line.
_MAX_COLUMN = 1023
_MAX_LINE = (1 << 22) - 1


@frozen
class DebugInfo:
    """The blob of types, and the records in the machine's byte order (little endian on all machines supported)."""

    types: bytes
    functions: bytes
    lines: bytes

    @classmethod
    def of(cls, spec: ProgramSpec) -> "DebugInfo":
        """The debug information of a program: its own, or what can be said without.

        Raises `BtfError` if the spec's types are no BTF.
        """
        starts = function_starts(spec)
        types, functions = _own(spec, starts) or _plain(spec, starts)
        strings = _Strings(types)
        lines = spec.lines if starts <= {line.slot for line in spec.lines} else ()
        records = b"".join(_line_record(line, strings) for line in lines)
        function_records = b"".join(struct.pack("<II", each.slot, each.type_id) for each in functions)
        return cls(strings.blob(), function_records, records)


def load_debug_info(spec: ProgramSpec) -> tuple[Descriptor, DebugInfo]:
    """Load the types of a program, in the newest form that this kernel takes.

    Raises `KernelError` with the kernel's reason if it takes none, `BpfError` if the spec's types are no BTF.
    """
    what = f"the source lines of program {spec.name} (BTF)"
    try:
        forms: Iterable[bytes | None] = [None]
        if spec.types is not None:
            from pybpfasm.kernel.older_types import older_forms  # programs of ours bring no types along

            forms = older_forms(spec.types)
        for types in forms:
            debug = DebugInfo.of(evolve(spec, types=types))
            try:
                return Descriptor(_load(debug.types, what)), debug
            except KernelError as error:
                if error.errno not in _REFUSALS:
                    raise
                refused = error, debug.types
    except btf.BtfError as error:
        raise BpfError(f"cannot load {what}: {error}") from None
    raise _with_reason(*refused, what)


def _load(types: bytes, what: str, log: bytearray | None = None) -> int:
    held = sys.buffer(types)
    attributes = sys.new("btf_load", btf=sys.address(held), btf_size=len(types))
    if log is None:
        return sys.bpf(Command.BTF_LOAD, attributes, f"load {what}")
    memory = sys.buffer(_LOG_BYTES)
    attributes.btf_log_level, attributes.btf_log_size, attributes.btf_log_buf = 1, _LOG_BYTES, sys.address(memory)
    try:
        return sys.bpf(Command.BTF_LOAD, attributes, f"load {what}")
    finally:
        log += sys.contents(memory).split(b"\0", 1)[0]


def _with_reason(error: KernelError, types: bytes, what: str) -> KernelError:
    """The error with the line of the kernel's log that says what it found."""
    log = bytearray()
    try:
        Descriptor(_load(types, what, log)).close()
    except KernelError:
        rows = [row.strip() for row in log.decode(errors="replace").splitlines() if row.strip()]
        if rows:
            return KernelError(error.errno or 0, f"cannot load {what}: the kernel refuses `{rows[-1]}`")
    return error


def function_starts(spec: ProgramSpec) -> set[int]:
    """The slots at which the program's functions begin: 0, and what is called or has its address taken."""
    starts, slot = {0}, 0
    for opcode, _, src, _, imm, symbol in spec.instructions:
        if symbol is None and opcode == CALL and src == CallKind.FUNCTION:
            starts.add(slot + 1 + imm)
        elif symbol is None and opcode == LD_IMM64 and src == WideKind.FUNC:
            starts.add(slot + 1 + _signed(imm & 0xFFFFFFFF))
        slot += 2 if opcode == LD_IMM64 else 1
    return starts


def _signed(word: int) -> int:
    return word - (1 << 32) if word & 1 << 31 else word


def _own(spec: ProgramSpec, starts: set[int]) -> tuple[bytes, tuple[FunctionInfo, ...]] | None:
    """The spec's types and functions, if they are of all functions."""
    if spec.types is None or {each.slot for each in spec.functions} != starts:
        return None
    return spec.types, spec.functions


def _plain(spec: ProgramSpec, starts: set[int]) -> tuple[bytes, tuple[FunctionInfo, ...]]:
    """`static int name(struct context *ctx)`, and `static int name(void)` for the functions that it calls."""
    encoder = btf.Encoder()
    names = {each.slot: each.name for each in spec.functions}
    integer = btf.Int("int", 4, signed=True)
    context = btf.Parameter("ctx", btf.Pointer(btf.Struct(spec.context, 0)))
    functions = []
    for slot in sorted(starts):
        name = names.get(slot, f"function_{slot}") if slot else spec.name
        function = btf.Function(name, () if slot else (context,), integer)
        functions.append(FunctionInfo(slot, name, encoder.function_id(function)))
    return encoder.encode(), tuple(functions)


class _Strings:
    """A blob whose string section grows; its types are left as they are."""

    def __init__(self, types: bytes) -> None:
        header = parse_header(types)
        self._byteorder = header.byteorder
        self._types = types[header.types.start : header.types.stop]
        self._strings = bytearray(types[header.strings.start : header.strings.stop] or b"\0")
        self._offsets: dict[str, int] = {}

    def offset(self, text: str) -> int:
        """Where the string stands, which is added if it is new. A zero, which would end it, becomes a space."""
        if text not in self._offsets:
            self._offsets[text] = len(self._strings)
            self._strings += text.replace("\0", " ").encode(errors="replace") + b"\0"
        return self._offsets[text]

    def blob(self) -> bytes:
        """The whole, without a layout section, which older kernels than 7.1 refuse."""
        header = encode_header(self._byteorder, len(self._types), len(self._strings))
        return header + self._types + bytes(self._strings)


def _line_record(line: SourceLine, strings: _Strings) -> bytes:
    file, text = strings.offset(line.file.rpartition("/")[2]), strings.offset(line.text)
    number, column = min(line.line, _MAX_LINE), min(line.column, _MAX_COLUMN)
    return struct.pack("<IIII", line.slot, file, text, number << 10 | column)
