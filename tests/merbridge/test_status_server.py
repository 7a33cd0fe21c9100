"""/healthz, /readyz and /metrics: what a probe and a scrape get, from a real agent over real HTTP."""

import http.client
import re
import socket
import threading
import time
from collections.abc import Iterator

import attrs
import pytest
from cluster import Cluster, wait_until

from merbridge.demo.pod import connect
from merbridge.errors import MerbridgeError
from merbridge.observe.metrics import Timing, as_metrics
from merbridge.observe.report import HookReport, MapReport, PodReport, Report, SourceReport
from merbridge.observe.server import MOST_CONNECTIONS, REQUEST_SECONDS, STALE_SECONDS, StatusServer

SAMPLE = re.compile(r'[a-z_]+(\{[a-z_]+="(\\.|[^"\\])*"\})? -?[0-9]+(\.[0-9]+)?')

REPORT = Report(
    agent_running=True,
    node_name="node-1",
    cgroup_root="/sys/fs/cgroup",
    out_port=15001,
    ztunnel="istio-system/ztunnel",
    ztunnel_ip="10.0.0.9",
    ztunnel_ip6=None,
    hooks=[HookReport("connect4", True, 1, 2, 3), HookReport("connect6", False, None, None, None)],
    sources=[SourceReport('file:a "strange\\name"\n', True, "", 7, ""), SourceReport("pods", False, "", None, "away")],
    pods=[
        PodReport("shop", "web", None, None, True, True, True, "", "1", False, 3, 1, 7),
        PodReport("shop", "db", None, None, False, True, False, "", "2", False, 3, 1, 8),
    ],
    counters={"redirected": 5, "redirected_to_pod": 2, "refused_no_ztunnel": 3, "spliced": 4},
    maps=[MapReport("pods", 11, 2, 4096)],
    drift={"pins": 1, "programs": 0, "entries": 6},
    process_events="tracepoints",
    process_events_lost=3,
    problems=["one", "two"],
)


@attrs.define
class Life:
    """What an agent shows of itself."""

    last_look: float = attrs.field(factory=time.monotonic)
    is_ready: bool = True
    reconciling: Timing = attrs.field(factory=Timing)


