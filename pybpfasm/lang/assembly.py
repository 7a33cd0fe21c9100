"""Instructions as they are, in the middle of a program."""

from typing import Any

from pybpfasm.lang.maps import only_in_program


def asm(text: str, *inputs: Any) -> int:
    """`asm("r0 = r1\\nr0 += r2", x, y)`: the inputs are in r1 and the following, the result is in r0.

    The text is in LLVM's or the kernel's syntax, a line each. It may change r0 to r5 and memory, and does not jump.
    """
    del text, inputs
    only_in_program("asm")
