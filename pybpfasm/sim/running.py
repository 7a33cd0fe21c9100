"""Run a program and see what it did."""

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs

from pybpfasm.isa import Instruction
from pybpfasm.sim.contexts import Context, Rules, context_types, default_context, rules_of
from pybpfasm.sim.coverage import Coverage
from pybpfasm.sim.errors import SimError
from pybpfasm.sim.helpers.registry import HelperFunction
from pybpfasm.sim.linking import Links
from pybpfasm.sim.machine import Machine
from pybpfasm.sim.maps import Map, create_maps
from pybpfasm.sim.memory import ByteOrder
from pybpfasm.sim.program import program_of
from pybpfasm.sim.registers import signed32, signed64
from pybpfasm.sim.tracing import Trace, TraceEntry
from pybpfasm.sim.world import Action, Event, Observed, Redirect, World
from pybpfasm.spec import ProgramSpec
from pybpfasm.uapi import Helper

DEFAULT_STEP_LIMIT = 1_000_000

Runnable = ProgramSpec | Sequence[Instruction]


@attrs.frozen
class Result:
    """What a run came to.

    `ret` is r0, unsigned 64 bits. `mem` and `ctx` are as the program left them, `maps` are those that it used, by name.
    `coverage` is that of the program that was run, `coverages` has those of tail-called ones too, by name.
    """

    ret: int
    mem: bytes
    ctx: Context | None
    maps: Mapping[str | int, Map] = attrs.field(repr=False)
    steps: int
    coverage: Coverage = attrs.field(repr=False)
    coverages: Mapping[str, Coverage] = attrs.field(repr=False)
    trace: list[TraceEntry] = attrs.field(repr=False)
    observed: Observed = attrs.field(repr=False)

    @property
    def signed(self) -> int:
        """`ret` as a signed number of 64 bits."""
        return signed64(self.ret)

    @property
    def ret32(self) -> int:
        """The low half of `ret` as a signed number of 32 bits: what the kernel takes of most programs' results."""
        return signed32(self.ret)

    @property
    def printed(self) -> list[str]:
        """The lines that trace_printk and trace_vprintk printed."""
        return self.observed.printed

    @property
    def redirects(self) -> list[Redirect]:
        """What was redirected where."""
        return self.observed.redirects

    @property
    def events(self) -> list[Event]:
        """The records that went to user space, through perf event arrays and ring buffers (once submitted)."""
        return self.observed.events

    @property
    def actions(self) -> list[Action]:
        """Other things that the program did, such as send_signal or setsockopt."""
        return self.observed.actions


def run(
    program: Runnable,
    ctx: Context | None = None,
    *,
    mem: bytes | None = None,
    maps: Mapping[str, Map] | Mapping[int, Map] | None = None,
    world: World | None = None,
    helpers: Mapping[Helper | int | str, HelperFunction] | None = None,
    byteorder: ByteOrder | None = None,
    step_limit: int = DEFAULT_STEP_LIMIT,
    may_goto_limit: int | None = None,
    trace: bool | Callable[[TraceEntry], None] = False,
) -> Result:
    """Run a program to its end.

    `program` is a `ProgramSpec`, or a list of instructions. r1 has the address of `ctx` (for a spec without one, the
    default of its type); or, for instructions, that of a copy of `mem`, whose length is in r2 (0 and 0 without it).
    Maps that `maps` lacks are made from the spec. `helpers` has functions in place of helpers, by number, or of the
    kernel's functions, by name; they get the machine and the arguments and return r0. `byteorder` is the machine's,
    "little" or "big", if there is no `world` that says so. `may_goto_limit` is how many times may_goto lets a
    function's loops go on; without it, they end once half of `step_limit` is used up (the kernel's end by a clock).
    `trace` collects a `TraceEntry` an instruction, or hands it to a function.

    Raises `SimError`: a bad access, a register without a value, an endless program, a helper that is not simulated.
    """
    machine, memory = prepare(
        program,
        ctx,
        mem=mem,
        maps=maps,
        world=world,
        helpers=helpers,
        byteorder=byteorder,
        step_limit=step_limit,
        may_goto_limit=may_goto_limit,
        trace=trace,
    )
    started = machine.program
    ret = machine.run()
    coverages = machine.coverage()
    return Result(
        ret=ret,
        mem=bytes(memory),
        ctx=machine.context,
        maps=machine.links.maps,
        steps=machine.steps,
        coverage=coverages[started.name],
        coverages=coverages,
        trace=machine.traced,
        observed=machine.observed,
    )


