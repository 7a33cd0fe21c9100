"""The agent on a node full of pods, beside what is wanted of it. Needs root, and stress-ng (a Debian package).

python -m benchmarks.agent [--pods 250] [--containers 1000] [--enrolled 100] [--rest 60] [--storm 20] [--flips 100]
                           [--chart FILE.svg]

Pods are sleeping processes in cgroups and network namespaces, and are told to the agent by the test API server. Start:
from exec to the event `ready`, first with nothing there, then twice with the datapath of the last. Flip: from the API
server's change of a pod's label to the entry in the map by which the next connect() goes, 99th percentile. CPU is user
and system time of the agent's process, as a share of one core; at rest, and while stress-ng makes and ends processes
as fast as two cores can, outside pods and inside one. Memory is the resident set above that of a process that has
imported the package `kubernetes` and made a client.
"""

import argparse
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from apiserver import ApiServer

import programs.maps as layouts
from benchmarks.agent.chart import chart
from benchmarks.agent.crowd import NODE, Crowd, CrowdPod
from benchmarks.agent.figure import Figure
from merbridge.demo.container import opened_pipe
from merbridge.demo.namespaces import in_namespace
from merbridge.watchers.netns import _cookie_of_this_thread as cookie_of_this_thread
from pybpfasm.kernel import Map, TypedMap

ROOT = Path(__file__).parents[2]
TICKS = os.sysconf("SC_CLK_TCK")
CLIENT_ALONE = """
import kubernetes.client, time
from kubernetes.client import ApiClient, Configuration, CoreV1Api
CoreV1Api(ApiClient(Configuration()))
print("ready", flush=True)
time.sleep(60)
"""


class Agent:
    """A running agent."""

    def __init__(self, arguments: Sequence[str]) -> None:
        """Start it, and wait until it is ready; `start_seconds` is how long that took."""
        begin = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "merbridge", "run", *arguments, "--log-format", "json"],
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        log = opened_pipe(self.process.stderr)
        lines = []
        for line in log:
            lines.append(line)
            if '"event": "ready"' in line:
                break
        else:
            raise SystemExit("the agent ended: " + "".join(lines[-3:]))
        self.start_seconds = time.monotonic() - begin
        threading.Thread(target=lambda: [None for _ in log], daemon=True).start()

    def cpu_seconds(self) -> float:
        """User and system time so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def share_during(self, seconds: float) -> float:
        """The part of a core that it takes, in percent."""
        before, begin = self.cpu_seconds(), time.monotonic()
        time.sleep(seconds)
        return 100 * (self.cpu_seconds() - before) / (time.monotonic() - begin)

    def stop(self) -> None:
        """As an operator would."""
        self.process.terminate()
        self.process.wait()


def resident_mib(pid: int) -> float:
    """What a process has in memory."""
    (line,) = (line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def client_alone_mib() -> float:
    """What the Kubernetes client has by itself."""
    with subprocess.Popen([sys.executable, "-c", CLIENT_ALONE], stdout=subprocess.PIPE, text=True) as process:
        opened_pipe(process.stdout).readline()
        size = resident_mib(process.pid)
        process.kill()
    return size


@contextmanager
def storm(kind: str, cgroup: Path | None, seconds: float) -> Iterator[list[float]]:
    """Two of stress-ng's stressors of this name, in a cgroup or outside; how many processes a second, at its end."""
    with tempfile.NamedTemporaryFile(mode="r", suffix=".yaml") as told:
        command = ["stress-ng", f"--{kind}", "2", "--timeout", f"{seconds:.0f}s", "--metrics", "--yaml", told.name]
        if cgroup is not None:
            command = ["sh", "-c", f'echo $$ > {cgroup}/cgroup.procs; exec "$@"', "sh", *command]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        rates: list[float] = []
        try:
            yield rates
            process.wait(60)
        finally:
            process.kill()
            process.wait()
        rates += [float(each) for each in re.findall(r"bogo-ops-per-second-real-time: ([0-9.]+)", told.read())]


