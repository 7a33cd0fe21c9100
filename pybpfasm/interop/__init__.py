"""ELF objects: those of clang and libbpf read here, ours written for them.

from pybpfasm.interop import read_elf, write_elf
"""

from typing import TYPE_CHECKING

from pybpfasm.lazy import lazy_attributes

if TYPE_CHECKING:
    from pybpfasm.interop.error import ElfError
    from pybpfasm.interop.functions import Function
    from pybpfasm.interop.object import ElfObject
    from pybpfasm.interop.read import read_elf
    from pybpfasm.interop.write import write_elf

if not TYPE_CHECKING:
    __getattr__ = lazy_attributes(
        __name__,
        {
            "error": "ElfError",
            "functions": "Function",
            "object": "ElfObject",
            "read": "read_elf",
            "write": "write_elf",
        },
    )

__all__ = ["ElfError", "ElfObject", "Function", "read_elf", "write_elf"]
