"""What the tests of the node agent share: a small node for each module, and the agent running on it."""

from collections.abc import Iterator

import pytest
from cluster import Agent, Cluster


@pytest.fixture(scope="module")
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A node with its pods, one a module, without an agent; afterwards nothing of it may be left."""
    name = request.module.__name__.rpartition(".")[2].removeprefix("test_").replace("_", "-")
    with Cluster(f"test-{name}") as started:
        yield started


@pytest.fixture(scope="module")
def agent(cluster: Cluster) -> Agent:
    """An agent that runs on the module's node and is ready; it is ended with the node."""
    return cluster.start_agent().ready()
