"""All looks, one after the other: what one of them cannot do does not keep the others from it."""

from collections.abc import Callable, Iterable
from typing import TypeVar

from merbridge.config import Config
from merbridge.datapath.pins import Pins
from merbridge.doctor.cluster import look_at_source, look_at_ztunnel, look_for_istio_cni
from merbridge.doctor.finding import Finding, note, ok, problem
from merbridge.doctor.firewall import look_for_rules
from merbridge.doctor.hooks import look_at_hooks
from merbridge.doctor.node import (
    look_at_cgroups,
    look_at_kernel,
    look_at_pins,
    look_at_privileges,
    look_at_processes,
)
from merbridge.errors import MerbridgeError
from merbridge.model import Snapshot
from merbridge.observe.report import read_report
from merbridge.watchers import NodeObserver, host_cgroup_root
from pybpfasm.errors import BpfError

T = TypeVar("T")


def examine(config: Config, no_source: str = "") -> list[Finding]:
    """Look at everything, changing nothing. `no_source` is why there is no source to look at."""
    found: list[Finding] = []

    def attempt(area: str, look: Callable[[], T]) -> T | None:
        try:
            return look()
        except (MerbridgeError, BpfError) as error:
            found.append(problem(area, " ".join(str(error).split())))
        except OSError as error:
            found.append(problem(area, f"{error.filename or 'the kernel'}: {error.strerror}"))
        return None

    def findings(area: str, look: Callable[[], Iterable[Finding]]) -> None:
        found.extend(attempt(area, lambda: list(look())) or [])

    findings("kernel", look_at_kernel)
    findings("privileges", look_at_privileges)
    root = config.cgroup_root or attempt("cgroups", lambda: host_cgroup_root(config.proc))
    observation = None
    if root is not None:
        findings("cgroups", lambda: look_at_cgroups(config, root))
        observer = NodeObserver(config.proc, root, config.exempt_cgroup, config.host_pid)
        observation = attempt("processes", observer.observe)
    if observation is not None:
        findings("processes", lambda: look_at_processes(config, observation))
    findings("pins", lambda: look_at_pins(config))
    if root is not None:
        findings("hooks", lambda: look_at_hooks(Pins(config.bpffs), root))
    snapshot: Snapshot | None = None
    if no_source:
        found.append(problem("source", no_source))
    else:
        snapshot, of_source = attempt("source", lambda: look_at_source(config)) or (None, [])
        found += of_source
    if snapshot is not None and observation is not None:
        known = snapshot
        findings("ztunnel", lambda: look_at_ztunnel(config, known, observation))
        findings("iptables", lambda: look_for_rules(config, known, observation))
    findings("istio-cni", lambda: look_for_istio_cni(config, snapshot))
    findings("agent", lambda: _look_at_agent(Pins(config.bpffs)))
    return found


def _look_at_agent(pins: Pins) -> list[Finding]:
    if not pins.root.is_dir() or not pins.exist():
        return [note("agent", "nothing is attached yet", "start it: python -m merbridge run")]
    report = read_report(pins)
    return [problem("agent", text) for text in report.problems] or [ok("agent", "runs, and has no problem to tell")]
