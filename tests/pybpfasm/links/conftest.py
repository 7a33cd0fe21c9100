"""Networks for the tests of links."""

from collections.abc import Iterator

import pytest
from small_network import Namespace, Wire
from small_programs import counter

from pybpfasm.kernel.maps import Map


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    """A network namespace, gone afterwards."""
    made = Namespace()
    yield made
    made.close()


@pytest.fixture
def wire() -> Iterator[Wire]:
    """Two namespaces joined by a veth pair, gone afterwards."""
    made = Wire()
    yield made
    made.close()


@pytest.fixture
def counts() -> Iterator[Map]:
    """An array of counters, for programs that count their runs."""
    with counter() as made:
        yield made
