"""The machine: registers, frames, memory, and the loop that runs a program's operations."""

from collections.abc import Mapping
from operator import length_hint

import attrs

from pybpfasm.isa import Instruction
from pybpfasm.sim.contexts import Context, Rules
from pybpfasm.sim.contexts.base import ContextRegion
from pybpfasm.sim.coverage import Coverage, source_line
from pybpfasm.sim.errors import SimError, StepLimitError, UninitialisedError
from pybpfasm.sim.linking import Links
from pybpfasm.sim.maps import Map
from pybpfasm.sim.memory import STACK_BYTES, Memory, Region, stack_region
from pybpfasm.sim.operation import EXITED, SWITCHED
from pybpfasm.sim.program import Program
from pybpfasm.sim.reads import registers_read
from pybpfasm.sim.registers import (
    FRAME_POINTER,
    M32,
    UNSET,
    UNSET_ARGUMENTS,
    UNSET_SAVED,
    Registers,
    UnsetRegisterRead,
)
from pybpfasm.sim.tracing import Trace, TraceEntry
from pybpfasm.sim.world import Observed, World

# The kernel's limit: MAX_CALL_FRAMES (include/linux/bpf_verifier.h).
MAX_FRAMES = 8


@attrs.define(eq=False)
class Frame:
    """A function that runs: its stack, where it returns to, and what it has to restore there."""

    stack: Region
    program: Program
    return_to: int
    saved: Registers
    loops_left: int | None


