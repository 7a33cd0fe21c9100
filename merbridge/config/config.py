"""The settings' values."""

from pathlib import Path

import attrs


@attrs.frozen
class Config:
    """What the agent is told; `merbridge.config.settings` says what each setting means.

    `source` is "" for commands that take no --source. `cgroup_root` is None where it is to be found by PID 1's mounts,
    `kubeconfig` and `context` where they are to be found as kubectl does.
    """

    config: Path | None
    source: str
    kubeconfig: Path | None
    context: str | None
    node_name: str
    cgroup_root: Path | None
    bpffs: Path
    proc: Path
    host_pid: int
    out_port: int
    in_port: int
    hbone_port: int
    dns_port: int
    dns_capture: str
    exempt_cgroup: str
    inbound: str
    fail_open: str
    listen: str
    log_level: str
    log_format: str
    ztunnel_namespace: str
    max_pods: int
    max_connections: int
    splice: str
    annotate: str
