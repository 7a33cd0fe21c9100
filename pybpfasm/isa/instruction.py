"""One instruction as a value (RFC 9669, section 3)."""

from collections import namedtuple

from pybpfasm.errors import BpfError

# As in opcodes.py, whose enums take longer to make than all that is here.
_LD_IMM64 = 0x18

# The frame pointer; the encoding has room for more.
LAST_REGISTER = 10

MASK64 = (1 << 64) - 1


class EncodingError(BpfError, ValueError):
    """An instruction that has no encoding, or bytes that are no instruction; the text names the slot."""


TYPE_CHECKING = False  # as typing has it, which costs more to import than all of this
if TYPE_CHECKING:
    from typing import NamedTuple

    class _Fields(NamedTuple):
        opcode: int
        dst: int = 0
        src: int = 0
        offset: int = 0
        imm: int = 0
        symbol: str | None = None
else:
    _Fields = namedtuple("_Fields", "opcode dst src offset imm symbol", defaults=(0, 0, 0, 0, None))


class Instruction(_Fields):
    """One instruction. `offset` is signed 16 bits, `imm` signed 32; for ld_imm64 `imm` is unsigned 64.

    `symbol` is a name still to be resolved: of a map, variable or function for ld_imm64, of a label for a jump, of a
    function for a call. Equal instructions are equal values; `_replace` makes an altered one.
    """

    __slots__ = ()

    @property
    def slots(self) -> int:
        """How many 8-byte slots the instruction takes: 2 for ld_imm64, else 1."""
        return 2 if self.opcode == _LD_IMM64 else 1

    def __str__(self) -> str:
        from pybpfasm.isa.text import format_instruction  # loaded when first used

        return format_instruction(self)
