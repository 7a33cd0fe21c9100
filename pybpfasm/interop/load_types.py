"""The object's types as the kernel takes them beside a program: with the same ids, and without what only libbpf knows.

The kernel refuses what the object takes from it (externs), and sections of variables whose size clang has left to the
linker (kernel/bpf/btf.c; libbpf's btf_fixup_datasec and bpf_object__collect_externs).
"""

from collections.abc import Iterable

from pybpfasm.btf import Btf, BtfBuilder, Linkage, kinds
from pybpfasm.interop.container import STB_LOCAL, ElfFile

_NOT_SECTIONS = (".ksyms", ".kconfig", "license", "version")


def load_types(file: ElfFile, btf: Btf, static: Iterable[int]) -> bytes:
    """The types, encoded; the functions with an id in `static` are marked so. Raises `BtfError`."""
    marked = frozenset(static)
    sizes = {section.name: section.size for section in file.sections}
    offsets = {symbol.name: symbol.value for symbol in file.symbols if symbol.binding != STB_LOCAL}
    names = {type_id: record.name for type_id, record in btf if isinstance(record, kinds.Var)}
    builder = BtfBuilder()
    externs = {
        type_id for type_id, record in btf if isinstance(record, kinds.Func) and record.linkage == Linkage.EXTERN
    }
    for type_id, record in btf:
        match record:
            case kinds.Func() if type_id in externs:
                # What is left of it tells the prototype, so that `write_elf` can declare it again.
                record = kinds.Typedef(record.name, record.type_id)
            case kinds.Func() if type_id in marked:
                record = kinds.Func(record.name, record.type_id, Linkage.STATIC)
            case kinds.Var(linkage=Linkage.EXTERN):
                record = kinds.Var(record.name, record.type_id, Linkage.GLOBAL)
            case kinds.DataSec():
                record = _section(record, sizes, names, offsets)
            case kinds.DeclTag() if record.type_id in externs:
                record = kinds.DeclTag(record.name, record.type_id, -1, record.attribute)
        builder.add(record)
    return builder.encode(btf.byteorder)


def _section(
    record: kinds.DataSec, sizes: dict[str, int], names: dict[int, str], offsets: dict[str, int]
) -> kinds.Record:
    """The section with its size and its variables' places, in order; one without bytes becomes an empty struct."""
    size = sizes.get(record.name, 0)
    if record.name in _NOT_SECTIONS or not size:
        return kinds.Struct("", 0)
    placed = [
        kinds.SectionVariable(each.type_id, offsets.get(names.get(each.type_id, ""), each.offset), each.size)
        for each in record.variables
    ]
    return kinds.DataSec(record.name, size, tuple(sorted(placed, key=lambda each: each.offset)))
