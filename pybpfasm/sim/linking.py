"""What a program's instructions refer to by name or number: maps, helpers, functions and variables of the kernel."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pybpfasm.isa.opcodes import WideKind
from pybpfasm.sim.contexts.base import ContextRegion, address_of
from pybpfasm.sim.contexts.packets import SkBuff
from pybpfasm.sim.errors import MissingHelperError, SimError, UninitialisedError
from pybpfasm.sim.helpers import HELPERS
from pybpfasm.sim.helpers.registry import Bound, HelperFunction, bind, bind_plain
from pybpfasm.sim.linked import map_address, per_cpu_address, value_address
from pybpfasm.sim.maps import ArrayMap, Map, create_maps
from pybpfasm.sim.maps.objects import Callee
from pybpfasm.sim.program import Program, program_of
from pybpfasm.sim.registers import M32, M64, UNSET, UNSET_ARGUMENTS, signed32
from pybpfasm.sim.world import World
from pybpfasm.spec import ProgramSpec
from pybpfasm.uapi import Helper

if TYPE_CHECKING:
    from pybpfasm.sim.machine import Machine

# Where a legacy packet load counts from (include/uapi/linux/filter.h): the network header, or the link layer's.
_SKF_NET_OFF = -0x100000
_SKF_LL_OFF = -0x200000


class Links:
    """Maps by name or number, and helpers: those of the table, those that a test supplies in their place."""

    def __init__(self, maps: Mapping[str | int, Map], helpers: Mapping[Helper | int | str, HelperFunction]) -> None:
        self.maps = dict(maps)
        self._kernel = {name: bind_plain(function) for name, function in helpers.items() if isinstance(name, str)}
        self._own = {int(number): function for number, function in helpers.items() if not isinstance(number, str)}
        self._bound: dict[int, Bound] = {}
        self._programs: dict[int, tuple[object, Program]] = {}

    # --- calls --------------------------------------------------------------------------------------------------------

    def call_helper(self, machine: "Machine", number: int, following: int) -> int:
        """Call a helper: r0 is its answer, r1 to r5 lose their values."""
        if number == Helper.TAIL_CALL and number not in self._own:
            return self._tail_call(machine, following)
        bound = self._bound.get(number)
        if bound is None:
            bound = self._bound[number] = self._bind(number)
        if machine.lock is not None and number != Helper.SPIN_UNLOCK:
            raise SimError(f"{bound.name} is called while a lock is held: only spin_unlock can be")
        return _call(machine, bound, following)

    def call_kernel(self, machine: "Machine", name: str | None, number: int, following: int) -> int:
        """Call a function of the kernel, which a test supplies."""
        bound = self._kernel.get(name or "")
        if bound is None:
            called = name or f"number {number}"
            raise MissingHelperError(
                f"the kernel's function {called} is not simulated: supply it with helpers={{{called!r}: function}}"
            )
        return _call(machine, bound, following)

    def _bind(self, number: int) -> Bound:
        try:
            helper = Helper(number)
        except ValueError:
            raise MissingHelperError(f"there is no helper {number}") from None
        function = self._own.get(number) or HELPERS.get(helper)
        if function is None or helper == Helper.UNSPEC:
            raise MissingHelperError(
                f"helper {helper.name.lower()} ({number}) is not simulated: supply it with "
                f"helpers={{Helper.{helper.name}: function}}, function(machine, *arguments) returns r0"
            )
        return bind(helper, function)

    def _tail_call(self, machine: "Machine", following: int) -> int:
        from pybpfasm.sim.helpers.programs import callee

        for register in (1, 2, 3):
            if machine.registers[register] is UNSET:
                raise UninitialisedError(f"r{register}, an argument of tail_call, has no value")
        found = callee(machine, *machine.registers[1:4])
        if found is not None:
            return machine.tail_call(found)
        machine.registers[0] = UNSET
        machine.registers[1:6] = UNSET_ARGUMENTS
        return following

    def program(self, world: World, found: Callee, name: str) -> Program:
        """A program of a prog array, decoded once; its maps join those that are known."""
        known = self._programs.get(id(found))
        if known is not None:
            return known[1]
        program: Program
        if isinstance(found, ProgramSpec):
            missing = {each: shape for each, shape in found.maps.items() if each not in self.maps}
            self.maps.update(create_maps(missing, cpus=world.cpus, byteorder=world.byteorder).items())
            program = program_of(found.name, found.instructions, world.byteorder, found)
        else:
            program = program_of(name, tuple(found), world.byteorder, None)
        self._programs[id(found)] = (found, program)
        return program

    # --- ld_imm64 -----------------------------------------------------------------------------------------------------

    def reference(self, machine: "Machine", kind: int, symbol: str | None, imm: int) -> int:
        """A map's address, that of its value, or of a kernel variable."""
        if kind == WideKind.BTF_ID:
            return self._variable(machine, symbol, imm)
        found = self.map_named(symbol if symbol is not None else imm & M32)
        if kind in (WideKind.MAP_FD, WideKind.MAP_INDEX):
            return map_address(machine, found)
        offset = imm >> 32
        if not isinstance(found, ArrayMap) or found.max_entries != 1 or offset >= found.value_size:
            raise SimError(f"map {found.name} has no value of its own with a byte {offset}: an array of one entry has")
        values = found.find(bytes(found.key_size))
        assert values is not None  # noqa: S101 - the array has an entry
        return value_address(machine, found, values[0]) + offset

    def map_named(self, name: str | int) -> Map:
        """The map that an instruction names. Raises `SimError` if it is not given."""
        found = self.maps.get(name)
        if found is None:
            known = ", ".join(map(str, self.maps)) or "none"
            raise SimError(f"map {name!r} is not given: maps={{…}} has {known}")
        return found

    def _variable(self, machine: "Machine", symbol: str | None, imm: int) -> int:
        variables = machine.world.variables
        if symbol not in variables:
            name = symbol or f"with BTF id {imm & M32}"
            raise SimError(f"the kernel variable {name} is not given: World(variables={{…}}) has none of that name")
        value = variables[symbol]
        if isinstance(value, list):
            return per_cpu_address(machine, str(symbol), value)
        return address_of(value, machine.memory, str(symbol))

    # --- legacy packet loads ------------------------------------------------------------------------------------------

    def load_packet(self, machine: "Machine", address: int, offset: int, size: int) -> int | None:
        """`size` bytes of the packet as a number in network order; None past its end."""
        region = machine.context_region
        if not isinstance(region, ContextRegion) or not isinstance(machine.context, SkBuff) or address != region.base:
            raise SimError("a packet load needs a __sk_buff's address in r6")
        at = signed32(offset)
        if at < 0:
            at = _from_header(at, machine.context)
        data = region.packet.data
        if at < 0 or at + size > len(data):
            return None
        return int.from_bytes(data[at : at + size], "big")


def _call(machine: "Machine", bound: Bound, following: int) -> int:
    registers = machine.registers
    result = bound.call(machine, registers)
    registers[1:6] = UNSET_ARGUMENTS
    if result is None:
        registers[0] = UNSET
    else:
        registers[0] = result & M64
        if result == 0 and bound.returns_pointer:
            machine.memory.null_hint = (
                f"the result of {bound.name} at slot {machine.pc} was NULL, it must be tested before it is used"
            )
    return following


def _from_header(offset: int, context: SkBuff) -> int:
    if offset >= _SKF_NET_OFF:
        return context.network_offset + offset - _SKF_NET_OFF
    return offset - _SKF_LL_OFF
