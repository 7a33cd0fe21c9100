"""The node's cgroup2 directories: where they lie, how kubelet and containerd name them, how they are removed."""

import contextlib
import os
import re
import secrets
import time
from pathlib import Path
from typing import Literal

from merbridge.demo.pod import cgroup_pids, kill_cgroup
from merbridge.errors import MerbridgeError

CgroupDriver = Literal["systemd", "cgroupfs"]

LEAVE_SECONDS = 5.0


def cgroup2_mount() -> Path:
    """Where this process sees a cgroup2 file system; raises MerbridgeError when there is none."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        if after.split()[0] == "cgroup2":
            escaped = before.split()[4]
            return Path(re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), escaped))
    raise MerbridgeError(
        "no cgroup2 file system is mounted: mount one, for example "
        "`mkdir -p /sys/fs/cgroup/unified && mount -t cgroup2 none /sys/fs/cgroup/unified`"
    )


def remove_cgroup(directory: Path) -> None:
    """End every process at or below a cgroup directory, then remove it; raises MerbridgeError when it stays busy."""
    deadline = time.monotonic() + LEAVE_SECONDS
    while directory.exists():
        kill_cgroup(directory)
        for path, _, _ in os.walk(directory, topdown=False):
            with contextlib.suppress(OSError):  # a killed process takes a moment to leave; the next round removes it
                os.rmdir(path)
        if time.monotonic() > deadline:
            pids = ", ".join(map(str, cgroup_pids(directory))) or "none that can be seen"
            raise MerbridgeError(f"cannot remove cgroup {directory}: still busy (processes: {pids}); remove it later")
        time.sleep(0.002)


def remove_stale_cgroups(mount: Path, purpose: str) -> None:
    """Remove what nodes for this purpose left behind when they were killed; raises as `remove_cgroup` does."""
    for path in mount.glob(f"merbridge-{purpose}-*"):
        pid = path.name.removeprefix(f"merbridge-{purpose}-")
        if pid.isdecimal() and not Path("/proc", pid).exists():
            remove_cgroup(path)


def pod_cgroup(root: Path, uid: str, driver: CgroupDriver) -> Path:
    """A pod's directory below `root`, as kubelet names it."""
    if driver == "cgroupfs":
        return root / "kubepods" / "burstable" / f"pod{uid}"
    pod_slice = f"kubepods-burstable-pod{uid.replace('-', '_')}.slice"
    return root / "kubepods.slice" / "kubepods-burstable.slice" / pod_slice


def container_cgroup(pod_directory: Path, driver: CgroupDriver) -> Path:
    """A new container's directory below its pod's, as containerd names it."""
    container_id = secrets.token_hex(32)
    return pod_directory / (container_id if driver == "cgroupfs" else f"cri-containerd-{container_id}.scope")
