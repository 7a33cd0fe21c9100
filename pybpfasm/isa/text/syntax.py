"""The syntaxes by name; one is loaded when it is first used."""

from collections.abc import Callable
from typing import Literal

from pybpfasm.isa.instruction import Instruction
from pybpfasm.isa.text.grammar import Form

Syntax = Literal["kernel", "llvm", "ubpf"]
SYNTAXES: tuple[Syntax, ...] = ("kernel", "llvm", "ubpf")


def printer_of(syntax: Syntax) -> Callable[[Instruction], str]:
    """What prints an instruction. Raises `ValueError` for a syntax that is not printed."""
    if syntax == "kernel":
        from pybpfasm.isa.text.kernel import format_kernel

        return format_kernel
    if syntax == "llvm":
        from pybpfasm.isa.text.llvm import format_llvm

        return format_llvm
    raise ValueError(f"syntax {syntax!r} cannot be printed: kernel and llvm can")


def forms_of(syntax: Syntax) -> Callable[[str], tuple[Form, ...]]:
    """The forms of a statement, by its first letter, in uBPF's syntax by its first word.

    Raises `ValueError` for a syntax that does not exist.
    """
    if syntax == "kernel":
        from pybpfasm.isa.text.kernel import kernel_forms

        return kernel_forms
    if syntax == "llvm":
        from pybpfasm.isa.text.llvm import llvm_forms

        return llvm_forms
    if syntax == "ubpf":
        from pybpfasm.isa.text.ubpf import ubpf_forms

        return ubpf_forms
    raise ValueError(f"syntax {syntax!r} is not known: kernel, llvm and ubpf are")
