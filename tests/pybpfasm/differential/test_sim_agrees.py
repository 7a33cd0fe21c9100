"""The interpreter against the kernel: random programs give the same r0 and leave the same maps.

    pytest tests/pybpfasm/differential --programs 5000 --seed 1 -s

prints how many programs the verifier took, and which opcodes were reached.
"""

from collections import Counter

import attrs
import pytest
from differential.generator import MAPS, PACKET, Generator

from pybpfasm import sim
from pybpfasm.isa import Instruction, format_instruction
from pybpfasm.kernel import Map, Program
from pybpfasm.kernel.runs import run_program
from pybpfasm.kernel.verifier import VerifierError
from pybpfasm.spec import ProgramSpec

Contents = dict[str, dict[bytes, bytes]]


@attrs.define
class Tally:
    """What was tried and what was reached."""

    accepted: int = 0
    refused: Counter[str] = attrs.field(factory=Counter)
    opcodes: Counter[int] = attrs.field(factory=Counter)

    def report(self) -> str:
        """Acceptance rate and histogram."""
        total = self.accepted + sum(self.refused.values())
        lines = [f"the verifier took {self.accepted} of {total} programs ({self.accepted / total:.1%})"]
        lines += [f"  refused {count}: {reason}" for reason, count in self.refused.most_common(10)]
        lines += [f"{len(self.opcodes)} opcodes were reached:"]
        counts = sorted(self.opcodes.items(), key=lambda item: -item[1])
        rows = (counts[at : at + 12] for at in range(0, len(counts), 12))
        lines += [" ".join(f"{opcode:02x}:{count}" for opcode, count in row) for row in rows]
        return "\n".join(lines)


def test_random_programs(request: pytest.FixtureRequest) -> None:
    """The kernel and the interpreter agree on every program that the verifier takes, and it takes most."""
    first, count = request.config.getoption("--seed"), request.config.getoption("--programs")
    tally = Tally()
    for seed in range(first, first + count):
        compare(seed, Generator(seed).program(), tally)
    print(f"\n{tally.report()}")
    assert tally.accepted >= 0.5 * count


def compare(seed: int, spec: ProgramSpec, tally: Tally) -> None:
    """Run a program in both; fails with its seed where they differ."""
    try:
        expected = in_kernel(spec)
    except VerifierError as error:
        tally.refused[error.reason] += 1
        return
    tally.accepted += 1
    found = in_sim(spec, tally)
    assert found == expected, f"seed {seed} differs:\n{listing(spec.instructions)}"


def in_kernel(spec: ProgramSpec) -> tuple[int, Contents]:
    """The low half of r0, and what is in the maps afterwards."""
    maps = {name: Map.create(each) for name, each in spec.maps.items()}
    try:
        with Program.load(spec, maps) as program:
            ret = run_program(program, PACKET).retval
        return ret, {name: _entries(each) for name, each in maps.items()}
    finally:
        for each in maps.values():
            each.close()


def _entries(map_: Map) -> dict[bytes, bytes]:
    found = {key: map_.lookup(key) for key in map_.keys()}  # noqa: SIM118 - a map is no dict
    return {key: value for key, value in found.items() if value is not None}


def in_sim(spec: ProgramSpec, tally: Tally) -> tuple[int, Contents]:
    """The same of the interpreter; the opcodes that it ran are counted."""
    maps = sim.create_maps(spec)
    result = sim.run(spec, sim.SkBuff(packet=PACKET), maps=maps, trace=lambda entry: _count(tally, entry.instruction))
    return result.ret & 0xFFFFFFFF, {name: dict(each.items()) for name, each in maps.items()}


def _count(tally: Tally, instruction: Instruction) -> None:
    tally.opcodes[instruction.opcode] += 1


def listing(instructions: tuple[Instruction, ...]) -> str:
    """The program, for whoever looks into a difference."""
    return "\n".join(format_instruction(each) for each in instructions)


def test_the_generator_uses_all_its_maps() -> None:
    """What is compared is not empty: programs write to each map."""
    used = {each.symbol for seed in range(50) for each in Generator(seed).program().instructions if each.symbol}
    assert used == set(MAPS)
