"""`run`: a program in the interpreter."""

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pybpfasm.cli.errors import InputError, UsageError
from pybpfasm.cli.literals import bytes_of, number_of, pair_of
from pybpfasm.cli.programs import FoundProgram, add_input, find_programs, only_one
from pybpfasm.cli.streams import STANDARD, read_input, shown, write_output

if TYPE_CHECKING:
    from pybpfasm.btf import Btf
    from pybpfasm.sim import Context, Map, World

NAME = "run"
SUMMARY = "run a program in the interpreter, without a kernel"
EPILOG = """\
examples:
  python -m pybpfasm run sum.bin --raw --mem 0102030405060708
  python -m pybpfasm run prog.o --program redirect --set user_ip4=10.0.0.1 --set user_port=80 --map ports:50=01
  python -m pybpfasm run drop.o --packet @packet.bin --trace

Without a context, r1 is the address of --mem and r2 its length. Exit status 1: the program did what it must not, or the
input is bad; 0: it ran to its end, whatever it returned.
"""


def add_arguments(parser: ArgumentParser) -> None:
    """What to run, on what, and what to show."""
    add_input(parser)
    parser.add_argument("--program", metavar="NAME", help="which one, where the input has several")
    parser.add_argument("--mem", metavar="HEX|@FILE", help="memory that r1 points to, for a program without a context")
    parser.add_argument("--ctx", metavar="TYPE", help="the context's struct: xdp_md; default: by the program's type")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="a field of the context")
    parser.add_argument("--packet", metavar="HEX|@FILE", help="the context's packet")
    parser.add_argument("--map", action="append", default=[], metavar="NAME:KEYHEX=VALUEHEX", help="an entry of a map")
    parser.add_argument(
        "--world", action="append", default=[], metavar="FIELD=VALUE", help="uid, pid, clock_ns, cpu, …"
    )
    parser.add_argument("--target", metavar="FILE", help="the kernel's types (raw BTF) that an object is resolved for")
    parser.add_argument("--trace", action="store_true", help="each instruction that runs, and what it changes")
    parser.add_argument("--coverage", action="store_true", help="what did not run")
    parser.add_argument(
        "--steps", metavar="N", default="1000000", help="at most so many instructions; default: %(default)s"
    )
    parser.add_argument("--json", action="store_true", help="the result as JSON")


def run(arguments: Namespace) -> int:
    """Run a program: 0 if it came to its end."""
    from pybpfasm import sim
    from pybpfasm.cli.contexts import field_values
    from pybpfasm.cli.outcome import entries_of, report_of, text_of

    programs = find_programs(arguments, lambda data, name: _read_object(data, name, arguments))
    program = only_one(programs, arguments.program, arguments.input)
    context = _context(program, arguments)
    memory = bytes_of(arguments.mem, "--mem") if arguments.mem is not None else None
    if memory is not None and context is not None:
        raise UsageError("--mem is for programs without a context")
    world = _world(arguments.world, program)
    maps = _maps(program, world, arguments.map)
    entries, fields = entries_of(maps), field_values(context)
    try:
        result = sim.run(
            program.spec or program.instructions,
            context,
            mem=memory,
            maps=maps,
            world=world,
            step_limit=_step_limit(arguments.steps),
            trace=_print_entry if arguments.trace and not arguments.json else arguments.trace,
        )
    except sim.SimError as error:
        raise InputError(f"{shown(arguments.input)}: {error}") from None
    report = report_of(result, memory, fields, field_values(result.ctx), entries, entries_of(maps), arguments)
    write_output(STANDARD, json.dumps(report, indent=2) + "\n" if arguments.json else text_of(report))
    return 0


def _context(program: FoundProgram, arguments: Namespace) -> "Context | None":
    from pybpfasm.cli.contexts import new_context, set_fields, with_packet

    packet = bytes_of(arguments.packet, "--packet") if arguments.packet is not None else None
    context = with_packet(new_context(arguments.ctx, program.spec), packet)
    if context is None and program.spec is not None:
        what = f"program {program.name} of section {program.section!r} has a type without a context here"
        raise InputError(f"{shown(arguments.input)}: {what}: say --ctx TYPE")
    set_fields(context, arguments.set)
    return context


def _step_limit(text: str) -> int:
    steps = number_of(text, "--steps")
    if steps <= 0:
        raise UsageError("--steps: one at least")
    return steps


def _read_object(data: bytes, name: str, arguments: Namespace) -> list[FoundProgram]:
    from pybpfasm.cli.objects import runnable_programs

    return runnable_programs(data, name, _target(arguments.target))


def _target(name: str | None) -> "Btf | None":
    from pybpfasm.btf import Btf, BtfError

    if name is None:
        return None
    try:
        return Btf.parse(read_input(name))
    except BtfError as error:
        raise InputError(f"{shown(name)}: {error}") from None


def _print_entry(entry: object) -> None:
    print(entry)


def _world(settings: list[str], program: FoundProgram) -> "World":
    from pybpfasm.sim import World

    world = World(byteorder=program.byteorder)
    for setting in settings:
        name, value = pair_of(setting, "--world", "field=value")
        current = getattr(world, name, None)
        if name.startswith("_") or name == "byteorder" or not isinstance(current, int | str):
            known = [
                each for each, held in _fields(world).items() if isinstance(held, int | str) and each != "byteorder"
            ]
            raise UsageError(f"--world {name}: there is no such field: {', '.join(known)} can be set")
        setattr(world, name, value if isinstance(current, str) else number_of(value, f"--world {name}"))
    return world


def _fields(world: "World") -> Mapping[str, Any]:
    import attrs

    return {each.name: getattr(world, each.name) for each in attrs.fields(type(world)) if not each.name.startswith("_")}


def _maps(program: FoundProgram, world: "World", settings: list[str]) -> "dict[str, Map]":
    from pybpfasm.sim import MapError, SimError, create_maps

    specs = program.spec.maps if program.spec is not None else {}
    try:
        maps = dict(create_maps(specs, cpus=world.cpus, byteorder=world.byteorder))
    except SimError as error:
        raise InputError(str(error)) from None
    for setting in settings:
        place, value = pair_of(setting, "--map", "name:keyhex=valuehex")
        name, colon, key = place.rpartition(":")
        if not colon:
            raise UsageError(f"--map {setting!r} is not of the form name:keyhex=valuehex")
        if name not in maps:
            raise UsageError(f"--map: there is no map {name!r}: the program has {', '.join(maps) or 'none'}")
        try:
            maps[name].update(bytes_of(key, "--map key"), bytes_of(value, "--map value"))
        except (MapError, SimError) as error:
            raise UsageError(f"--map {setting}: {error}") from None
    return maps
