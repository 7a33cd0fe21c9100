"""A container's very first instruction is a connect: thousands of times, and none goes out in the clear.

Each start is a new cgroup of an enrolled pod and a new process in its network namespace, which connects at once; the
agent sees the cgroup later, or never. Judged by every packet between the pods and by the server's own log.
`--starts 10000` is the long run.
"""

import json
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Final, Self

import pytest
from cluster import SLOWNESS, Agent, Cluster, wait_until
from pod_sockets import PodSockets

ETH_P_ALL = 3
SECONDS_A_START = 0.05

# Arguments: the pod's cgroup, where to, how often. Prints how often each outcome came, 0 for a connection.
STARTS: Final = """
import collections, json, os, socket, sys
folder, address, port, count = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
outcomes = collections.Counter()
for number in range(count):
    cgroup = f"{folder}/cri-containerd-{number:064x}.scope"
    os.mkdir(cgroup)
    pid = os.fork()
    if pid == 0:
        with open(f"{cgroup}/cgroup.procs", "w") as processes:
            processes.write("0")
        # A socket belongs to the cgroup that its process is in when it is made.
        os._exit(socket.socket().connect_ex((address, port)))
    outcomes[os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])] += 1
    os.rmdir(cgroup)
print(json.dumps(outcomes))
"""


class Capture:
    """Every IPv4 packet on the pods' network, by source and destination address."""

    def __init__(self, cluster: Cluster) -> None:
        """Begin."""
        self.seen: Counter[tuple[str, str]] = Counter()
        self._socket = cluster.node.host().in_netns(
            lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        )
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 26)
        self._socket.settimeout(0.2)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._read)

    def __enter__(self) -> Self:
        """Go on until the end of the block."""
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        """End with the last packet, and see that none was lost."""
        self._ended.set()
        self._thread.join()
        lost = int.from_bytes(self._socket.getsockopt(263, 6, 8)[4:], sys.byteorder)  # SOL_PACKET, PACKET_STATISTICS
        self._socket.close()
        assert lost == 0, f"the capture lost {lost} packets"

    def _read(self) -> None:
        buffer = bytearray(128)
        while True:
            try:
                self._socket.recv_into(buffer)
            except TimeoutError:
                if self._ended.is_set():
                    return
                continue
            if buffer[12:14] == b"\x08\x00":
                self.seen[socket.inet_ntoa(buffer[26:30]), socket.inet_ntoa(buffer[30:34])] += 1


@pytest.fixture(scope="module")
def arrivals(cluster: Cluster, agent: Agent) -> Iterator[Counter[str]]:
    """Who has arrived at ztunnel, which listens and closes what it accepts."""
    found: Counter[str] = Counter()

    def accept(listener: socket.socket) -> None:
        while True:
            try:
                accepted, peer = listener.accept()
            except OSError:
                return
            accepted.close()
            found[peer[0]] += 1

    with PodSockets(cluster.ztunnel) as ztunnel:
        listener = ztunnel.listen(15001)
        listener.settimeout(None)
        thread = threading.Thread(target=accept, args=(listener,))
        thread.start()
        yield found
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_no_container_gets_out_before_it_is_known(
    cluster: Cluster, arrivals: Counter[str], request: pytest.FixtureRequest
) -> None:
    """All arrive at ztunnel; not one packet of the pod's goes to the server, and the server has seen nobody."""
    count = request.config.getoption("--starts") // SLOWNESS
    arguments = [str(cluster.app.cgroup), cluster.server.ip, "8080", str(count)]
    with PodSockets(cluster.server) as server, Capture(cluster) as capture:
        listener = server.listen(8080)
        starts = cluster.app.run([sys.executable, "-ISc", STARTS, *arguments], stdout=subprocess.PIPE)
        output, _ = starts.communicate(timeout=30 + count * SECONDS_A_START * SLOWNESS)
        assert json.loads(output) == {"0": count}
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.accept()
    wait_until(lambda: arrivals == {cluster.app.ip: count}, "all have arrived")
    assert capture.seen[cluster.app.ip, cluster.ztunnel.ip] > count
    assert capture.seen[cluster.app.ip, cluster.server.ip] == 0
