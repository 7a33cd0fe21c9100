"""How many instructions the running kernel's verifier goes through, over all paths, until a program is accepted."""

import re
from collections.abc import Mapping

from pybpfasm.kernel import Collection
from pybpfasm.spec import CollectionSpec, MapSpec, ProgramSpec

_STATISTICS = 4
_PROCESSED = re.compile(r"^processed (\d+) insns", re.MULTILINE)


def processed(programs: Mapping[str, ProgramSpec], maps: Mapping[str, MapSpec]) -> dict[str, int]:
    """What the verifier says, by program. Raises `VerifierError` for one that it refuses; needs root."""
    with Collection.load(CollectionSpec(programs, maps), log_level=_STATISTICS) as loaded:
        return {name: _count(program.log) for name, program in loaded.programs.items()}


def _count(log: str) -> int:
    found = _PROCESSED.search(log)
    if found is None:
        raise ValueError(f"the verifier's log has no statistics: {log[-200:]!r}")
    return int(found.group(1))
