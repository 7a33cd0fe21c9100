"""The intermediate form as text, for golden tests and for people.

func connect4(%0 ctx):
block0:
    %1 = load32 [%0+4]                         ; loads32 sign-extends
    store16 [&slot0+8], %1
    %2 map_value? = call 1(map[stats], &slot0)
    if jne %2, 0 goto block1 else block2       ; jne32 compares 32 bits
block1:
    %3 = add %1, 1                             ; add32, sdiv
    goto block3(%3)
block2:
    goto block3(0)
block3(%4):
    return %4
"""

from pybpfasm.ir.function import Block, Function, Unit, reverse_postorder
from pybpfasm.ir.operations import (
    Assembly,
    AtomicUpdate,
    Base,
    Binary,
    Branch,
    Call,
    CallFunction,
    CallKernel,
    Copy,
    Extend,
    Goto,
    Load,
    MayGoto,
    Operation,
    Return,
    Store,
    Swap,
    Value,
    result_of,
)
from pybpfasm.ir.types import SCALAR
from pybpfasm.isa import format_instruction


def format_unit(unit: Unit) -> str:
    """A program and its functions."""
    return "\n\n".join(format_function(function) for function in unit.all())


def format_function(function: Function) -> str:
    """One function, its blocks in reverse postorder."""
    lines = [f"func {function.name}({_listed(function.parameters)}):"]
    for block in reverse_postorder(function.entry):
        lines.append(_head(block))
        lines += [f"    {format_operation(operation)}" for operation in block.operations]
    return "\n".join(lines)


def format_operation(operation: Operation) -> str:
    """One operation."""
    result = result_of(operation)
    return _right_side(operation) if result is None else f"{_declared(result)} = {_right_side(operation)}"


def _right_side(operation: Operation) -> str:
    match operation:
        case Copy(source=source):
            return f"copy {source}"
        case Binary(code=code, left=left, right=right, bits=bits, signed=signed):
            return f"{'s' * signed}{code.name.lower()}{_narrow(bits)} {left}, {right}"
        case Extend(source=source, bits=bits, signed=signed):
            return f"{'sign' if signed else 'zero'}{bits} {source}"
        case Swap(source=source, bits=bits):
            return f"swap{bits} {source}"
        case Load(base=base, offset=offset, size=size, signed=signed, volatile=volatile):
            return f"load{'s' * signed}{size * 8}{'.volatile' * volatile} [{_place(base, offset)}]"
        case Store(base=base, offset=offset, size=size, source=source, volatile=volatile):
            return f"store{size * 8}{'.volatile' * volatile} [{_place(base, offset)}], {source}"
        case AtomicUpdate(code=code, base=base, offset=offset, size=size, source=source, expected=expected):
            also = "" if expected is None else f", {expected}"
            return f"atomic_{code.name.lower()}{size * 8} [{_place(base, offset)}], {source}{also}"
        case Call(helper=helper, arguments=arguments):
            return f"call {int(helper)}({_joined(arguments)})"
        case CallKernel(name=name, arguments=arguments):
            return f"call {name}({_joined(arguments)})"
        case CallFunction(function=function, arguments=arguments):
            return f"call {function}({_joined(arguments)})"
        case Assembly(instructions=instructions, inputs=inputs):
            return f"asm({_joined(inputs)}) {{ {'; '.join(map(format_instruction, instructions))} }}"
        case Goto(block=block, arguments=arguments):
            return f"goto {block}({_joined(arguments)})" if arguments else f"goto {block}"
        case Branch(code=code, left=left, right=right, bits=bits, yes=yes, no=no):
            return f"if {code.name.lower()}{_narrow(bits)} {left}, {right} goto {yes} else {no}"
        case MayGoto(again=again, end=end):
            return f"may goto {again} else {end}"
        case Return(value=value):
            return f"return {value}"


def _head(block: Block) -> str:
    return f"{block}({_listed(block.parameters)}):" if block.parameters else f"{block}:"


def _declared(value: Value) -> str:
    return str(value) if value.type == SCALAR else f"{value} {value.type}"


def _listed(values: list[Value]) -> str:
    return ", ".join(map(_declared, values))


def _joined(operands: object) -> str:
    return ", ".join(map(str, operands))  # type: ignore[call-overload]  # a list or a tuple


def _place(base: Base, offset: int) -> str:
    return f"{base}{offset:+d}" if offset or isinstance(base, Value) else str(base)


def _narrow(bits: int) -> str:
    return "" if bits == 64 else str(bits)
