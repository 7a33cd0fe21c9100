"""bpf_conformance in the interpreter: every vector ends with the result that the suite expects."""

import pytest
from conformance.vectors import Vector, need_vectors, vectors

from pybpfasm import sim

VECTORS = vectors()


def test_the_whole_suite_is_here() -> None:
    """All 313 are run."""
    need_vectors(VECTORS)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.name)
def test_vector(vector: Vector) -> None:
    """One vector of the suite gives its result."""
    assert sim.run(list(vector.instructions), mem=vector.memory).ret == vector.result & (1 << 64) - 1