class Machine:
    """A program that is about to run, or runs. `run` goes to its end, `step` one instruction.

    `registers` are r0 to r10 (an unset one has no number), `pc` the slot that is next. A helper reaches
    memory, maps and the world through it. Raises what `sim.run` raises.
    """

    def __init__(
        self,
        program: Program,
        world: World,
        links: Links,
        *,
        step_limit: int,
        may_goto_limit: int | None = None,
        trace: Trace | None = None,
    ) -> None:
        self.world = world
        self.links = links
        self.memory = Memory(world.byteorder)
        self.observed = Observed()
        self.program = program
        self.pc = 0
        self.registers: Registers = [UNSET] * 11
        self.frames: list[Frame] = []
        self.context: Context | None = None
        self.context_region: Region | None = None
        # What must be given back before the end: sockets and records by address, and the lock that is held.
        self.held: dict[int, str] = {}
        self.lock: int | None = None
        self.returned: int | None = None
        self.tail_calls = 0
        self._may_goto_limit = may_goto_limit
        self._step_limit = step_limit
        self._budget = iter(range(step_limit))
        self._trace = trace
        self._marks: dict[Program, tuple[bytearray, bytearray]] = {}
        self._functions: Region | None = None
        self._load(program)
        self._push_frame(return_to=EXITED)

    # --- running ------------------------------------------------------------------------------------------------------

    @property
    def steps(self) -> int:
        """How many instructions have run."""
        return self._step_limit - length_hint(self._budget)

    @property
    def traced(self) -> list[TraceEntry]:
        """The entries of the trace so far, if it is collected."""
        return [] if self._trace is None else self._trace.entries

    @property
    def ended(self) -> bool:
        """Whether the program has returned."""
        return not self.frames

    def start(self, context: Context | None, rules: Rules) -> None:
        """Put the context's address into r1."""
        if context is not None:
            self.context = context
            self.context_region = context.place(self.memory, rules)
            self.registers[1] = self.context_region.base

    def run(self) -> int:
        """Run to the end; r0, unsigned 64 bits."""
        if not self.ended:
            try:
                self._go_on()
            finally:
                self.sync_context()
            self._finish()
        return self.result

    def step(self) -> bool:
        """Run one instruction; False if it was the last. A helper that calls back runs its calls at once."""
        if not self.frames:
            return False
        slot = self.pc
        try:
            self._one()
        except UnsetRegisterRead:
            raise self._unset_register(slot) from None
        except SimError as error:
            raise self.locate(error, slot)  # noqa: B904 - the same error
        if self.frames:
            return True
        self._finish()
        return False

    @property
    def result(self) -> int:
        """What the program returned."""
        if self.returned is None:
            raise SimError("the program has not ended yet")
        return self.returned

    def call_function(self, address: int, *arguments: int) -> int:
        """Run a function of the program to its end, for a helper that calls back; its r0."""
        target = self.function_slot(address)
        saved, program, pc = list(self.registers), self.program, self.pc
        self.registers[1:6] = [*arguments, *UNSET_ARGUMENTS][:5]
        self.pc = target
        self._push_frame(return_to=EXITED)
        self._go_on()
        result = self.registers[0]
        self.registers[:] = saved
        self.program, self.pc = program, pc
        self._load(program)
        if result is UNSET:
            raise UninitialisedError("the function that was called back returned without a value in r0")
        return result

    def _go_on(self) -> None:
        pc = self.pc
        try:
            if self._trace is not None:
                self._run_traced()
                return
            operations, seen, registers = self._operations, self._seen, self.registers
            for _ in self._budget:
                seen[pc] = 1
                pc = operations[pc](registers, self)
                if pc < 0:
                    if pc == EXITED:
                        return
                    operations, seen, pc = self._operations, self._seen, self.pc
                else:
                    self.pc = pc
        except UnsetRegisterRead:
            raise self._unset_register(self.pc) from None
        except SimError as error:
            raise self.locate(error, self.pc)  # noqa: B904 - the same error
        raise self.locate(self._too_long(), self.pc)

    def _run_traced(self) -> None:
        while self._one() != EXITED:
            pass

    def _one(self) -> int:
        if next(self._budget, None) is None:
            raise self._too_long()
        slot, program, before = self.pc, self.program, list(self.registers)
        self._seen[slot] = 1
        pc = self._operations[slot](self.registers, self)
        if pc >= 0:
            self.pc = pc
        if self._trace is not None:
            self._trace.note(_entry(program, slot, before, self.registers))
        return pc

    def _too_long(self) -> SimError:
        return StepLimitError(
            f"the program did not end within {self._step_limit} instructions: it may be endless, or give a larger "
            "step_limit"
        )

    def _finish(self) -> None:
        problem = self._left_undone()
        if problem is not None:
            raise self.locate(problem, self.pc)
        self.returned = self.registers[0]
        self.sync_context()

    def _left_undone(self) -> SimError | None:
        if self.registers[0] is UNSET:
            return UninitialisedError("the program returns without a value in r0")
        if self.lock is not None:
            return SimError("the program ends and still holds a lock: spin_unlock is missing")
        for what in self.held.values():
            return SimError(f"the program ends and still holds {what}")
        return None

    def sync_context(self) -> None:
        """Write what became of the packet back to the context."""
        if isinstance(self.context_region, ContextRegion):
            self.context_region.finish()

    # --- frames -------------------------------------------------------------------------------------------------------

    def enter(self, target: int, following: int) -> int:
        """Call a function of the program: r6 to r9 are kept for the caller."""
        self._push_frame(return_to=following)
        return target

    def leave(self) -> int:
        """Return from the innermost function."""
        frame = self.frames.pop()
        self.memory.end(frame.stack, "the function whose stack it was has returned")
        registers = self.registers
        if frame.return_to == EXITED:
            return EXITED
        registers[1:6] = UNSET_ARGUMENTS
        registers[6:11] = frame.saved
        if frame.program is self.program:
            return frame.return_to
        self.pc = frame.return_to
        self._load(frame.program)
        return SWITCHED

    def may_go_on(self) -> bool:
        """Whether may_goto lets the loop go on; each time counts if there is a limit, else half of all steps is one."""
        frame = self.frames[-1]
        if frame.loops_left is None:
            return 2 * self.steps <= self._step_limit
        if frame.loops_left == 0:
            return False
        frame.loops_left -= 1
        return True

    def tail_call(self, program: Program) -> int:
        """Go on with another program in place of the innermost function; its context is the same."""
        self.tail_calls += 1
        frame = self.frames[-1]
        self.memory.end(frame.stack, "the program whose stack it was has made a tail call")
        frame.stack = self._new_stack(len(self.frames))
        frame.loops_left = self._may_goto_limit
        context = self.registers[1]
        self.registers[:] = [UNSET, context, *[UNSET] * 8, frame.stack.base + STACK_BYTES]
        self.pc = 0
        self._load(program)
        return SWITCHED

    def _push_frame(self, *, return_to: int) -> None:
        if len(self.frames) >= MAX_FRAMES:
            raise SimError(f"{len(self.frames) + 1} functions deep: {MAX_FRAMES} are possible")
        registers = self.registers
        stack = self._new_stack(len(self.frames) + 1)
        self.frames.append(Frame(stack, self.program, return_to, registers[6:11], self._may_goto_limit))
        registers[0] = UNSET
        registers[6:10] = UNSET_SAVED
        registers[FRAME_POINTER] = stack.base + STACK_BYTES

    def _new_stack(self, depth: int) -> Region:
        stack = stack_region("stack" if depth == 1 else f"stack{depth}")
        self.memory.add(stack)
        return stack

    def _load(self, program: Program) -> None:
        self.program = program
        if program not in self._marks:
            size = program.code.slots + 1
            self._marks[program] = (bytearray(size), bytearray(size))
        self._seen, self.edges = self._marks[program]
        self._operations = program.code.operations

    # --- calls --------------------------------------------------------------------------------------------------------

    def call_helper(self, number: int, following: int) -> int:
        """Call a helper by number, with the arguments that its prototype has."""
        return self.links.call_helper(self, number, following)

    def call_kernel(self, name: str | None, number: int, following: int) -> int:
        """Call a function of the kernel by name."""
        return self.links.call_kernel(self, name, number, following)

    def call_register(self, value: int, following: int) -> int:
        """Call the function whose address, or the helper whose number, is in a register."""
        if self._functions is not None and value >> 32 == self._functions.number:
            return self.enter(self.function_slot(value), following)
        if value > M32:
            raise SimError(f"{value:#x} is neither a function's address nor a helper's number")
        return self.call_helper(value, following)

    def function_address(self, slot: int) -> int:
        """The address that stands for the function at a slot of this program."""
        if self._functions is None:
            self._functions = Region("function", bytearray(), readable=False, writable=False)
            self.memory.add(self._functions)
        return self._functions.base + slot

    def function_slot(self, address: int) -> int:
        """The slot that a function's address stands for. Raises `SimError` for another number."""
        slot = address & M32
        if self._functions is None or address >> 32 != self._functions.number or slot >= self.program.code.slots:
            raise SimError(f"{address:#x} is not a function's address: load it with load_function")
        return slot

    def reference(self, kind: int, symbol: str | None, imm: int) -> int:
        """What ld_imm64 stands for: a map's address, that of its value, or of a kernel variable."""
        return self.links.reference(self, kind, symbol, imm)

    def map_at(self, address: int) -> Map:
        """The map whose address it is. Raises `SimError` if there is none."""
        region = self.memory.region_at(address)
        if region is None or not isinstance(region.owner, Map) or address & M32:
            raise SimError(f"{address:#x} is not the address of a map")
        return region.owner

    def load_packet(self, address: int, offset: int, size: int) -> int | None:
        """A legacy packet load: a number in network order, None past the packet's end."""
        return self.links.load_packet(self, address, offset, size)

    # --- errors and coverage ------------------------------------------------------------------------------------------

    def locate(self, error: SimError, slot: int) -> SimError:
        """The error with the place of the instruction at `slot`."""
        program = self.program
        by_slot = program.code.by_slot
        instruction = by_slot[slot] if 0 <= slot < len(by_slot) else None
        text = None if instruction is None else _text(instruction)
        return error.located(program.name, slot, text, source_line(program.lines, slot))

    def coverage(self) -> dict[str, Coverage]:
        """What ran of each program, by the program's name."""
        return {
            program.name: Coverage.measured(program.name, program.instructions, program.lines, seen, edges)
            for program, (seen, edges) in self._marks.items()
        }

    def _unset_register(self, slot: int) -> SimError:
        instruction = self.program.code.by_slot[slot]
        assert instruction is not None  # noqa: S101 - the second half of ld_imm64 reads no register
        read = registers_read(instruction)
        register = next((each for each in read if self.registers[each] is UNSET), 0)
        what = f"r{register} is read and has no value"
        if 1 <= register <= 5:
            what += ": a call leaves r1 to r5 without one"
        return self.locate(UninitialisedError(what), slot)


def _entry(program: Program, slot: int, before: Registers, after: Registers) -> TraceEntry:
    changed: Mapping[int, int | None] = {
        register: None if new is UNSET else new
        for register, (old, new) in enumerate(zip(before, after, strict=True))
        if old is not new and (old is UNSET or new is UNSET or old != new)
    }
    return TraceEntry(program.name, slot, program.code.by_slot[slot], changed)


def _text(instruction: Instruction) -> str | None:
    try:
        return str(instruction)
    except (ValueError, KeyError):
        return None
