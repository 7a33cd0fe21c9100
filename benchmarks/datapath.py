"""What redirection costs: nanoseconds in the hooks, and what an app notices, beside iptables. Needs root.

    python benchmarks/datapath.py [--connections 20000] [--before 200000] [--rounds 5]

All happens in one network namespace: a client, and a relay that asks for SO_ORIGINAL_DST as ztunnel does, and echoes,
or takes a stream in. "direct" is the same client that dials the same relay by its own address, nothing attached, so
that its bytes go by plain TCP; "iptables" dials a server's address and is sent there by REDIRECT, as sidecars are;
"merbridge" by the programs. They take turns; the numbers are medians of the rounds.

Hooks: the mean of so many runs, less that of a program that returns at once, attached beside, in the same runs; a
connection's sock_ops is the sum over both ends, whole. `--before` connections are made first. The kernel reads a clock
around each run, which is in both. Client and relay are Python: what they add to each round trip is the same for all and
brings the ratios nearer to 1.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, Final

import attrs

from merbridge.datapath.addresses import as_address, as_ip4
from merbridge.datapath.collection import DatapathSettings, collection
from merbridge.datapath.device_links import DIRECTIONS
from merbridge.demo.container import opened_pipe
from merbridge.demo.node import Node
from merbridge.demo.workloads import Pod
from merbridge.watchers.netns import read_netns
from programs.maps import IN_MESH, ZTUNNEL, PodInfo, Ztunnel, netns_info_map, settings
from pybpfasm import isa
from pybpfasm.kernel import Collection, Program, TypedMap, attach_cgroup, attach_sockmap, enable_stats
from pybpfasm.spec import ProgramSpec

RELAY_PORT, SERVER = 15001, ("198.51.100.1", 80)
GOALS: Final = {
    "ambient app": 180,
    "outside the mesh": 60,
    "sock_ops, same-node bytes on": 2000,
    "sock_ops, same-node bytes off": 600,
}

# Answers each request on stdin, a JSON list, with a line: medians in nanoseconds.
CLIENT: Final = """
import json, socket, statistics, struct, sys, time
clock = time.perf_counter_ns
reset = struct.pack("ii", 1, 0)
def connected(address):
    client = socket.socket()
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
    start = clock()
    client.connect(address)
    return client, clock() - start
def connects(address, count):
    times = []
    for _ in range(count):
        client, took = connected(address)
        client.close()
        times.append(took)
    return statistics.median(times)
def requests(address, count):
    times = []
    for _ in range(count):
        start = clock()
        client, _ = connected(address)
        client.sendall(b"x" * 64)
        client.recv(64)
        times.append(clock() - start)
        client.close()
    return statistics.median(times)
def round_trips(address, count):
    client, _ = connected(address)
    times = []
    for _ in range(count):
        start = clock()
        client.sendall(b"x" * 64)
        client.recv(64)
        times.append(clock() - start)
    client.close()
    return statistics.median(times)
