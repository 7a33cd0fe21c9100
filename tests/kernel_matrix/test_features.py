"""Each feature's probe gives the answer that the kernel's version leads to expect."""

import pytest

from pybpfasm.kernel.features import FEATURES, Feature


@pytest.mark.parametrize(
    "feature", [pytest.param(each, marks=pytest.mark.needs(each), id=each.name) for each in FEATURES]
)
def test_probe(feature: Feature) -> None:
    """A kernel of the feature's version or later has it: the marker fails the test where it has not."""
    assert feature.supported()
