"""`load`: programs and maps into the kernel, all or none."""

from argparse import ArgumentParser, Namespace
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pybpfasm.cli.errors import InputError, UsageError
from pybpfasm.cli.streams import STANDARD, read_input, shown, write_output
from pybpfasm.cli.tables import json_text, table
from pybpfasm.errors import BpfError

if TYPE_CHECKING:
    from pybpfasm.kernel import Map, Program
    from pybpfasm.kernel.collection import Collection
    from pybpfasm.spec import CollectionSpec

NAME = "load"
SUMMARY = "load the programs and maps of an object or a Python file into the kernel"
EPILOG = """\
examples:
  python -m pybpfasm load redirect.py
  python -m pybpfasm load prog.o --pin /sys/fs/bpf/mine
  rm -r /sys/fs/bpf/mine

Without --pin the kernel verifies everything, and forgets it when the command ends. With it each program and map is
pinned in DIR by its name, but for maps that the compiler named with a dot (globals): they live as long as programs that
use them. If anything fails nothing is left. Programs are attached with `attach`.
"""


def add_arguments(parser: ArgumentParser) -> None:
    """What to load, and where to keep it."""
    parser.add_argument("input", metavar="OBJ|FILE.py", help="an object, or a Python file with programs")
    parser.add_argument("--pin", type=Path, metavar="DIR", help="a folder in a bpf file system; it is made, if need be")
    parser.add_argument(
        "--program", action="append", metavar="NAME", help="only this one (may be repeated); default: all"
    )
    parser.add_argument("--json", action="store_true", help="what was loaded as JSON")
    parser.add_argument("-o", "--output", default=STANDARD, metavar="OUT", help="default: standard output")


def run(arguments: Namespace) -> int:
    """Load."""
    from pybpfasm.kernel.collection import Collection

    spec = _read(arguments.input)
    wanted = [name for name, each in spec.maps.items() if each.pinned]
    if wanted and arguments.pin is None:
        raise UsageError(f"map {wanted[0]} asks to be pinned by its name: say --pin DIR")
    with ExitStack() as undo:
        if arguments.pin is not None:
            _prepare(arguments.pin, spec, undo)
        with Collection.load(spec, pins=arguments.pin, programs=arguments.program) as loaded:
            if arguments.pin is not None:
                _pin(loaded, arguments.pin, undo)
            rows = _rows(loaded, arguments.pin)
        text = json_text(rows) if arguments.json else "".join(f"{line}\n" for line in table(rows))
        write_output(arguments.output, text)
        undo.pop_all()
    return 0


def _read(name: str) -> "CollectionSpec":
    if name.endswith(".py"):
        from pybpfasm.cli.python_files import compiled

        return compiled(Path(name))
    from pybpfasm.btf import BtfError, kernel_btf
    from pybpfasm.cli.programs import ELF_MAGIC
    from pybpfasm.interop import read_elf

    data = read_input(name)
    if not data.startswith(ELF_MAGIC):
        raise InputError(f"{shown(name)}: this is neither an ELF object nor a Python file (.py)")
    try:
        types = kernel_btf()
    except BtfError:  # only objects with CO-RE relocations need it, and say so
        types = None
    try:
        return read_elf(data, target=types)
    except BpfError as error:
        raise InputError(f"{shown(name)}: {error}") from None


def _prepare(folder: Path, spec: "CollectionSpec", undo: ExitStack) -> None:
    """Make the folder; what the load adds to it goes away again when it fails."""
    from pybpfasm.kernel import ensure_bpffs

    if both := sorted(set(spec.programs) & set(spec.maps)):
        raise InputError(f"a program and a map are both called {both[0]}: they cannot be pinned in one folder")
    existed = folder.exists()
    ensure_bpffs(folder)
    if not existed:
        undo.callback(_remove_folder, folder)
    for name, each in spec.maps.items():
        if each.pinned and not (folder / name).exists():
            undo.callback((folder / name).unlink, missing_ok=True)


def _remove_folder(folder: Path) -> None:
    with suppress(OSError):  # another process has put something into it
        folder.rmdir()


def _pin(loaded: "Collection", folder: Path, undo: ExitStack) -> None:
    objects: dict[str, Program | Map] = {**loaded.programs, **_pinnable(loaded)}
    for name, each in objects.items():
        if (folder / name).exists():
            raise InputError(f"{folder / name} is pinned already: remove it, or choose another folder")
        each.pin(folder / name)
        undo.callback((folder / name).unlink, missing_ok=True)


def _pinnable(loaded: "Collection") -> "dict[str, Map]":
    """The maps that are not pinned yet, and whose names a bpf file system takes (bpf_lookup of kernel/bpf/inode.c)."""
    return {name: each for name, each in loaded.maps.items() if "." not in name and not loaded.spec.maps[name].pinned}


def _rows(loaded: "Collection", folder: Path | None) -> list[dict[str, Any]]:
    programs = [("program", name, each.spec.type, each.info().id) for name, each in loaded.programs.items()]
    maps = [("map", name, each.spec.type, each.info().id) for name, each in loaded.maps.items()]
    return [
        {
            "kind": kind,
            "name": name,
            "type": type_.name.lower(),
            "id": number,
            "pinned": str(folder / name) if folder is not None and "." not in name else None,
        }
        for kind, name, type_, number in [*programs, *maps]
    ]
