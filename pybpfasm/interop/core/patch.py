"""The instruction with the target's number in it: its immediate, or its offset and width (bpf_core_patch_insn)."""

import attrs

from pybpfasm.btf import kinds
from pybpfasm.interop.core.access import Access
from pybpfasm.interop.core.values import Value
from pybpfasm.interop.error import ElfError
from pybpfasm.isa import Class, Instruction, WideKind, call
from pybpfasm.isa.opcodes import BYTES_OF_SIZE, LD_IMM64, SIZE_OF_BYTES, Size, X

# A helper that no kernel has: if the verifier gets to what must not run, its walk ends here (libbpf's "bad relo").
POISON = call(0xBAD2310)

_MASK64 = 0xFFFFFFFFFFFFFFFF
_MASK32 = 0xFFFFFFFF
_SIZE_BITS = 0x18


@attrs.frozen
class Patch:
    """What a relocation found: `old` in the object's types, `new` in the target's, or None if the instruction must not
    run.

    `resizable`: a load or store may become one of another width, for it is of unsigned integers or of pointers.
    """

    old: Value
    new: Value | None
    resizable: bool = True


def resizable(local: Access, old: Value, target: Access, new: Value) -> bool:
    """A field's width may change and its value still be right: zeros stand above it in either."""
    if old.size == new.size:
        return True
    mine, theirs = local.btf.type(old.type_id), target.btf.type(new.type_id)
    if isinstance(mine, kinds.Ptr) and isinstance(theirs, kinds.Ptr):
        return True
    return isinstance(mine, kinds.Int) and isinstance(theirs, kinds.Int) and not (_signed(mine) or _signed(theirs))


def _signed(record: kinds.Int) -> bool:
    return record.signed and not record.char and not record.boolean


def patched(instruction: Instruction, patch: Patch) -> tuple[Instruction, ...]:
    """The instruction, in as many slots as before. Raises `ElfError` if it does not hold the number that it should."""
    if patch.new is None:
        return (POISON,) * instruction.slots
    match instruction.opcode & 7:
        case Class.ALU | Class.ALU64 if not instruction.opcode & X:
            _check(patch.old, instruction.imm & _MASK64, patch.old.number & _MASK64)
            return (instruction._replace(imm=_signed32(patch.new.number)),)
        case Class.LDX | Class.ST | Class.STX:
            return (_memory(instruction, patch, patch.new),)
        case Class.LD if instruction.opcode == LD_IMM64 and instruction.src == WideKind.IMM:
            return (_wide(instruction, patch.old, patch.new),)
    raise ElfError(f"`{instruction}` has no place for a relocation")


def _wide(instruction: Instruction, old: Value, new: Value) -> Instruction:
    number = new.number & _MASK64
    if old.narrow and instruction.imm == old.number & _MASK32:  # an unsigned enumerator
        return instruction._replace(imm=number & _MASK32 if new.narrow else number)
    _check(old, instruction.imm, old.number)
    return instruction._replace(imm=number)


def _memory(instruction: Instruction, patch: Patch, new: Value) -> Instruction:
    _check(patch.old, instruction.offset, patch.old.number)
    if new.number > 0x7FFF:
        raise ElfError(f"the field of `{instruction}` is {new.number} bytes into the target's type: 32767 are possible")
    if not patch.resizable:
        return POISON
    opcode = instruction.opcode
    if new.size != patch.old.size:
        if BYTES_OF_SIZE[Size(opcode & _SIZE_BITS)] != patch.old.size or new.size not in SIZE_OF_BYTES:
            raise ElfError(f"`{instruction}`: a field of {patch.old.size} bytes has {new.size} in the target")
        opcode = opcode & ~_SIZE_BITS | SIZE_OF_BYTES[new.size]
    return instruction._replace(opcode=int(opcode), offset=new.number)


def _check(old: Value, found: int, wanted: int) -> None:
    """The compiler and we agree on the object's own types, where they are not ambiguous."""
    if old.certain and found != wanted:
        raise ElfError(f"an instruction holds {found} where the object's types say {wanted}: object and types disagree")


def _signed32(number: int) -> int:
    number &= 0xFFFFFFFF
    return number - (1 << 32) if number >> 31 else number