def step(program: Runnable, ctx: Context | None = None, **options: Any) -> Machine:
    """A machine that stands before the program's first instruction: see `Machine.step`. Options are those of `run`."""
    return prepare(program, ctx, **options)[0]


def prepare(
    program: Runnable,
    ctx: Context | None = None,
    *,
    mem: bytes | None = None,
    maps: Mapping[str, Map] | Mapping[int, Map] | None = None,
    world: World | None = None,
    helpers: Mapping[Helper | int | str, HelperFunction] | None = None,
    byteorder: ByteOrder | None = None,
    step_limit: int = DEFAULT_STEP_LIMIT,
    may_goto_limit: int | None = None,
    trace: bool | Callable[[TraceEntry], None] = False,
) -> tuple[Machine, bytearray]:
    """A machine with everything in place, and its copy of `mem`."""
    world = _world(world, byteorder)
    if not 0 <= step_limit <= sys.maxsize:
        raise SimError(f"step_limit is {step_limit}: it goes from 0 to {sys.maxsize}")
    spec = program if isinstance(program, ProgramSpec) else None
    instructions = _instructions(program)
    given: dict[str | int, Map] = {name: each for name, each in (maps or {}).items()}  # noqa: C416 - the key's type is wider
    if spec is not None:
        missing = {name: each for name, each in spec.maps.items() if name not in given}
        given.update(create_maps(missing, cpus=world.cpus, byteorder=world.byteorder).items())
    collected = Trace(None if isinstance(trace, bool) else trace) if trace else None
    machine = Machine(
        program_of(spec.name if spec is not None else "program", instructions, world.byteorder, spec),
        world,
        Links(given, helpers or {}),
        step_limit=step_limit,
        may_goto_limit=may_goto_limit,
        trace=collected,
    )
    memory = bytearray(mem or b"")
    if spec is not None:
        if mem is not None:
            raise SimError(f"{spec.name} takes a context, not mem: give ctx")
        machine.start(_context_for(spec, ctx), rules_of(spec.type, spec.attach_type))
    elif ctx is not None:
        machine.start(ctx, Rules())
    else:
        machine.registers[1] = 0 if mem is None else machine.memory.address_of(memory, "mem")
        machine.registers[2] = len(memory)
    return machine, memory


def _world(world: World | None, byteorder: ByteOrder | None) -> World:
    if world is None:
        return World(byteorder="little" if byteorder is None else byteorder)
    if byteorder not in (None, world.byteorder):
        raise SimError(f"byteorder is {byteorder!r} and the world's is {world.byteorder!r}")
    return world


def _instructions(program: Runnable) -> tuple[Instruction, ...]:
    if isinstance(program, ProgramSpec):
        return program.instructions
    if hasattr(program, "function") and hasattr(program, "kind"):
        name = getattr(program, "name", "program")
        raise SimError(f"{name} is not compiled: run what compile_program({name}) gives")
    instructions = tuple(program)
    for index, each in enumerate(instructions):
        if not isinstance(each, Instruction):
            raise SimError(f"item {index} of the program is {type(each).__name__}, not an Instruction")
    return instructions


def _context_for(spec: ProgramSpec, ctx: Context | None) -> Context | None:
    if ctx is None:
        ctx = default_context(spec.type)
        if ctx is None:
            raise SimError(f"{spec.name} is of type {spec.type.name}, which has no context here: give ctx")
        return ctx
    possible = context_types(spec.type)
    if possible and not isinstance(ctx, possible):
        names = " or ".join(each.__name__ for each in possible)
        raise SimError(f"{spec.name} is of type {spec.type.name}, it takes a {names}, not a {type(ctx).__name__}")
    return ctx
