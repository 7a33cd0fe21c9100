"""What the running kernel makes of the mesh's programs, and which features it has: one JSON object on standard output.

    python -m tools.vm.measure

It is run in each kernel's machine by tools.vm.tables.
"""

import json
import os
import re
import sys
from contextlib import ExitStack

import attrs

from merbridge.datapath.collection import DatapathSettings, collection
from pybpfasm import kernel
from pybpfasm.errors import BpfError
from pybpfasm.isa import encode
from pybpfasm.kernel.features import FEATURES
from pybpfasm.spec import MapSpec, ProgramSpec
from tools.vm.configurations import NEEDS, SPLICE

LOG_STATISTICS = 4  # BPF_LOG_STATS of include/linux/bpf_verifier.h


@attrs.frozen
class Program:
    """One program: `instructions` in slots of 8 bytes, those the verifier processed, the size of the machine code."""

    instructions: int
    processed: int
    jit_bytes: int


@attrs.frozen
class Measured:
    """One kernel. Programs by name and splice setting, None where it lacks a feature for one; features by name."""

    release: str
    machine: str
    programs: dict[str, dict[str, Program | None]]
    features: dict[str, bool]


def measure() -> Measured:
    """Load every program, and probe every feature.

    Raises `BpfError` for a program that is refused though the kernel has all that it needs, and without the privilege.
    """
    programs: dict[str, dict[str, Program | None]] = {}
    for splice in SPLICE:
        specs = collection(DatapathSettings(splice=splice))
        for name, spec in specs.programs.items():
            programs.setdefault(name, {})[splice] = _measure(spec, {each: specs.maps[each] for each in spec.maps})
    system = os.uname()
    return Measured(system.release, system.machine, programs, {each.name: each.supported() for each in FEATURES})


def _measure(spec: ProgramSpec, maps: dict[str, MapSpec]) -> Program | None:
    with ExitStack() as held:
        created = {name: held.enter_context(kernel.Map.create(each)) for name, each in maps.items()}
        try:
            program = held.enter_context(kernel.Program.load(spec, created, log_level=LOG_STATISTICS))
        except BpfError:
            if all(feature.supported() for feature in NEEDS[spec.name]):
                raise
            return None
        # The program's info has the number of processed instructions from 5.16 on only, the log from 5.2 on.
        processed = re.search(r"processed (\d+) insns", program.log)
        return Program(slots(spec), int(processed[1]) if processed else 0, program.info().jited_size)


def slots(spec: ProgramSpec) -> int:
    """How many instructions it has, in slots of 8 bytes; an instruction of 64 bits takes two."""
    return len(encode(each._replace(symbol=None) for each in spec.instructions)) // 8


def main() -> int:
    """Print it; the exit status."""
    try:
        measured = measure()
    except BpfError as error:
        print(f"tools.vm.measure: {error}", file=sys.stderr)
        return 1
    json.dump(attrs.asdict(measured), sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
