"""BTF objects that the kernel holds: its own types and its modules', and those of programs.

What is attached by BTF (fentry, LSM, iterators, kfuncs) is named by a type's id and, outside of vmlinux, by a
descriptor of the BTF object that has it.
"""

import errno
import os
from collections.abc import Iterator
from functools import lru_cache

from pybpfasm.btf import Btf, BtfError, Kind, NotFoundError, kernel_btf
from pybpfasm.errors import KernelError
from pybpfasm.kernel import sys
from pybpfasm.kernel.descriptor import Descriptor
from pybpfasm.kernel.info import types_data, types_info
from pybpfasm.records import frozen
from pybpfasm.uapi import Command

_MODULES = "/sys/kernel/btf"


@frozen
class KernelType:
    """A type of the running kernel: its id, and the module that has it (None: vmlinux)."""

    type_id: int
    module: str | None


@lru_cache(maxsize=1)
def vmlinux() -> Btf:
    """The running kernel's types, read once. Raises `BtfError` where the kernel shows none."""
    return kernel_btf()


def find_type(name: str, *kinds: Kind) -> KernelType:
    """The type of that name in vmlinux, else in a loaded module (Linux 5.11); `module:name` looks there alone.

    Raises `NotFoundError` if there is none, `BtfError` if the kernel shows no types.
    """
    module, _, name_in_module = name.rpartition(":")
    if module and module != "vmlinux":
        return KernelType(_find_in_module(module, name_in_module, kinds), module)
    try:
        return KernelType(vmlinux().find(name_in_module, *kinds), None)
    except NotFoundError:
        if module:
            raise
    for each in loaded_modules():
        try:
            return KernelType(_find_in_module(each, name_in_module, kinds), each)
        except BtfError:  # not there, or the module has just gone
            continue
    raise NotFoundError(f"neither the kernel nor a loaded module has a {_words(kinds)} {name!r} in its BTF")


def loaded_modules() -> list[str]:
    """The names of the modules whose types the kernel shows, in order."""
    try:
        return sorted(set(os.listdir(_MODULES)) - {"vmlinux"})
    except OSError:
        return []


def open_module_types(module: str) -> Descriptor:
    """A descriptor of a module's BTF object. Raises `KernelError`: ENOENT without it, EPERM without CAP_SYS_ADMIN."""
    for number in _ids():
        try:
            opened = open_types(number)
        except KernelError as error:
            if error.errno == errno.ENOENT:  # gone since
                continue
            raise
        with opened:
            info = types_info(opened.fd)
            if info.kernel and info.name == module:
                return Descriptor(opened.release())
    raise KernelError(errno.ENOENT, f"there are no types of a module {module}: it is not loaded, or was built without")


def open_types(number: int) -> Descriptor:
    """A descriptor of the BTF object of that id. Raises `KernelError`."""
    return Descriptor(sys.bpf(Command.BTF_GET_FD_BY_ID, sys.new("id", id=number), f"open the types (BTF) {number}"))


def read_types(number: int) -> Btf:
    """The types in the BTF object of that id, which continues no other. Raises `KernelError` or `BtfError`."""
    with open_types(number) as opened:
        return Btf.parse(types_data(opened.fd))


def _find_in_module(module: str, name: str, kinds: tuple[Kind, ...]) -> int:
    types = _module_types(module)
    for type_id in types.find_all(name, *kinds):
        if type_id >= types.first_id:
            return type_id
    raise NotFoundError(f"module {module} has no {_words(kinds)} {name!r} in its BTF")


def _module_types(module: str) -> Btf:
    if "/" in module or module in (".", ".."):
        raise BtfError(f"{module!r} is no name of a module")
    try:
        return Btf.parse(_contents(f"{_MODULES}/{module}"), vmlinux())
    except OSError:
        raise NotFoundError(f"the kernel shows no types of a module {module}: it is not loaded") from None


def _ids() -> Iterator[int]:
    """The ids of all BTF objects."""
    number = 0
    while True:
        attributes = sys.new("id", id=number)
        try:
            sys.bpf(Command.BTF_GET_NEXT_ID, attributes, "list the kernel's types (BTF)")
        except KernelError as error:
            if error.errno == errno.ENOENT:
                return
            raise
        number = int(attributes.next_id)
        yield number


_WORDS = {Kind.FUNC: "function", Kind.TYPEDEF: "typedef", Kind.STRUCT: "struct", Kind.VAR: "variable"}


def _words(kinds: tuple[Kind, ...]) -> str:
    return " or ".join(_WORDS.get(kind, kind.name) for kind in kinds) or "type"


def _contents(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()
