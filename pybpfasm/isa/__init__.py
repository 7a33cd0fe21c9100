"""The instruction set: instructions, labels, encoding, and text in the kernel's, LLVM's and uBPF's syntax.

from pybpfasm.isa import decode, encode, format, parse

program = parse("r0 = 2\\nexit", "llvm")
assert decode(encode(program)) == program
"""

from pybpfasm.isa.instruction import EncodingError, Instruction
from pybpfasm.lazy import lazy_attributes

TYPE_CHECKING = False  # as typing has it, which costs more to import than all of this
if TYPE_CHECKING:
    from pybpfasm.isa.assembler import Label, link_functions, resolve_labels
    from pybpfasm.isa.construct import (
        addr_space_cast,
        alu,
        alu_imm,
        atomic,
        byte_swap,
        call,
        call_function,
        call_kfunc,
        call_register,
        compare_exchange,
        exchange,
        exit_program,
        jump,
        jump_if,
        jump_if_imm,
        jump_long,
        jump_register,
        load,
        load_acquire,
        load_function,
        load_imm64,
        load_kernel_variable,
        load_map,
        load_map_index,
        load_map_index_value,
        load_map_value,
        load_packet,
        load_packet_indirect,
        load_signed,
        may_goto,
        mov,
        mov_imm,
        mov_signed,
        neg,
        store,
        store_imm,
        store_release,
        to_big_endian,
        to_little_endian,
    )
    from pybpfasm.isa.encoding import ByteOrder, decode, encode
    from pybpfasm.isa.opcodes import INVERSE, Alu, Atomic, CallKind, Class, Jump, Mode, Size, WideKind
    from pybpfasm.isa.text import ParseError, Syntax, format_instruction, listing, parse
    from pybpfasm.isa.text import format as format  # noqa: A004 - the public name

if not TYPE_CHECKING:
    __getattr__ = lazy_attributes(
        __name__,
        {
            "assembler": "Label link_functions resolve_labels",
            "construct": """addr_space_cast alu alu_imm atomic byte_swap call call_function call_kfunc call_register
                compare_exchange exchange exit_program jump jump_if jump_if_imm jump_long jump_register load
                load_acquire load_function load_imm64 load_kernel_variable load_map load_map_index
                load_map_index_value load_map_value load_packet load_packet_indirect load_signed may_goto mov mov_imm
                mov_signed neg store store_imm store_release to_big_endian to_little_endian""",
            "encoding": "ByteOrder decode encode",
            "opcodes": "INVERSE Alu Atomic CallKind Class Jump Mode Size WideKind",
            "text": "ParseError Syntax format format_instruction listing parse",
        },
    )

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})


__all__ = [
    "INVERSE",
    "Alu",
    "Atomic",
    "ByteOrder",
    "CallKind",
    "Class",
    "EncodingError",
    "Instruction",
    "Jump",
    "Label",
    "Mode",
    "ParseError",
    "Size",
    "Syntax",
    "WideKind",
    "addr_space_cast",
    "alu",
    "alu_imm",
    "atomic",
    "byte_swap",
    "call",
    "call_function",
    "call_kfunc",
    "call_register",
    "compare_exchange",
    "decode",
    "encode",
    "exchange",
    "exit_program",
    "format",
    "format_instruction",
    "jump",
    "jump_if",
    "jump_if_imm",
    "jump_long",
    "jump_register",
    "link_functions",
    "listing",
    "load",
    "load_acquire",
    "load_function",
    "load_imm64",
    "load_kernel_variable",
    "load_map",
    "load_map_index",
    "load_map_index_value",
    "load_map_value",
    "load_packet",
    "load_packet_indirect",
    "load_signed",
    "may_goto",
    "mov",
    "mov_imm",
    "mov_signed",
    "neg",
    "parse",
    "resolve_labels",
    "store",
    "store_imm",
    "store_release",
    "to_big_endian",
    "to_little_endian",
]