def stream(address, mebibytes, size):
    client, _ = connected(address)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 0, 0))
    client.sendall(b"S" * 64)
    client.recv(1)
    piece = b"S" * size
    start = clock()
    for _ in range((mebibytes << 20) // size):
        client.sendall(piece)
    client.shutdown(socket.SHUT_WR)
    client.recv(1)
    took = clock() - start
    client.close()
    return took / mebibytes
def streams_64k(address, mebibytes):
    return stream(address, mebibytes, 65536)
def streams_1k(address, mebibytes):
    return stream(address, mebibytes, 1024)
for line in sys.stdin:
    name, address, count = json.loads(line)
    print(json.dumps(globals()[name](tuple(address), count)), flush=True)
"""

RELAY: Final = """
import select, socket, sys
listener = socket.socket()
listener.bind(("0.0.0.0", int(sys.argv[1])))
listener.listen(4096)
poll = select.epoll()
poll.register(listener, select.EPOLLIN)
open_ones = {}
sinks = set()
print("listening", flush=True)
while True:
    for fd, _ in poll.poll():
        if fd == listener.fileno():
            accepted, _ = listener.accept()
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                accepted.getsockopt(socket.SOL_IP, 80, 16)
            except OSError:
                pass
            open_ones[accepted.fileno()] = accepted
            poll.register(accepted, select.EPOLLIN)
            continue
        try:
            received = open_ones[fd].recv(65536)
            if fd in sinks:
                if not received:
                    open_ones[fd].sendall(b".")  # all has come
            elif received.startswith(b"S"):
                sinks.add(fd)
                open_ones[fd].sendall(b".")
            elif received:
                open_ones[fd].sendall(received)
        except OSError:
            received = b""
        if not received:
            sinks.discard(fd)
            open_ones.pop(fd).close()
"""


@attrs.frozen
class Client:
    """The client's process in a pod."""

    process: "subprocess.Popen[str]"

    def ask(self, name: str, address: tuple[str, int], count: int) -> float:
        """Let it measure; a median in nanoseconds."""
        print(json.dumps([name, address, count]), file=self.process.stdin, flush=True)
        return float(json.loads(opened_pipe(self.process.stdout).readline()))


@contextmanager
def running(pod: Pod, script: str, *arguments: str) -> Iterator["subprocess.Popen[str]"]:
    """A script in the pod, until the end of the block."""
    process = pod.run([sys.executable, "-ISc", script, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@contextmanager
def attached(node: Node, pod: Pod, splice: str, flags: int = IN_MESH) -> Iterator[dict[str, Program]]:
    """The datapath on the node, for a pod that is its own ztunnel; by name its programs, and `empty`."""
    cookie = read_netns(pod.containers["app"].pid, Path("/proc")).cookie
    own = IPv4Address(pod.ip)
    with ExitStack() as held:
        loaded = held.enter_context(Collection.load(collection(DatapathSettings(splice=splice))))
        none = as_address(None)
        TypedMap(netns_info_map, loaded.maps["netns_info_map"]).set(
            cookie, PodInfo(flags=flags, ip4=as_ip4(own), ip6=none)
        )
        place = Ztunnel(netns_cookie=cookie, ip4=as_ip4(own), ip6=none)
        TypedMap(settings, loaded.maps["settings"]).set(ZTUNNEL, place)
        programs = dict(loaded.programs)
        connect4 = programs["connect4"].spec
        code = (isa.mov_imm(0, 1), isa.exit_program())
        empty = ProgramSpec("empty", connect4.type, connect4.attach_type, connect4.context, code, {})
        programs["empty"] = held.enter_context(Program.load(empty))
        for name, program in programs.items():
            if name == "redirect":
                if splice != "off":
                    held.enter_context(attach_sockmap(program, loaded.maps["sockets"]))
            elif name not in DIRECTIONS:  # those at devices see none of this: all happens in one namespace
                held.enter_context(attach_cgroup(program, node.cgroup_root))
        yield programs


@contextmanager
def redirected_by_iptables(pod: Pod) -> Iterator[None]:
    """A REDIRECT in the pod's network namespace, as a sidecar has it."""
    rule = ["OUTPUT", "-p", "tcp", "-d", SERVER[0], "--dport", str(SERVER[1]), "-j", "REDIRECT"]
    to = ["--to-ports", str(RELAY_PORT)]

    def iptables(action: str) -> None:
        command = ["iptables", "-w", "-t", "nat", action, *rule, *to]
        pod.in_netns(lambda: subprocess.run(command, check=True, capture_output=True))

    iptables("-A")
    try:
        yield
    finally:
        iptables("-D")


def nanoseconds(program: Program, before: Any) -> float:
    """A run's mean since."""
    now = program.stats
    return float(now.run_time_ns - before.run_time_ns) / max(now.run_count - before.run_count, 1)


def hooks(node: Node, pod: Pod, client: Client, options: argparse.Namespace) -> dict[str, float]:
    """Nanoseconds in connect4, less the empty program's, and in sock_ops for a whole connection."""
    found: dict[str, float] = {}
    for name, splice, flags in (
        ("ambient app", "to-ztunnel", IN_MESH),
        ("sock_ops, same-node bytes off", "off", IN_MESH),
        ("outside the mesh", "to-ztunnel", 0),
    ):
        to = SERVER if flags else (pod.ip, RELAY_PORT)
        with attached(node, pod, splice, flags) as programs, enable_stats():
            if name == "ambient app":
                client.ask("connects", to, options.before)
            before = {each: program.stats for each, program in programs.items()}
            client.ask("connects", to, options.connections)
            connect4 = nanoseconds(programs["connect4"], before["connect4"])
            floor = nanoseconds(programs["empty"], before["empty"])
            events = programs["sockops"].stats.run_time_ns - before["sockops"].run_time_ns
            if not name.startswith("sock_ops"):
                found[name] = connect4 - floor
            if flags:
                kind = name if name.startswith("sock_ops") else "sock_ops, same-node bytes on"
                found[kind] = events / options.connections
    return found


def on_the_wall(node: Node, pod: Pod, client: Client, options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Medians in nanoseconds of what an app notices, by what is measured and by way."""
    taken: dict[str, dict[str, list[float]]] = {}
    for _ in range(options.rounds):
        for what, name, count in (
            ("connect()", "connects", options.connections // 4),
            ("connect, 64 B there and back", "requests", options.connections // 4),
            ("64 B there and back", "round_trips", options.connections // 4),
            ("a MiB of a stream, 64 KiB a piece", "streams_64k", 512),
            ("a MiB of a stream, 1 KiB a piece", "streams_1k", 64),
        ):
            rows = taken.setdefault(what, {"direct": [], "iptables": [], "merbridge": []})
            rows["direct"].append(client.ask(name, (pod.ip, RELAY_PORT), count))
            if shutil.which("iptables"):
                with redirected_by_iptables(pod):
                    rows["iptables"].append(client.ask(name, SERVER, count))
            with attached(node, pod, "to-ztunnel"):
                rows["merbridge"].append(client.ask(name, SERVER, count))
    return {
        what: {way: statistics.median(times) for way, times in rows.items() if times} for what, rows in taken.items()
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--connections", type=int, default=20_000, help="for each figure")
    parser.add_argument("--before", type=int, default=200_000, help="connections that are made before")
    parser.add_argument("--rounds", type=int, default=5, help="for the figures on the wall")
    options = parser.parse_args()
    with Node("bench-datapath") as node:
        pod = node.add_pod("app")
        with running(pod, RELAY, str(RELAY_PORT)) as relay, running(pod, CLIENT) as process:
            opened_pipe(relay.stdout).readline()
            client = Client(process)
            print("nanoseconds in the hooks")
            for name, found in hooks(node, pod, client, options).items():
                print(f"  {name:34} {found:8,.0f}   wanted {GOALS[name]:,} at most")
            print(f"\nmedians in microseconds{'direct':>21} {'iptables':>10} {'merbridge':>10}  of direct  of iptables")
            for what, rows in on_the_wall(node, pod, client, options).items():
                ours, iptables = rows["merbridge"], rows.get("iptables")
                times = "".join(
                    f"{rows[way] / 1000:11.1f}" if way in rows else f"{'-':>11}"
                    for way in ("direct", "iptables", "merbridge")
                )
                beside = "-" if iptables is None else f"{ours / iptables:.2f}"
                print(f"  {what:40}{times}  {ours / rows['direct']:9.2f}  {beside:>11}")


if __name__ == "__main__":
    main()
