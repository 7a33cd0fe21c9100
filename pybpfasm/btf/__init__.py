"""BPF type format: what lies where in the kernel's structs, the types of maps and functions, C declarations.

from pybpfasm.btf import kernel_btf

assert kernel_btf().field("task_struct.mm").byte_offset > 0
"""

from typing import TYPE_CHECKING

from pybpfasm.lazy import lazy_attributes

if TYPE_CHECKING:
    from pybpfasm.btf.blob import Btf
    from pybpfasm.btf.builder import BtfBuilder, Encoder
    from pybpfasm.btf.error import BtfError, NotFoundError
    from pybpfasm.btf.ext import (
        CoreRelocation,
        Ext,
        FuncInfo,
        LineInfo,
        SectionFuncInfo,
        SectionLineInfo,
        SectionRelocations,
    )
    from pybpfasm.btf.fields import Field
    from pybpfasm.btf.header import ByteOrder
    from pybpfasm.btf.kinds import Kind, Linkage
    from pybpfasm.btf.running import kernel_btf
    from pybpfasm.btf.types import (
        Array,
        Enum,
        Enumerator,
        Float,
        Forward,
        Function,
        Int,
        Member,
        Parameter,
        Pointer,
        Struct,
        Type,
        Typedef,
        Union,
        Void,
    )
    from pybpfasm.uapi.core_relocations import CoreRelocationKind

__getattr__ = lazy_attributes(
    __name__,
    {
        "blob": "Btf",
        "builder": "BtfBuilder Encoder",
        "error": "BtfError NotFoundError",
        "ext": "CoreRelocation CoreRelocationKind Ext FuncInfo LineInfo"
        " SectionFuncInfo SectionLineInfo SectionRelocations",
        "fields": "Field",
        "header": "ByteOrder",
        "kinds": "Kind Linkage",
        "running": "kernel_btf",
        "types": "Array Enum Enumerator Float Forward Function Int Member Parameter Pointer Struct Type Typedef"
        " Union Void",
    },
)

__all__ = [
    "Array",
    "Btf",
    "BtfBuilder",
    "BtfError",
    "ByteOrder",
    "CoreRelocation",
    "CoreRelocationKind",
    "Encoder",
    "Enum",
    "Enumerator",
    "Ext",
    "Field",
    "Float",
    "Forward",
    "FuncInfo",
    "Function",
    "Int",
    "Kind",
    "LineInfo",
    "Linkage",
    "Member",
    "NotFoundError",
    "Parameter",
    "Pointer",
    "SectionFuncInfo",
    "SectionLineInfo",
    "SectionRelocations",
    "Struct",
    "Type",
    "Typedef",
    "Union",
    "Void",
    "kernel_btf",
]
