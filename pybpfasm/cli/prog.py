"""`prog`: the programs in the kernel."""

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING, Any

from pybpfasm.cli.kernel_objects import add_actions, run_action, type_name
from pybpfasm.cli.streams import write_output

if TYPE_CHECKING:
    from pybpfasm.kernel import Program

NAME = "prog"
SUMMARY = "list and show the programs in the kernel"
EPILOG = """\
examples:
  python -m pybpfasm prog list
  python -m pybpfasm prog show /sys/fs/bpf/redirect --json
  python -m pybpfasm prog dump 12

Sizes are in bytes, `loaded_at` is in seconds since 1970. What `dump` shows is what the verifier made of the program.
"""

_COLUMNS = ["id", "type", "name", "tag", "map_ids", "bytes_xlated", "run_cnt", "uid", "pinned"]


def add_arguments(parser: ArgumentParser) -> None:
    """The action and the program."""
    add_actions(parser, "program", dump="its instructions")


def run(arguments: Namespace) -> int:
    """List, show or dump."""
    from pybpfasm.kernel import Program
    from pybpfasm.kernel.inventory import ObjectKind

    return run_action(arguments, ObjectKind.PROGRAM, (Program.by_id, Program.open), _described, _COLUMNS, _dump)


def _described(program: "Program") -> dict[str, Any]:
    """The facts by the names that bpftool gives them."""
    from pybpfasm.uapi import ProgramType

    info = program.info()
    return {
        "id": info.id,
        "type": type_name(ProgramType, info.type),
        "name": info.name,
        "tag": info.tag.hex(),
        "gpl_compatible": info.gpl_compatible,
        "run_time_ns": info.run_time_ns,
        "run_cnt": info.run_count,
        "loaded_at": _since_1970(info.load_time_ns),
        "uid": info.created_by_uid,
        "bytes_xlated": info.translated_size,
        "jited": info.jited_size > 0,
        "bytes_jited": info.jited_size,
        "map_ids": sorted(info.map_ids),
        "btf_id": info.btf_id or None,
    }


def _since_1970(since_boot_ns: int) -> int:
    import time

    return round(time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + since_boot_ns / 1e9)


def _dump(arguments: Namespace, program: "Program") -> None:
    from pybpfasm.cli.loaded import with_called_names
    from pybpfasm.cli.tables import json_text
    from pybpfasm.isa import listing

    lines = with_called_names(list(listing(program.xlated(), "kernel")))
    write_output(arguments.output, json_text(lines) if arguments.json else "".join(f"{line}\n" for line in lines))
