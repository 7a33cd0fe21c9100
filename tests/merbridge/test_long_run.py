"""Many connections that end in every way: all bytes are right, and nothing is left of them. A million by hand:

pytest tests/merbridge/test_long_run.py --connections 1000000 --timeout 7200
"""

import json
import subprocess
import sys
from typing import Final

import pytest
from cluster import SLOWNESS, Agent, Cluster, wait_until
from test_original_dst import nothing_is_left

from merbridge.demo.container import opened_pipe
from programs.maps import shares

OUT_PORT = 15001

# The proxy's side: echoes what it gets, in threads, and ends some of the connections itself. Nine times of ten it asks
# where the connection was meant to go, and ends altogether if that is somewhere else.
_SERVER: Final = """
import os, random, socket, struct, sys, threading
reset = struct.pack("ii", 1, 0)
meant = struct.pack("=H", socket.AF_INET) + struct.pack(">H", int(sys.argv[3])) + socket.inet_aton(sys.argv[2])
def serve(one, seed):
    chance = random.Random(seed)
    try:
        if chance.random() < 0.9 and (told := one.getsockopt(socket.SOL_IP, 80, 16)[:8]) != meant:
            print("wrong destination", told, flush=True)
            os._exit(1)
        while data := one.recv(65536):
            one.sendall(data)
            if chance.random() < 0.05:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
                break
    except OSError:
        pass
    one.close()
def accept(listener, seed):
    while True:
        seed += 1000
        serve(listener.accept()[0], seed)
listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind(("0.0.0.0", int(sys.argv[1])))
listener.listen(4096)
for number in range(32):
    threading.Thread(target=accept, args=(listener, number), daemon=True).start()
print("listening", flush=True)
sys.stdin.read()
"""

# The app's side: what it sends must come back, as far as anything does; then it ends in one of five ways.
_CLIENT: Final = """
import errno, json, os, random, socket, struct, sys, threading, time
address, port, count, workers = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), 8
reset = struct.pack("ii", 1, 0)
lock, told = threading.Lock(), {"made": 0, "wrong": 0, "cut": 0, "refused": 0}
def note(what):
    with lock:
        told[what] += 1
def once(chance):
    one = socket.socket()
    one.settimeout(60)
    if chance.random() < 0.05:  # given up before it stands
        one.setblocking(False)
        one.connect_ex((address, port))
        one.close()
        return
    try:
        one.connect((address, port))
    except OSError as error:
        one.close()
        if error.errno == errno.EADDRNOTAVAIL:  # to one address a pod has so many ports; they come back
            time.sleep(0.5)
            return once(chance)
        note("refused")
        return
    end = chance.choice(("close", "reset", "half", "unread", "idle"))
    sent = os.urandom(chance.choice((1, 64, 1500, 20000))) if end != "idle" else b""
    got = b""
    try:
        if sent:
            one.sendall(sent)
        if end == "half":
            one.shutdown(socket.SHUT_WR)
        if end != "unread":
            while len(got) < len(sent) and (piece := one.recv(65536)):
                got += piece
    except OSError:
        pass
    if got != sent[: len(got)]:
        note("wrong")
    elif end in ("close", "half") and got != sent:
        note("cut")
    if end == "reset":
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
    one.close()
    note("made")
def work(seed):
    chance = random.Random(seed)
    for _ in range(count // workers):
        once(chance)
threads = [threading.Thread(target=work, args=(seed,)) for seed in range(workers)]
for each in threads:
    each.start()
for each in threads:
    each.join()
print(json.dumps(told))
"""


@pytest.fixture
def connections(request: pytest.FixtureRequest) -> int:
    """How many to make."""
    count: int = request.config.getoption("--connections")
    return count


def test_nothing_is_left(cluster: Cluster, agent: Agent, connections: int) -> None:
    """No entry in set-up, none in the SOCKMAP, no share used; and no byte was wrong."""
    server = cluster.ztunnel.run(
        [sys.executable, "-ISc", _SERVER, str(OUT_PORT), cluster.server.ip, "7777"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert opened_pipe(server.stdout).readline() == "listening\n"
        arguments = [sys.executable, "-ISc", _CLIENT, cluster.server.ip, "7777", str(connections)]
        client = cluster.app.run(arguments, stdout=subprocess.PIPE)
        said, _ = client.communicate(timeout=(60 + connections / 100) * SLOWNESS)
        told = json.loads(said)
        print(told)
        assert (told["wrong"], told["refused"]) == (0, 0)
        assert told["made"] > connections * 0.9
        assert server.poll() is None
        # A connection that the server resets may lose what had not arrived; there are few of these.
        assert told["cut"] < told["made"] * 0.1
    finally:
        server.kill()
        server.communicate()
    wait_until(lambda: nothing_is_left(cluster), "no connection is left", 30)
    with cluster.pinned(shares, "shares") as used:
        assert {share.used for share in used.read_all().values()} <= {0}
    counters = cluster.counters()
    assert (counters["original_dst_full"], counters["share_used_up"]) == (0, 0)
