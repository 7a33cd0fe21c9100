"""Types of program, each tried by loading one that does nothing."""

import functools

from pybpfasm.kernel.features import EXTENSION, Feature, loading_spec
from pybpfasm.kernel.probes.sample_programs import SAMPLES, sample_program
from pybpfasm.uapi import ProgramType


def _feature(program_type: ProgramType) -> Feature:
    sample = SAMPLES[program_type]
    probe = functools.partial(_load, program_type)
    return Feature(f"programs of type {program_type.name.lower()}", sample.since, probe, sample.option)


def _load(program_type: ProgramType) -> str | None:
    return loading_spec(sample_program(program_type))


PROGRAM_TYPES: dict[ProgramType, Feature] = {
    each: EXTENSION if each == ProgramType.EXT else _feature(each) for each in ProgramType if each != ProgramType.UNSPEC
}
