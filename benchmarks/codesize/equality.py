"""Ours and the twins on the same scenes: what they return, and what they leave in context, maps and world."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import attrs

from benchmarks.codesize.impossible import OURS, TWINS, unexplained, unneeded
from benchmarks.codesize.rivals import Pair
from benchmarks.codesize.scenes import ALSO_USUAL, PROGRAMS, Make, Scene, Setting, scenes
from pybpfasm import sim
from pybpfasm.isa.opcodes import Class, Mode
from pybpfasm.sim.maps import SocketMap, StorageMap
from pybpfasm.spec import CollectionSpec, ProgramSpec
from pybpfasm.uapi import MapType

_M32 = (1 << 32) - 1

# The bits of an opcode that say how many bytes are accessed.
_SIZE = 0x18


class DifferenceError(Exception):
    """Two programs that should do the same do not, or not all that they do was seen."""


@attrs.frozen
class Outcome:
    """What a run came to. The kernel takes 32 bits of the result."""

    returned: int
    context: Any
    maps: Any
    redirects: Any
    actions: Any


def run(program: ProgramSpec, setting: Setting) -> tuple[Outcome, sim.Result]:
    """Run a program in a setting, which is used up by it."""
    result = sim.run(
        program,
        setting.context,
        maps=setting.maps,
        world=setting.world,
        helpers=setting.helpers,
        trace=_before_atomics(program, setting.overtaken) if setting.overtaken else False,
    )
    names = {id(sock): name for name, sock in setting.sockets.items()}
    outcome = Outcome(
        returned=result.ret & _M32,
        context=attrs.asdict(setting.context),  # type: ignore[arg-type]  # all contexts are attrs classes
        maps={name: _contents(each, names, setting.touched) for name, each in setting.maps.items()},
        redirects=[(each.helper, names[id(each.target)], each.flags, each.key) for each in result.redirects],
        actions=[(each.helper, dict(each.arguments)) for each in result.actions],
    )
    return outcome, result


def _before_atomics(program: ProgramSpec, happens: Callable[[], None]) -> Callable[[sim.TraceEntry], None]:
    """A trace that lets something happen before each atomic instruction."""
    befores: set[int] = set()
    slot = last = 0
    for instruction in program.instructions:
        if instruction.opcode & ~_SIZE == Class.STX | Mode.ATOMIC:
            befores.add(last)
        last, slot = slot, slot + instruction.slots

    def note(entry: sim.TraceEntry) -> None:
        if entry.slot in befores:
            happens()

    return note


def _contents(map_: sim.Map, names: dict[int, str], touched: set[tuple[str, bytes]]) -> Any:
    if isinstance(map_, StorageMap):
        return {names[id(owner)]: map_.value_of(owner) for owner in map_.owners()}
    if isinstance(map_, SocketMap):
        return {key: names[id(sock)] for key, sock in map_.objects().items()}
    if map_.type is MapType.ARRAY:
        found = {key: map_.lookup(key) for name, key in touched if name == map_.name}
        return {key: value for key, value in found.items() if any(value or b"")}
    return {key: map_.lookup_per_cpu(key) for key in map_.keys()}  # noqa: SIM118 - a map is no dict


def compare(
    programs: dict[str, ProgramSpec], collection: CollectionSpec, make: Make, scenes: Iterable[Scene]
) -> dict[str, sim.Coverage]:
    """Run all forms of one program on each scene; what each form's runs covered together, by the names of the forms.

    Raises `DifferenceError` for the first scene on which two differ.
    """
    covered: dict[str, sim.Coverage] = {}
    for scene in scenes:
        outcomes: dict[str, Outcome] = {}
        for form, program in programs.items():
            outcomes[form], result = run(program, make(collection, scene))
            covered[form] = covered[form] | result.coverage if form in covered else result.coverage
        (first, expected), *others = outcomes.items()
        for form, outcome in others:
            if outcome != expected:
                raise DifferenceError(_told(first, expected, form, outcome, scene))
    return covered


def _told(first: str, expected: Outcome, second: str, got: Outcome, scene: Scene) -> str:
    lines = [f"{first} and {second} differ in {dict(scene)}:"]
    for field in attrs.fields(Outcome):
        one, other = getattr(expected, field.name), getattr(got, field.name)
        if one != other:
            lines.append(f"  {field.name}: {one!r} and {other!r}")
    return "\n".join(lines)


def check(pairs: Sequence[Pair], count: int) -> Iterator[str]:
    """Compare ours and the twins of all pairs, a line of what was found for each program.

    Raises `DifferenceError`: two differ, in what they do or in a map's shape; or a jump never went a way that it could.
    """
    for pair in pairs:
        _check_maps(pair)
    for name, (make, choices) in PROGRAMS.items():
        forms = {f"ours for {pair.rivals.target}": pair.ours.programs[name] for pair in pairs}
        forms |= {str(pair.rivals.clang): pair.twins[name] for pair in pairs}
        chosen = scenes(choices, count, also=ALSO_USUAL.get(name, ()))
        covered = compare(forms, pairs[0].ours, make, chosen)
        _check_shown(name, covered)
        jumps = sum(len(coverage.edges) for coverage in covered.values())
        shown = f"both ways of all {jumps} jumps of {len(forms)} forms taken{_exceptions(name)}"
        yield f"{name}: equal on {len(chosen)} scenes, {shown}"


def _exceptions(name: str) -> str:
    count = sum(reason.program == name for reason in (*OURS, *TWINS))
    return f", but for {count} line{'s' * (count != 1)} of `impossible`" if count else ""


def _check_shown(name: str, covered: dict[str, sim.Coverage]) -> None:
    """Raise for what no scene has shown, if it could; and for what could not, but was."""
    missing = {form: coverage.missing() for form, coverage in covered.items()}
    for form, found in missing.items():
        for each in unexplained((*OURS, *TWINS), name, found):
            raise DifferenceError(f"{name}, {form}: no scene has shown {each}")
    for reason in unneeded((*OURS, *TWINS), name, itertools.chain.from_iterable(missing.values())):
        raise DifferenceError(f"{name}: no form needs what `impossible` says of {reason.line}")


def _check_maps(pair: Pair) -> None:
    for program in pair.twins.values():
        for name, twin in program.maps.items():
            our = pair.ours.maps[name]
            shapes = [(m.type, m.key.size, m.value.size, m.max_entries, m.flags) for m in (our, twin)]
            if shapes[0] != shapes[1]:
                raise DifferenceError(f"map {name}: ours is {shapes[0]}, the twin's {shapes[1]}")
