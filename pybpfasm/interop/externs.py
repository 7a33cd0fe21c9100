"""What an object takes from the kernel: functions and variables of `.ksyms`, configuration of `.kconfig`."""

import re
from collections.abc import Mapping
from enum import Enum, auto

import attrs

from pybpfasm.btf import Btf, BtfError, Kind, NotFoundError, kinds
from pybpfasm.interop.container import SHN_UNDEF, ElfFile
from pybpfasm.interop.error import ElfError


class ExternKind(Enum):
    """What is behind an extern's name."""

    KFUNC = auto()
    TYPED_VARIABLE = auto()  # the kernel's BTF knows it
    ADDRESS = auto()  # of type void: only kallsyms knows it
    KCONFIG = auto()


@attrs.frozen
class Extern:
    """A name that the kernel fills in; a `weak` one may be missing. `type_id`: its FUNC, or its variable's type."""

    name: str
    kind: ExternKind
    type_id: int
    weak: bool


def externs(file: ElfFile, btf: Btf | None) -> Mapping[str, Extern]:
    """The externs by name. Raises `ElfError` for a section with other things in it."""
    if btf is None:
        return {}
    weak = {symbol.name for symbol in file.symbols if symbol.section == SHN_UNDEF and symbol.weak}
    found: dict[str, Extern] = {}
    for section in (".ksyms", ".kconfig"):
        for type_id in _members(btf, section):
            record = btf.type(type_id)
            if not isinstance(record, kinds.Func | kinds.Var):
                raise ElfError(f"section {section!r}: type {type_id} in it is no function and no variable")
            found[record.name] = Extern(record.name, *_described(btf, section, type_id, record), record.name in weak)
    return found


def _members(btf: Btf, name: str) -> list[int]:
    try:
        section = btf.type(btf.find(name, Kind.DATASEC))
    except NotFoundError:
        return []
    if not isinstance(section, kinds.DataSec):
        raise BtfError(f"{name!r} is no section")
    return [variable.type_id for variable in section.variables]


def _described(btf: Btf, section: str, type_id: int, record: kinds.Func | kinds.Var) -> tuple[ExternKind, int]:
    if isinstance(record, kinds.Func):
        if section == ".kconfig":
            raise ElfError(f"function {record.name!r} is in section '.kconfig': only variables can be")
        return ExternKind.KFUNC, type_id
    if section == ".kconfig":
        return ExternKind.KCONFIG, record.type_id
    void = btf.strip(record.type_id) == 0
    return (ExternKind.ADDRESS if void else ExternKind.TYPED_VARIABLE), record.type_id


def essential_name(name: str) -> str:
    """A name without its flavour: three underscores, no more, and what follows the last such."""
    if "___" not in name:
        return name
    found = _FLAVOUR.match(name)
    return found[1] if found else name


_FLAVOUR = re.compile(r"(.*[^_])___[^_]", re.DOTALL)
