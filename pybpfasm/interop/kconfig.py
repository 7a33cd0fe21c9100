"""Variables of `.kconfig`: the kernel's configuration and version, as a map of constants.

libbpf does this in bpf_object__resolve_externs (src/libbpf.c).
"""

import platform
import re
import struct
import sys
from collections.abc import Iterable, Mapping

import attrs

from pybpfasm.btf import Btf, kinds
from pybpfasm.interop.container import ElfFile
from pybpfasm.interop.data_maps import global_map
from pybpfasm.interop.error import ElfError
from pybpfasm.interop.externs import Extern
from pybpfasm.spec import MapSpec

SECTION = ".kconfig"

Values = Mapping[str, int | str]

# All variables together; texts of the configuration are short.
_MOST_BYTES = 1 << 16
_TRISTATE = {"n": 0, "y": 1, "m": 2}
_RELEASE = re.compile(r"(\d+)\.(\d+)(?:\.(\d+))?")
_COOKIE_SINCE = 5 << 16 | 15 << 8
_WRAPPER_SINCE = 4 << 16 | 17 << 8


@attrs.frozen
class Kconfig:
    """The map, and where in it each variable is, in bytes."""

    map: MapSpec
    offsets: Mapping[str, int]


def kconfig(file: ElfFile, btf: Btf, variables: Iterable[Extern], values: Values) -> Kconfig:
    """Lay the variables out and set them; a weak one without a value is 0.

    `values` are numbers, or texts (for tristates and bools `y`, `n`, `m`). Without a value there, LINUX_KERNEL_VERSION
    and the other two that libbpf makes up are those of the running kernel. Raises `ElfError` naming a variable without
    a value.
    """
    contents = bytearray()
    offsets: dict[str, int] = {}
    ordered = sorted(variables, key=lambda each: -btf.alignment_of(each.type_id))
    for variable in ordered:
        size = btf.size_of(variable.type_id)
        contents += bytes(-len(contents) % btf.alignment_of(variable.type_id))
        offsets[variable.name] = len(contents)
        if len(contents) + size > _MOST_BYTES:
            raise ElfError(f"section {SECTION!r}: variable {variable.name!r} of {size} bytes is too long")
        contents += _encoded(file, btf, variable, size, _value(variable, values))
    return Kconfig(global_map(SECTION, len(contents), bytes(contents), frozen=True), offsets)


def _value(variable: Extern, values: Values) -> int | str:
    if variable.name in values:
        return values[variable.name]
    known = _known(variable.name)
    if known is not None:
        return known
    if variable.weak:
        return 0
    raise ElfError(
        f"variable {variable.name!r} of section {SECTION!r} is the kernel's configuration, and has no value here:"
        f" give it, as in read_elf(data, kconfig={{{variable.name!r}: …}})"
    )


def _known(name: str) -> int | None:
    """What libbpf makes up itself, for the running kernel."""
    if not name.startswith("LINUX_") or sys.platform != "linux":
        return None
    release = _RELEASE.match(platform.release())
    if release is None:
        return None
    major, minor, patch = (int(part or 0) for part in release.groups())
    version = major << 16 | minor << 8 | min(patch, 255)
    return {
        "LINUX_KERNEL_VERSION": version,
        "LINUX_HAS_BPF_COOKIE": int(version >= _COOKIE_SINCE),
        "LINUX_HAS_SYSCALL_WRAPPER": int(version >= _WRAPPER_SINCE),
    }.get(name)


def _encoded(file: ElfFile, btf: Btf, variable: Extern, size: int, value: int | str) -> bytes:
    """The variable's bytes."""
    record = btf.type(btf.strip(variable.type_id))
    if isinstance(record, kinds.Array):
        text = b"" if value == 0 else str(value).encode()
        return text[: max(size - 1, 0)].ljust(size, b"\0")
    if not isinstance(record, kinds.Int | kinds.Enum | kinds.Enum64) or size not in (1, 2, 4, 8):
        raise ElfError(f"variable {variable.name!r} of section {SECTION!r}: no number, no tristate and no text")
    number = _number(variable, record, value)
    letter = {1: "b", 2: "h", 4: "i", 8: "q"}[size]
    signed = record.signed and number < 0
    try:
        return struct.pack(file.prefix + (letter if signed else letter.upper()), number)
    except struct.error:
        raise ElfError(f"variable {variable.name!r} has {size} bytes, and {value} does not fit") from None


def _number(variable: Extern, record: kinds.Int | kinds.Enum | kinds.Enum64, value: int | str) -> int:
    if not isinstance(value, str):
        return int(value)
    if value not in _TRISTATE:
        raise ElfError(
            f"variable {variable.name!r} is a number, a bool or a tristate, and {value!r} is no value for it"
        )
    if isinstance(record, kinds.Int) and not record.boolean and record.size == 1:
        return ord(value)
    if value == "m" and isinstance(record, kinds.Int):
        raise ElfError(f"variable {variable.name!r} cannot say that it is a module: declare it as a tristate")
    return _TRISTATE[value]
