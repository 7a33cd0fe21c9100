"""BPF type format: the types of maps and functions, and their encoding for the kernel."""

from pybpfasm.btf.encode import Encoder
from pybpfasm.btf.types import Array, Function, Int, Member, Parameter, Pointer, Struct, Type, Typedef

__all__ = [
    "Array",
    "Encoder",
    "Function",
    "Int",
    "Member",
    "Parameter",
    "Pointer",
    "Struct",
    "Type",
    "Typedef",
]
