"""Global variables: each section of data is an array of one entry, which instructions refer into."""

from pybpfasm.interop.container import SHT_NOBITS, SHT_PROGBITS, Section
from pybpfasm.spec import MapSpec, Untyped
from pybpfasm.uapi import MapCreateFlag, MapType

_KEY_BYTES = 4


def is_data_section(section: Section) -> bool:
    """The section has variables that programs share with user space: .data, .rodata, .bss, and .data.more."""
    wanted = {SHT_PROGBITS: (".data", ".rodata"), SHT_NOBITS: (".bss", ".data", ".rodata")}.get(section.type, ())
    return any(section.name == name or section.name.startswith(name + ".") for name in wanted) and section.size > 0


def data_map(section: Section) -> MapSpec:
    """The map of a section of variables, called like the section; `contents` is None if all is zero at first (.bss)."""
    return global_map(
        section.name,
        section.size,
        None if section.type == SHT_NOBITS else bytes(section.data),
        frozen=section.name.startswith(".rodata"),
    )


def global_map(name: str, size: int, contents: bytes | None, *, frozen: bool) -> MapSpec:
    """An array of one entry; `frozen`: neither programs nor, once it is set, user space change it."""
    return MapSpec(
        name=name,
        type=MapType.ARRAY,
        key=Untyped(_KEY_BYTES),
        value=Untyped(size),
        max_entries=1,
        flags=int(MapCreateFlag.RDONLY_PROG) if frozen else 0,
        contents=contents,
        frozen=frozen,
    )
