"""The kernel's functions and variables that a program refers to by name: filled in with what this kernel has.

    call with the kind of a kfunc      BTF id of the function; of a module's, the place of its BTF in `fd_array` too
    ld_imm64 with the kind of a BTF id BTF id of the variable, and a descriptor of the module's BTF, or 0
    ld_imm64 of a plain number         the symbol's address in /proc/kallsyms

Kfuncs need Linux 5.13, those of modules 5.16, variables 5.10.
"""

import errno
from collections.abc import Iterator
from contextlib import ExitStack

from pybpfasm.btf import BtfError, Kind, NotFoundError
from pybpfasm.errors import BpfError, KernelError
from pybpfasm.isa import CallKind, Instruction, WideKind
from pybpfasm.isa.opcodes import CALL, LD_IMM64
from pybpfasm.kernel.btf_objects import KernelType, find_type, open_module_types

_KALLSYMS = "/proc/kallsyms"


class KernelSymbols:
    """Resolves the symbols of one program.

    `fd_array` is the array of descriptors that the load needs beside the instructions: the first place stands for
    vmlinux. `held` keeps modules' descriptors open.
    """

    def __init__(self, program: str, held: ExitStack) -> None:
        self.fd_array: list[int] = [0]
        self._program = program
        self._held = held
        self._module_fds: dict[str, int] = {}

    def resolved(self, instruction: Instruction) -> Instruction:
        """The instruction with its symbol's id or address, if it refers to the kernel by name.

        Raises `KernelError`: ENOENT if this kernel has no such symbol, EPERM if it does not show addresses.
        """
        symbol = instruction.symbol
        if symbol is None:
            return instruction
        if instruction.opcode == CALL and instruction.src == CallKind.KFUNC:
            return self._kfunc(instruction, symbol)
        if instruction.opcode == LD_IMM64 and instruction.src == WideKind.BTF_ID:
            return self._variable(instruction, symbol)
        if instruction.opcode == LD_IMM64 and instruction.src == WideKind.IMM:
            return instruction._replace(imm=self._address(symbol), symbol=None)
        return instruction

    def _kfunc(self, instruction: Instruction, name: str) -> Instruction:
        found = self._find(name, "kernel function", Kind.FUNC)
        index = 0 if found.module is None else self._index_of(found.module)
        return instruction._replace(imm=found.type_id, offset=index, symbol=None)

    def _variable(self, instruction: Instruction, name: str) -> Instruction:
        found = self._find(name, "kernel variable", Kind.VAR, Kind.FUNC)
        fd = 0 if found.module is None else self._module_fd(found.module)
        return instruction._replace(imm=fd << 32 | found.type_id, symbol=None)

    def _find(self, name: str, what: str, *kinds: Kind) -> KernelType:
        try:
            return find_type(name, *kinds)
        except NotFoundError:
            text = f"this kernel and its loaded modules have no {what} {name!r} in their BTF"
            raise KernelError(errno.ENOENT, f"cannot load program {self._program}: {text}") from None
        except BtfError as error:
            raise BpfError(f"cannot load program {self._program}, which refers to {name}: {error}") from None

    def _index_of(self, module: str) -> int:
        fd = self._module_fd(module)
        if fd not in self.fd_array:
            self.fd_array.append(fd)
        return self.fd_array.index(fd)

    def _module_fd(self, module: str) -> int:
        if module not in self._module_fds:
            self._module_fds[module] = self._held.enter_context(open_module_types(module)).fd
        return self._module_fds[module]

    def _address(self, name: str) -> int:
        try:
            address = symbol_address(name)
        except KernelError as error:
            raise KernelError(error.errno or 0, f"cannot load program {self._program}: {error}") from None
        return address


def symbol_address(name: str) -> int:
    """The address of a kernel symbol; of several with one name, the first.

    Raises `KernelError`: ENOENT if there is none, EPERM where addresses are hidden (kptr_restrict; CAP_SYSLOG).
    """
    address = next(_addresses(name), None)
    if address is None:
        raise KernelError(errno.ENOENT, f"this kernel has no symbol {name!r} in {_KALLSYMS}")
    if address == 0:
        raise KernelError(errno.EPERM, f"the address of {name} is hidden: it needs CAP_SYSLOG (EPERM)")
    return address


def _addresses(name: str) -> Iterator[int]:
    with open(_KALLSYMS, "rb") as file:
        wanted = name.encode()
        for line in file:
            fields = line.split()
            if fields[2] == wanted:
                yield int(fields[0], 16)