def flips(api: ApiServer, bpffs: Path, pod: CrowdPod, number: int) -> list[float]:
    """How long it takes from a label's change to the map, in milliseconds."""
    cookie = in_namespace(pod.netns_fd, cookie_of_this_thread)
    took = []
    with Map.open_any_size(bpffs / "maps" / "netns_info_map", layouts.netns_info_map.spec("netns_info_map")) as opened:
        members = TypedMap(layouts.netns_info_map, opened)
        for turn in range(number):
            wanted = bool(turn % 2)
            begin = time.monotonic()
            mode = "ambient" if wanted else "none"
            change = {"metadata": {"labels": {"istio.io/dataplane-mode": mode}}}
            api.store.merge("pods", pod.namespace, pod.name, change)
            while bool(members[cookie].flags & layouts.IN_MESH) != wanted:
                if time.monotonic() > begin + 10:
                    raise SystemExit("the label did not count within 10 s")
                time.sleep(0.0002)
            took.append(1000 * (time.monotonic() - begin))
            time.sleep(0.3 + turn % 10 / 50)  # labels change one by one
    return took


def measured(arguments: argparse.Namespace) -> Iterator[Figure]:
    """Build the node, and measure one after the other."""
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="merbridge-benchmark-")))
        crowd = stack.enter_context(Crowd(arguments.pods, arguments.containers, arguments.enrolled))
        api = stack.enter_context(ApiServer())
        for item in (*crowd.namespaces(), *crowd.objects()):
            api.store.put(item)
        api.write_kubeconfig(place / "kubeconfig")
        bpffs = place / "bpf"
        line = ["--source", "kubernetes", "--kubeconfig", str(place / "kubeconfig"), "--node-name", NODE]
        line += ["--cgroup-root", str(crowd.root), "--bpffs", str(bpffs), "--host-pid", str(crowd.host_pid)]
        cleanup = [
            sys.executable,
            "-m",
            "merbridge",
            "cleanup",
            "--bpffs",
            str(bpffs),
            "--host-pid",
            str(crowd.host_pid),
        ]
        stack.callback(subprocess.run, cleanup, stdout=subprocess.DEVNULL, cwd=ROOT, check=False)
        agent = Agent(line)
        stack.callback(lambda: agent.stop())
        yield Figure("first start", agent.start_seconds, "s", 2.0)
        again = []
        for _ in range(2):
            agent.stop()
            agent = Agent(line)
            again.append(agent.start_seconds)
        yield Figure("start with a datapath there", statistics.median(again), "s", 2.0)
        time.sleep(10)
        yield Figure("CPU at rest", agent.share_during(arguments.rest), "% of a core", 1.0)
        took = sorted(flips(api, bpffs, crowd.pods[0], arguments.flips))
        yield Figure("label to map, median", statistics.median(took), "ms")
        yield Figure("label to map, 99th percentile", took[int(len(took) * 0.99)], "ms", 50.0)
        inside = next(each for each in crowd.pods[-2].cgroup.iterdir() if each.is_dir())
        for kind in ("fork", "vfork"):
            for where, cgroup in (("outside pods", None), ("in a pod", inside)):
                with storm(kind, cgroup, arguments.storm + 4) as rates:
                    time.sleep(2)
                    share = agent.share_during(arguments.storm)
                yield Figure(f"stress-ng --{kind} 2 {where}", sum(rates), "processes/s")
                yield Figure(f"CPU meanwhile, {kind} {where}", share, "% of a core", None if cgroup else 5.0)
        own = resident_mib(agent.process.pid)
        yield Figure("memory", own, "MiB")
        yield Figure("memory above the client's own", own - client_alone_mib(), "MiB", 60.0)


def main() -> int:
    """Print each figure as it comes; 1 if one is more than is wanted."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.agent", description=(__doc__ or "").partition("\n")[0])
    for name, default in (("pods", 250), ("containers", 1000), ("enrolled", 100), ("flips", 100)):
        parser.add_argument(f"--{name}", type=int, default=default, metavar="N")
    for name, default in (("rest", 60), ("storm", 20)):
        parser.add_argument(f"--{name}", type=float, default=default, metavar="SECONDS")
    parser.add_argument("--chart", type=Path, metavar="FILE.svg", help="write the figures beside what is wanted")
    arguments = parser.parse_args()
    if shutil.which("stress-ng") is None:
        raise SystemExit("stress-ng is missing: apt-get install stress-ng")
    title = f"{arguments.pods} pods, {arguments.containers} containers, {arguments.enrolled} pods enrolled"
    print(title, flush=True)
    figures = []
    for figure in measured(arguments):
        figures.append(figure)
        wanted = "" if figure.wanted is None else f"  (wanted: at most {figure.wanted:g})"
        print(f"{figure.name:<40} {figure.value:>10.1f} {figure.unit}{wanted}", flush=True)
    if arguments.chart is not None:
        arguments.chart.write_text(chart(title, figures))
    return int(any(each.wanted is not None and each.value > each.wanted for each in figures))


if __name__ == "__main__":
    sys.exit(main())