def get(port: int, path: str, method: str = "GET") -> tuple[int, str]:
    """Status and text."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


@pytest.fixture
def served() -> Iterator[tuple[StatusServer, Life]]:
    """A server without an agent."""
    life = Life()
    server = StatusServer("127.0.0.1", 0, life, lambda: REPORT)
    yield server, life
    server.close()


def test_metrics_are_what_the_report_says() -> None:
    """Each number at its label, each family with help and type before it, strange names escaped."""
    text = as_metrics(REPORT, Timing(3, 0.25))
    lines = text.splitlines()
    assert text.endswith("\n")
    assert 'merbridge_redirects_total{from="pod"} 5' in lines
    assert 'merbridge_redirects_total{from="host"} 2' in lines
    assert 'merbridge_refusals_total{cause="no_ztunnel"} 3' in lines
    assert 'merbridge_refusals_total{cause="no_memory"} 0' in lines
    assert 'merbridge_program_attached{program="connect6"} 0' in lines
    assert 'merbridge_map_max_entries{map="pods"} 4096' in lines
    assert 'merbridge_pods{in_mesh="true"} 1' in lines
    assert 'merbridge_source_age_seconds{source="file:a \\"strange\\\\name\\"\\n"} 7' in lines
    assert "merbridge_process_events_lost_total 3" in lines
    assert "merbridge_problems 2" in lines
    assert "merbridge_reconcile_seconds_sum 0.250000" in lines
    assert "merbridge_reconcile_seconds_count 3" in lines
    assert all(SAMPLE.fullmatch(line) for line in lines if not line.startswith("#"))
    families = [line.split()[2] for line in lines if line.startswith("# TYPE")]
    assert len(families) == len(set(families))
    named = {re.split(r"[{ ]", line)[0].removesuffix("_sum").removesuffix("_count") for line in lines if line[0] != "#"}
    assert named == set(families)


def test_health_is_whether_the_loop_goes_round(served: tuple[StatusServer, Life]) -> None:
    """An agent that hangs is ill, whatever it would say."""
    server, life = served
    assert get(server.port, "/healthz") == (200, "ok\n")
    life.last_look -= STALE_SECONDS + 1
    status, text = get(server.port, "/healthz")
    assert (status, text.startswith("the agent has not looked at the node for 31 s")) == (503, True)


def test_readiness_is_whether_all_is_attached(served: tuple[StatusServer, Life]) -> None:
    """Not before the agent says so, not with a hook missing; other problems are told."""
    server, life = served
    assert get(server.port, "/readyz") == (503, "one\ntwo\n")  # connect6 is missing
    life.is_ready = False
    assert get(server.port, "/readyz") == (503, "the agent is starting\n")


def test_other_requests_are_refused(served: tuple[StatusServer, Life]) -> None:
    """In words; HEAD has no body."""
    server, _ = served
    assert get(server.port, "/") == (404, "there are /healthz, /readyz and /metrics\n")
    assert get(server.port, "/healthz", "POST")[0] == 501
    assert get(server.port, "/healthz?verbose", "HEAD") == (200, "")


def test_a_client_that_says_nothing_holds_up_nobody(served: tuple[StatusServer, Life]) -> None:
    """Others are answered meanwhile."""
    server, _ = served
    with socket.create_connection(("127.0.0.1", server.port)) as silent:
        silent.sendall(b"GET /metr")
        assert get(server.port, "/healthz")[0] == 200


def test_slow_clients_are_few_and_end(served: tuple[StatusServer, Life]) -> None:
    """One byte every now and then keeps no connection for longer than a request may take, and 16 take all there is."""
    server, _ = served
    silent = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(3 * MOST_CONNECTIONS)]
    try:
        threads = threading.active_count()
        assert threads <= MOST_CONNECTIONS + 4
        deadline = time.monotonic() + 4 * REQUEST_SECONDS
        while any(is_open(each) for each in silent):
            assert time.monotonic() < deadline
            time.sleep(0.2)
        assert get(server.port, "/healthz")[0] == 200
    finally:
        for each in silent:
            each.close()


def is_open(client: socket.socket) -> bool:
    """Send one byte more; whether the server still takes it."""
    try:
        client.sendall(b"G")
        client.setblocking(False)
        return client.recv(1) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False


def test_a_port_that_is_taken_is_told(served: tuple[StatusServer, Life]) -> None:
    """In a line that names the setting."""
    with pytest.raises(MerbridgeError, match=r"^cannot listen at 127.0.0.1 port \d+ \(--listen\): Address"):
        StatusServer("127.0.0.1", served[0].port, Life(), lambda: REPORT)


def test_an_agent_answers(cluster: Cluster) -> None:
    """It is ready when it says so; a redirected connection is counted; without pins it is not ready, but healthy."""
    agent = cluster.start_agent("--listen", "127.0.0.1:0").ready()
    port = agent.wait_for("listening")["port"]
    assert get(port, "/healthz") == (200, "ok\n")
    assert get(port, "/readyz") == (200, "ok\n")
    assert cluster.app.call(connect, cluster.server.ip, 1)["error"] == "ECONNREFUSED"  # nobody listens at ztunnel's
    lines = get(port, "/metrics")[1].splitlines()
    assert 'merbridge_redirects_total{from="pod"} 1' in lines
    assert 'merbridge_program_attached{program="connect4"} 1' in lines
    assert "merbridge_ztunnel_known 1" in lines
    (looks,) = (line for line in lines if line.startswith("merbridge_reconcile_seconds_count"))
    wait_until(lambda: looks not in get(port, "/metrics")[1], "it looks again")
    pin = cluster.bpffs / "links" / "connect4"
    pin.unlink()
    pin.mkdir()  # the agent cannot put that right
    wait_until(lambda: get(port, "/readyz")[0] == 503, "a program that is not attached is seen")
    assert "program connect4 is not attached" in get(port, "/readyz")[1]
    pin.rmdir()
    wait_until(lambda: get(port, "/readyz")[0] == 200, "it is pinned again", 12)
    wait_until(lambda: 'merbridge_drift_total{what="pins"} 1' in get(port, "/metrics")[1].splitlines(), "it is counted")
    assert agent.stop() == 0
    with pytest.raises(ConnectionRefusedError):
        get(port, "/healthz")
    cluster.end_datapath()


@pytest.mark.parametrize(
    "value",
    ["15020", "localhost:15020", "::1:15020", "127.0.0.1:65536", "127.0.0.1:", "[::1]", "[127.0.0.1]:1", "[::1:1"],
)
def test_a_wrong_address_is_told(cluster: Cluster, value: str) -> None:
    """Before anything is touched."""
    done = cluster.merbridge("run", "--source", f"file:{cluster.source}", "--listen", value)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "--listen" in line
    assert "127.0.0.1:15020" in line
