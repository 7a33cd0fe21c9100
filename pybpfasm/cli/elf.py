"""`elf`: what an object holds."""

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING, Any

from pybpfasm.cli.errors import InputError
from pybpfasm.cli.streams import STANDARD, read_input, shown, write_output
from pybpfasm.errors import BpfError

if TYPE_CHECKING:
    from pybpfasm.interop import ElfObject, Function
    from pybpfasm.spec import MapSpec

NAME = "elf"
SUMMARY = "show what an object holds: programs, maps, licence, types"
EPILOG = """\
examples:
  python -m pybpfasm elf prog.o
  clang -O2 -g -target bpf -c prog.c -o - | python -m pybpfasm elf - --json

Sizes are in bytes, but those of programs: in instructions' slots of 8 bytes.
"""


def add_arguments(parser: ArgumentParser) -> None:
    """The object, and the form of the answer."""
    parser.add_argument("input", metavar="INPUT", help="an object; - is standard input")
    parser.add_argument("--json", action="store_true", help="the same as JSON")
    parser.add_argument("-o", "--output", default=STANDARD, metavar="OUT", help="default: standard output")


def run(arguments: Namespace) -> int:
    """Look into the object."""
    from pybpfasm.interop import ElfObject

    data = read_input(arguments.input)
    try:
        facts = _facts(ElfObject.parse(data))
    except BpfError as error:
        raise InputError(f"{shown(arguments.input)}: {error}") from None
    if arguments.json:
        from json import dumps

        write_output(arguments.output, dumps(facts, indent=2) + "\n")
    else:
        write_output(arguments.output, "".join(line + "\n" for line in _lines(facts)))
    return 0


def _facts(elf: "ElfObject") -> dict[str, Any]:
    types, ext = elf.btf, elf.btf_ext
    core = sum(len(section.records) for section in ext.core_relocations) if ext is not None else 0
    types_size = next((section.size for section in elf.sections if section.name == ".BTF"), 0)
    return {
        "class": 64,
        "byteorder": elf.byteorder,
        "license": elf.license,
        "version": elf.version,
        "programs": [_program(elf, function) for function in elf.programs],
        "maps": [_map(spec) for spec in elf.maps.values()],
        "kconfig": list(elf.kconfig_variables),
        "btf": {"size": types_size, "types": len(types) if types is not None else 0},
        "core_relocations": core,
    }


def _program(elf: "ElfObject", function: "Function") -> dict[str, Any]:
    from pybpfasm.interop.sections import section_kind

    kind = section_kind(function.section)
    section = elf.sections[function.section_index]
    end = function.offset + function.size
    within = [each for each in elf.relocations(section) if function.offset <= each.offset < end]
    return {
        "name": function.name,
        "section": function.section,
        "type": kind.type.name,
        "attach_type": kind.attach_type.name if kind.attach_type or _is_ingress(function.section) else None,
        "attach_to": kind.attach_to,
        "slots": function.size // 8,
        "relocations": len(within),
    }


def _is_ingress(section: str) -> bool:
    """Whether number 0 is this section's attach type: for most types of programs it stands for none."""
    return section.removeprefix("?") == "cgroup_skb/ingress"


def _map(spec: "MapSpec") -> dict[str, Any]:
    return {
        "name": spec.name,
        "type": spec.type.name,
        "key_size": spec.key.size,
        "key": getattr(spec.key, "name", None) or None,
        "value_size": spec.value.size,
        "value": getattr(spec.value, "name", None) or None,
        "max_entries": spec.max_entries,
        "flags": spec.flags,
        "pinned": spec.pinned,
    }


def _lines(facts: dict[str, Any]) -> list[str]:
    """The facts as text: a line about the object, tables of programs and maps, a line about types."""
    version = f", version {facts['version']}" if facts["version"] is not None else ""
    lines = [f"ELF {facts['class']} bit, {facts['byteorder']} endian, license {facts['license'] or 'none'}{version}"]
    lines += _table("programs", facts["programs"])
    lines += _table("maps", facts["maps"])
    if facts["kconfig"]:
        lines += ["", f"kernel's configuration: {', '.join(facts['kconfig'])}"]
    types = facts["btf"]
    lines += ["", f"BTF: {types['size']} bytes, {types['types']} types; {facts['core_relocations']} CO-RE relocations"]
    return lines


def _table(title: str, rows: list[dict[str, Any]]) -> list[str]:
    """Columns as wide as their longest cell; empty cells are a dash."""
    if not rows:
        return ["", f"{title}: none"]
    cells = [list(rows[0]), *([_cell(value) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    return ["", f"{title}:", *(f"  {line}" for line in lines)]


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "-"
    return str(value) if value is not None and value != "" else "-"
