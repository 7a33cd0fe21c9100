"""What an instruction becomes, and how one is refused."""

from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn

import attrs

from pybpfasm.sim.errors import SimError
from pybpfasm.sim.registers import Registers

if TYPE_CHECKING:
    from pybpfasm.sim.machine import Machine

# Gets the registers and the machine, does the work, returns the slot that follows or one of the numbers below.
Operation = Callable[[Registers, "Machine"], int]

# The innermost run is over: its function has returned.
EXITED = -1
# The machine goes on elsewhere: at its `code` and `pc`.
SWITCHED = -2


@attrs.frozen
class Place:
    """Where an instruction stands: its slot, the slot after it, and how many slots the program has."""

    slot: int
    following: int
    count: int

    def target(self, distance: int) -> int:
        """The slot that is `distance` slots after the instruction. Raises `SimError` if the program has none there."""
        target = self.following + distance
        if not 0 <= target < self.count:
            raise SimError(f"it goes to slot {target}, the program has slots 0 to {self.count - 1}")
        return target


def refusal(what: str) -> Operation:
    """An instruction that cannot be run: the program ends with an error if it gets there."""

    def refuse(_registers: Registers, _machine: "Machine") -> NoReturn:
        raise SimError(what)

    return refuse
