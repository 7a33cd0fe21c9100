"""Who is compared with whom: a clang, and our compiler with the same instructions allowed."""

import attrs

from benchmarks.codesize.clang import CLANG_14, CLANG_19, Clang
from programs import PROGRAMS
from pybpfasm.compiler import compile_collection
from pybpfasm.kernel import named_target
from pybpfasm.spec import CollectionSpec, ProgramSpec


def ours(target: str) -> CollectionSpec:
    """The programs as our compiler makes them for a kernel, and their maps."""
    return compile_collection(PROGRAMS, {}, {}, target=named_target(target))


@attrs.frozen
class Rivals:
    """A clang, and the kernel whose instructions ours are made for: `-mcpu=v3` has those of 6.1, `v4` those of 6.12."""

    clang: Clang
    target: str

    @property
    def name(self) -> str:
        """What stands above the columns."""
        return f"ours for {self.target}, {self.clang}"

    def programs(self) -> "Pair":
        """Compile both."""
        made = ours(self.target)
        return Pair(self, made, self.clang.programs())


@attrs.frozen
class Pair:
    """Our programs and their twins, by the same names."""

    rivals: Rivals
    ours: CollectionSpec
    twins: dict[str, ProgramSpec]


RIVALS = (Rivals(CLANG_14, "6.1"), Rivals(CLANG_19, "6.12"))


def slots(program: ProgramSpec) -> int:
    """How long a program is; an ld_imm64 has two."""
    return sum(instruction.slots for instruction in program.instructions)
