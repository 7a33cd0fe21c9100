"""Pods' cgroups: the pod's UID in a cgroup's path, the ids of a pod's cgroups, and where the node's cgroup2 tree is.

The kubelet names a pod's cgroup after its UID, in one of two ways:

    systemd:   kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod0a1b2c3d_…_….slice/cri-containerd-ID.scope
    cgroupfs:  kubepods/burstable/pod0a1b2c3d-…-…/ID

Nested nodes (kind) put more in front of it. A static pod's UID is a hash: 32 hexadecimal digits without dashes.
"""

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePath

import attrs

from merbridge.errors import MerbridgeError
from merbridge.watchers.mounts import Mount, mounts_of

_UID = r"[0-9a-f]{8}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{12}|[0-9a-f]{32}"
_POD_DIRECTORY = re.compile(
    rf"(?:^|/)(?:pod(?P<cgroupfs>{_UID})|[^/]*kubepods[^/]*-pod(?P<systemd>{_UID})\.slice)(?=/|$)", re.IGNORECASE
)


# Instead of a cgroup's name: none at all.
NO_CGROUP = "none"


@attrs.frozen
class Cgroup:
    """A directory of the cgroup2 tree. `id` is what the kernel calls the cgroup's id: the inode's number.

    `pod_uid` is that of the pod whose own directory this is or lies in.
    """

    path: Path
    id: int
    pod_uid: str | None


def pod_uid_of(cgroup_path: str) -> str | None:
    """The UID of the pod whose cgroup `cgroup_path` is or lies in, lower case and with dashes, as the API has it.

    Of pods within pods the outermost counts: it is the kubelet's, while what is below may be named by the container.
    """
    match = _POD_DIRECTORY.search(cgroup_path)
    if match is None:
        return None
    uid: str = match["cgroupfs"] or match["systemd"]
    return uid.lower().replace("_", "-")


def known_cgroups(cgroup_root: Path) -> tuple[Cgroup, ...]:
    """The cgroups below a directory. Raises `MerbridgeError` if it is none of cgroup2, or cannot be read.

    Directories that vanish meanwhile are no errors.
    """
    if not _is_cgroup2(cgroup_root):
        raise MerbridgeError(f"{cgroup_root}: no cgroup2 directory: see --cgroup-root")
    return tuple(cgroups_below(cgroup_root))


def pod_cgroup_ids(cgroups: Iterable[Cgroup]) -> Mapping[str, frozenset[int]]:
    """By pod UID, the ids of all of the pod's cgroups, also of empty ones; of none above a pod's directory."""
    ids: dict[str, set[int]] = defaultdict(set)
    for cgroup in cgroups:
        if cgroup.pod_uid is not None:
            ids[cgroup.pod_uid].add(cgroup.id)
    return {uid: frozenset(found) for uid, found in ids.items()}


def host_cgroup_ids(cgroups: Iterable[Cgroup], cgroup_root: Path, name: str) -> frozenset[int]:
    """The ids of the cgroups of this name, and of all below them, that belong to no pod; none for `NO_CGROUP`.

    A name with a slash is a path below `cgroup_root`.
    """
    if name == NO_CGROUP:
        return frozenset()
    wanted = PurePath(name.strip("/")).parts
    found = (each for each in cgroups if each.pod_uid is None)
    exact = "/" in name
    return frozenset(each.id for each in found if _is_below(each.path.relative_to(cgroup_root).parts, wanted, exact))


def _is_below(parts: tuple[str, ...], wanted: tuple[str, ...], exact: bool) -> bool:
    return parts[: len(wanted)] == wanted if exact else wanted[0] in parts


def cgroups_below(cgroup_root: Path) -> Iterator[Cgroup]:
    """The directories below `cgroup_root`, each given before its children are listed, so that it can be watched first.

    Not recursive: how deep a pod nests its own cgroups is up to the pod.
    """
    pending = [Cgroup(cgroup_root, 0, None)]
    while pending:
        parent = pending.pop()
        if parent.path != cgroup_root:
            yield parent
        pending += _children(parent, cgroup_root)


def _children(parent: Cgroup, cgroup_root: Path) -> Iterator[Cgroup]:
    for name, inode in _subdirectories(parent.path):
        path = parent.path / name
        yield Cgroup(path, inode, parent.pod_uid or pod_uid_of(str(path.relative_to(cgroup_root))))


def _subdirectories(directory: Path) -> list[tuple[str, int]]:
    try:
        with os.scandir(directory) as entries:
            return [(entry.name, entry.inode()) for entry in entries if entry.is_dir(follow_symlinks=False)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except PermissionError as err:
        raise MerbridgeError(f"{directory}: cannot list the cgroups: {err.strerror}: run as root") from None


def host_cgroup_root(proc: Path) -> Path:
    """The cgroup2 mount that the node's PID 1 sees, as a path that this process can use.

    In a container that is PID 1's mount through `<proc>/1/root`, as the container's own shows a part of the tree only.
    Raises `MerbridgeError` when PID 1 sees no cgroup2.
    """
    mounts = _node_mounts(proc)
    if not mounts:
        raise MerbridgeError(
            f"no cgroup2 file system in {proc}/1/mountinfo: mount one on the node "
            "(mount -t cgroup2 none /sys/fs/cgroup/unified) or name one with --cgroup-root"
        )
    own = set(mounts_of(Path("/proc/self/mountinfo"), "cgroup2"))
    paths = [mount.mount_point if mount in own else _through_root_of_pid_1(proc, mount) for mount in mounts]
    for path in paths:
        if _is_cgroup2(path):  # or another file system lies on top of the mount
            return path
    raise MerbridgeError(f"{paths[0]}: the node's cgroup2 cannot be reached from here: name it with --cgroup-root")


def _is_cgroup2(directory: Path) -> bool:
    # Every directory of a cgroup2 file system has this file, and no other file system's has.
    return os.path.exists(directory / "cgroup.controllers")


def _node_mounts(proc: Path) -> list[Mount]:
    try:
        mounts = mounts_of(proc / "1" / "mountinfo", "cgroup2")
    except OSError as err:
        raise MerbridgeError(f"{err.filename}: cannot read the node's mounts: {err.strerror}: see --proc") from None
    return sorted(mounts, key=_levels_hidden)


def _levels_hidden(mount: Mount) -> int:
    """How far below the tree's root the mounted part begins; a cgroup namespace's reader sees the root as `/../..`."""
    return sum(part not in ("/", "..") for part in PurePath(mount.root).parts)


def _through_root_of_pid_1(proc: Path, mount: Mount) -> Path:
    return proc / "1" / "root" / mount.mount_point.relative_to("/")
