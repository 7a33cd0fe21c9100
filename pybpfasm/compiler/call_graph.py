"""Which function calls which, and how much stack the deepest chain of calls needs."""

from pybpfasm.compiler.backend import Code
from pybpfasm.ir.function import Function, Unit
from pybpfasm.ir.references import functions_named

# What the verifier rounds a frame of a chain to (check_max_stack_depth of kernel/bpf/verifier.c).
_ROUNDED_TO = 32


def stack_bytes(unit: Unit, code: Code) -> int:
    """The bytes of all frames that can be there at a time; of a program that calls nothing those of its own."""
    own = {each.name: each.stack_bytes for each in code.functions}
    if len(own) == 1:
        return own[unit.program.name]
    return _deepest(unit.program, own)


def _deepest(function: Function, own: dict[str, int]) -> int:
    frame = -(-max(own[function.name], 1) // _ROUNDED_TO) * _ROUNDED_TO
    return frame + max((_deepest(each, own) for each in functions_named(function)), default=0)
