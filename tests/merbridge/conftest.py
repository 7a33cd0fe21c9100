"""What the tests of the node agent share: a small node for each module, and the agent running on it."""

from collections.abc import Iterator

import pytest
from cluster import Agent, Cluster
from pod_processes import start, tree
from pod_sockets import PodSockets

__all__ = ["agent", "app", "cluster", "fresh_sockets", "host", "outside", "start", "tree", "ztunnel"]


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


@pytest.fixture(scope="module")
def app(cluster: Cluster, agent: Agent) -> Iterator[PodSockets]:
    """Sockets of an enrolled pod."""
    with PodSockets(cluster.app) as sockets:
        yield sockets


@pytest.fixture(scope="module")
def host(cluster: Cluster, agent: Agent) -> Iterator[PodSockets]:
    """Sockets of the host."""
    with PodSockets(cluster.node.host()) as sockets:
        yield sockets


@pytest.fixture(scope="module")
def ztunnel(cluster: Cluster, agent: Agent) -> Iterator[PodSockets]:
    """Sockets of ztunnel."""
    with PodSockets(cluster.ztunnel) as sockets:
        yield sockets


@pytest.fixture(scope="module")
def outside(cluster: Cluster, agent: Agent) -> Iterator[PodSockets]:
    """Sockets of a pod outside the mesh."""
    with PodSockets(cluster.outside) as sockets:
        yield sockets


@pytest.fixture
def fresh_sockets(app: PodSockets, outside: PodSockets, ztunnel: PodSockets, host: PodSockets) -> Iterator[None]:
    """For a test that begins without the last one's sockets: whatever it makes is closed after it."""
    yield
    for sockets in (app, outside, ztunnel, host):
        sockets.close_all()
