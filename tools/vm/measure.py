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
from pybpfasm.errors import BpfError
from pybpfasm.isa import Instruction, encode
from pybpfasm.kernel import Descriptor, Map
from pybpfasm.kernel import sys as kernel
from pybpfasm.kernel.features import FEATURES
from pybpfasm.spec import MapSpec, ProgramSpec
from pybpfasm.uapi import Command

SPLICE = ("off", "to-ztunnel", "both")
LOG_BYTES = 1 << 16
LOG_STATISTICS = 4  # BPF_LOG_STATS of include/linux/bpf_verifier.h


@attrs.frozen
class Program:
    """One program: `instructions` in slots of 8 bytes, those the verifier processed, the size of the machine code."""

    instructions: int
    processed: int
    jit_bytes: int


@attrs.frozen
class Measured:
    """One kernel. Programs by name and splice setting, None for one that is refused; features by name."""

    release: str
    machine: str
    programs: dict[str, dict[str, Program | None]]
    features: dict[str, bool]


def measure() -> Measured:
    """Load every program, and probe every feature. Raises `KernelError` without the privilege."""
    programs: dict[str, dict[str, Program | None]] = {}
    for splice in SPLICE:
        specs = collection(DatapathSettings(splice=splice))
        for name, spec in specs.programs.items():
            programs.setdefault(name, {})[splice] = _measure(spec, {each: specs.maps[each] for each in spec.maps})
    system = os.uname()
    return Measured(system.release, system.machine, programs, {each.name: each.supported() for each in FEATURES})


def _measure(spec: ProgramSpec, maps: dict[str, MapSpec]) -> Program | None:
    with ExitStack() as held:
        created = {name: held.enter_context(Map.create(each)) for name, each in maps.items()}
        code = encode(_with_map(instruction, created) for instruction in spec.instructions)
        try:
            return _load(spec, code)
        except BpfError as error:
            print(f"{spec.name}: {error}", file=sys.stderr)
            return None


def _with_map(instruction: Instruction, maps: dict[str, Map]) -> Instruction:
    if instruction.symbol is None:
        return instruction
    return instruction._replace(imm=maps[instruction.symbol].fd, symbol=None)


def _load(spec: ProgramSpec, code: bytes) -> Program:
    """Load with the verifier's statistics, written since 5.2; the program's info has them from 5.16 on."""
    instructions, license_ = kernel.buffer(code), kernel.buffer(spec.license.encode() + b"\0")
    log = kernel.buffer(LOG_BYTES)
    attributes = kernel.new(
        "prog_load",
        prog_type=spec.type,
        expected_attach_type=spec.attach_type,
        insns=kernel.address(instructions),
        insn_cnt=len(code) // 8,
        license=kernel.address(license_),
        log_level=LOG_STATISTICS,
        log_size=LOG_BYTES,
        log_buf=kernel.address(log),
    )
    with Descriptor(kernel.bpf(Command.PROG_LOAD, attributes, f"load program {spec.name}")) as program:
        info = kernel.new("prog_info")
        request = kernel.new("info_by_fd", bpf_fd=program.fd, info_len=kernel.size_of(info), info=kernel.address(info))
        kernel.bpf(Command.OBJ_GET_INFO_BY_FD, request, f"ask for program {spec.name}")
    processed = re.search(rb"processed (\d+) insns", kernel.contents(log))
    return Program(len(code) // 8, int(processed[1]) if processed else 0, info.jited_prog_len)


if __name__ == "__main__":
    json.dump(attrs.asdict(measure()), sys.stdout)
