"""Try the library on real objects: `python -m tools.corpus FOLDER …` walks folders for ELF objects of BPF.

Of each: every section of instructions decodes, prints and parses in the kernel's and LLVM's syntax, and encodes back
byte for byte; and the object opens, as `ElfObject` and with `read_elf` (against `--target`, or the running kernel's
types).
"""

import argparse
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import attrs

from pybpfasm.btf import Btf, kernel_btf
from pybpfasm.errors import BpfError
from pybpfasm.interop import ElfObject, read_elf
from pybpfasm.isa import Instruction, Syntax, decode, encode, parse
from pybpfasm.isa import format as format_text

_SYNTAXES: tuple[Syntax, ...] = ("kernel", "llvm")
# Objects that are parts of others, to be linked first.
_UNLINKED = "the object does not have this function"


@attrs.define
class Report:
    """What was counted, and what went wrong: a line each."""

    counts: Counter[str] = attrs.field(factory=Counter)
    failures: list[str] = attrs.field(factory=list)
    set_aside: list[str] = attrs.field(factory=list)

    def fail(self, path: Path, reason: object) -> None:
        """A failure that counts."""
        self.failures.append(f"{path}: {reason}")

    def lines(self) -> Iterator[str]:
        """The report as text."""
        for name, count in self.counts.items():
            yield f"{count:8} {name}"
        for title, lines in (("set aside", self.set_aside), ("failures", self.failures)):
            yield f"{len(lines):8} {title}"
            yield from (f"         {line}" for line in lines)


def objects(folders: list[Path]) -> Iterator[Path]:
    """The ELF files below the folders, in the order of their names."""
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and not path.is_symlink():
                with path.open("rb") as file:
                    if file.read(4) == b"\x7fELF":
                        yield path


def check(path: Path, target: Btf | None, report: Report, *, bpftool: bool) -> None:
    """Try one object."""
    report.counts["ELF files"] += 1
    data = path.read_bytes()
    invalid = "invalid" in str(path)
    try:
        elf = ElfObject.parse(data)
    except BpfError as error:
        _refused(path, error, report, invalid=invalid or "not for BPF" in str(error))
        return
    report.counts["objects"] += 1
    report.counts[f"{elf.byteorder}-endian"] += 1
    for section in elf.sections:
        if section.executable:
            report.counts["sections of instructions"] += 1
            _check_code(path, section.name, bytes(section.data), elf, report, invalid=invalid)
    opened = _open(path, data, elf, target, report, invalid=invalid)
    if bpftool and not opened and not invalid and _bpftool_opens(path):
        report.fail(path, "bpftool opens it")


def _check_code(path: Path, name: str, data: bytes, elf: ElfObject, report: Report, *, invalid: bool) -> None:
    try:
        instructions = decode(data, elf.byteorder)
        report.counts["slots"] += len(data) // 8
        if encode(instructions, elf.byteorder) != data:
            report.fail(path, f"section {name}: encodes to other bytes")
        for syntax in _SYNTAXES:
            if parse(format_text(instructions, syntax), syntax) != instructions:
                report.fail(path, f"section {name}: {syntax} syntax: {_difference(instructions, syntax)}")
    except BpfError as error:
        _refused(path, f"section {name}: {error}", report, invalid=invalid)


def _difference(instructions: list[Instruction], syntax: Syntax) -> str:
    for instruction in instructions:
        text = format_text(instruction, syntax)
        if parse(text, syntax) != [instruction]:
            return f"{instruction!r} prints as {text!r}"
    return "as a whole only"


def _open(path: Path, data: bytes, elf: ElfObject, target: Btf | None, report: Report, *, invalid: bool) -> bool:
    try:
        report.counts["maps"] += len(elf.maps)
        report.counts["programs"] += len(elf.programs)
        collection = read_elf(data, target=target, kconfig=_configuration(elf))
    except BpfError as error:
        expected = _UNLINKED in str(error) or (target is None and elf.needs_target)
        _refused(path, error, report, invalid=invalid or expected)
        return False
    report.counts["opened with read_elf"] += 1
    report.counts["instructions of linked programs"] += sum(len(p.instructions) for p in collection.programs.values())
    return True


def _configuration(elf: ElfObject) -> dict[str, int | str]:
    """Some value for every variable of the kernel's configuration."""
    return {name: 0 for name in elf.kconfig_variables if not name.startswith("LINUX_")}


def _refused(path: Path, reason: object, report: Report, *, invalid: bool) -> None:
    if invalid:
        report.set_aside.append(f"{path}: {reason}")
    else:
        report.fail(path, reason)


def _bpftool_opens(path: Path) -> bool:
    command = ["bpftool", "gen", "skeleton", str(path)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def main() -> int:
    """The command line; 1 if anything failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    parser.add_argument(
        "--target", type=Path, help="BTF of the kernel that objects are for; default: the running one's"
    )
    parser.add_argument("--bpftool", action="store_true", help="what bpftool opens, must open here")
    arguments = parser.parse_args()
    if arguments.bpftool and shutil.which("bpftool") is None:
        parser.error("bpftool is not found: install it, or leave --bpftool out")
    report = Report()
    target = _target(arguments.target)
    for path in objects(arguments.folders):
        check(path, target, report, bpftool=arguments.bpftool)
    print("\n".join(report.lines()))
    return 1 if report.failures else 0


def _target(path: Path | None) -> Btf | None:
    if path is not None:
        return Btf.parse(path.read_bytes())
    try:
        return kernel_btf()
    except (BpfError, OSError):
        return None


if __name__ == "__main__":
    sys.exit(main())
