"""Pods' processes, cgroups and namespaces on the real kernel; texts that this kernel does not show are written."""

import os
import select
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from types import SimpleNamespace

import pytest
from pod_processes import PROC, Start, end, inode, make_pod, new_uid

from merbridge.errors import MerbridgeError
from merbridge.watchers import (
    CgroupWatcher,
    NodeObserver,
    host_cgroup_root,
    pod_cgroup_ids,
    pod_processes,
    pod_uid_of,
    read_netns,
)
from merbridge.watchers import netns as netns_module
from merbridge.watchers.cgroups import known_cgroups
from merbridge.watchers.mounts import Mount, mounts_of
from merbridge.watchers.netns import NetnsGoneError, NetnsTable, addresses_in_fib_trie, addresses_in_if_inet6
from merbridge.watchers.processes import in_same_netns, netns_id, pod_uid_of_process

UID = "0a1b2c3d-1111-4222-8333-0123456789ab"
UNDERSCORED = UID.replace("-", "_")
STATIC = "0123456789abcdef0123456789abcdef"
CONTAINER = "c0ffee" * 10 + "c0ff"
BURSTABLE = "/kubepods.slice/kubepods-burstable.slice"
KIND = "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice"


# --- the pod's UID in a path ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "uid"),
    [
        (f"/kubepods.slice/kubepods-pod{UNDERSCORED}.slice", UID),
        (f"{BURSTABLE}/kubepods-burstable-pod{UNDERSCORED}.slice/cri-containerd-{CONTAINER}.scope", UID),
        (f"/kubepods.slice/x/kubepods-besteffort-pod{UNDERSCORED}.slice/crio-{CONTAINER}.scope/inner", UID),
        (f"/kubepods.slice/kubepods-pod{UNDERSCORED}.slice/docker-{CONTAINER}.scope", UID),
        (f"/kubepods/burstable/pod{UID}/{CONTAINER}", UID),
        (f"/kubepods/pod{UID}", UID),
        (f"/kubepods/besteffort/pod{STATIC}/{CONTAINER}", STATIC),
        (f"{BURSTABLE}/kubepods-burstable-pod{STATIC}.slice", STATIC),
        (f"{KIND}/kubelet-kubepods-burstable-pod{UNDERSCORED}.slice/cri-containerd-{CONTAINER}.scope", UID),
        (f"/docker/{CONTAINER}/kubelet/kubepods/burstable/pod{UID}/{CONTAINER}", UID),
        (f"/../../pod{UID}/{CONTAINER}", UID),
        (f"/../kubepods-pod{UNDERSCORED.upper()}.slice", UID),
        (f"pod{UID.upper()}/x", UID),
        (f"/kubepods/pod{UID}/{CONTAINER}/kubepods/pod{STATIC}/x", UID),
        ("/", None),
        ("", None),
        (BURSTABLE, None),
        ("/system.slice/containerd.service", None),
        (f"/machine.slice/libpod-{CONTAINER}.scope", None),
        (f"/machine.slice/libpod_pod_{CONTAINER}.slice", None),
        (f"/kubepods/burstable/pod{UID}0/x", None),
        (f"/kubepods/burstable/pod{CONTAINER}/x", None),
        (f"/kubepods/burstable/mypod{UID}/x", None),
        (f"/system.slice/other-pod{UNDERSCORED}.slice", None),
    ],
)
def test_pod_uid_of(path: str, uid: str | None) -> None:
    """Every naming of the kubelet's is understood, at any depth, and nothing else is taken for a pod."""
    assert pod_uid_of(path) == uid


@pytest.mark.parametrize(
    ("text", "uid"),
    [
        ("0::/\n", None),
        (f"0::/kubepods/pod{UID}/a\n", UID),
        (f"12:memory:/kubepods/pod{UID}/a\n4:cpu,cpuacct:/x:y\n1:name=systemd:/kubepods/pod{UID}/a\n0::/\n", UID),
        (f"4:memory:/kubepods/pod{STATIC}/a\n0::/kubepods/pod{UID}/a\n", UID),
        (f"0::/../../pod{UID}/a:b\n", UID),
        ("", None),
    ],
)
def test_pod_of_a_process(tmp_path: Path, text: str, uid: str | None) -> None:
    """The UID may be in the v2 line or, on hybrid hosts, in a v1 line alone; the v2 line wins."""
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "cgroup").write_text(text)
    assert pod_uid_of_process(7, tmp_path) == uid
    assert pod_uid_of_process(8, tmp_path) is None


# --- mounts -----------------------------------------------------------------------------------------------------------


def test_mounts(tmp_path: Path) -> None:
    """Escapes and optional fields of mountinfo are read as proc_pid_mountinfo(5) has them."""
    (tmp_path / "mountinfo").write_text(
        "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n"
        "41 31 0:38 /../.. /sys/fs/with\\040space rw,relatime shared:9 master:2 - cgroup2 none rw\n"
        "42 31 0:39 / /mnt/cgroup2 rw - ext4 /dev/cgroup2 rw\n"
    )
    expected = [Mount("0:38", "/../..", Path("/sys/fs/with space"))]
    assert mounts_of(tmp_path / "mountinfo", "cgroup2") == expected


def test_host_cgroup_root_here() -> None:
    """On this machine the mount is found at the path that everybody sees."""
    root = host_cgroup_root(PROC)
    assert (root / "cgroup.controllers").exists()
    assert not str(root).startswith("/proc")


def test_host_cgroup_root_through_pid_1(tmp_path: Path) -> None:
    """A mount that this process does not see is reached through PID 1's root, whole trees before parts of them."""
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "mountinfo").write_text(
        "40 31 0:38 /../../system.slice /part rw - cgroup2 none rw\n41 31 0:38 /../.. /whole rw - cgroup2 none rw\n"
    )
    for name in ("part", "whole"):
        (tmp_path / "1" / "root" / name).mkdir(parents=True)
        (tmp_path / "1" / "root" / name / "cgroup.controllers").touch()
    assert host_cgroup_root(tmp_path) == tmp_path / "1" / "root" / "whole"
    (tmp_path / "1" / "root" / "whole" / "cgroup.controllers").unlink()
    assert host_cgroup_root(tmp_path) == tmp_path / "1" / "root" / "part"
    (tmp_path / "1" / "root" / "part" / "cgroup.controllers").unlink()
    with pytest.raises(MerbridgeError, match="the node's cgroup2 cannot be reached from here: name it with --cgroup"):
        host_cgroup_root(tmp_path)


def test_no_cgroup2(tmp_path: Path) -> None:
    """Without a cgroup2 mount, or without PID 1, the line says what to do."""
    with pytest.raises(MerbridgeError, match=r"cannot read the node's mounts: No such file or directory: see --proc"):
        host_cgroup_root(tmp_path)
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "mountinfo").write_text("31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n")
    with pytest.raises(MerbridgeError, match=r"no cgroup2 file system in .*mount -t cgroup2.*--cgroup-root"):
        host_cgroup_root(tmp_path)
    with pytest.raises(MerbridgeError, match=r"no cgroup2 directory: see --cgroup-root"):
        known_cgroups(tmp_path)


# --- a cgroup tree of our own, with processes -------------------------------------------------------------------------


def test_cgroup_ids_of_pods(tree: Path) -> None:
    """The pod's directory and all below count, also empty ones; what is above or beside never does."""
    systemd = tree / "kubepods.slice" / f"kubepods-pod{UNDERSCORED}.slice"
    scope = systemd / f"cri-containerd-{CONTAINER}.scope"
    (scope / "nested").mkdir(parents=True)
    (tree / "system.slice" / "x.service").mkdir(parents=True)
    static = make_pod(tree, STATIC, CONTAINER)
    assert pod_cgroup_ids(known_cgroups(tree)) == {
        UID: {inode(systemd), inode(scope), inode(scope / "nested")},
        STATIC: {inode(static), inode(static / CONTAINER)},
    }


def test_cgroup_ids_of_deep_trees(tree: Path) -> None:
    """A pod may nest its cgroups as deep as it likes."""
    deepest = make_pod(tree, UID, "a")
    for _ in range(300):
        deepest = deepest / "a"
        deepest.mkdir(exist_ok=True)
    assert len(pod_cgroup_ids(known_cgroups(tree))[UID]) == 301


def test_read_netns(start: Start) -> None:
    """Cookie, inode and addresses are what the process in the namespace says itself; the caller stays where it is."""
    process = start(None, "10.244.9.7")
    before = inode(PROC / "thread-self" / "ns" / "net")
    found = read_netns(process.pid, PROC)
    assert (found.cookie, found.inode) == (process.cookie, process.inode)
    assert found.addresses == {IPv4Address("10.244.9.7")}
    assert inode(PROC / "thread-self" / "ns" / "net") == before != found.inode
    assert threading.active_count() == 1


def test_read_netns_without_addresses(start: Start) -> None:
    """127/8 is no address of a pod's; the agent's own namespace can be read too."""
    assert read_netns(start(None, "127.0.0.1").pid, PROC).addresses == frozenset()
    own = read_netns(os.getpid(), PROC)
    with socket.socket() as probe:
        assert own.cookie == int.from_bytes(probe.getsockopt(socket.SOL_SOCKET, 71, 8), sys.byteorder)


def test_read_netns_of_an_ended_process(start: Start) -> None:
    """A process that has ended, reaped or not, is told apart from a failure."""
    process = start(None, "10.244.9.7")
    process.process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    with pytest.raises(NetnsGoneError):
        read_netns(process.pid, PROC)
    assert netns_id(process.pid, PROC) is None
    process.process.wait()
    with pytest.raises(NetnsGoneError):
        read_netns(process.pid, PROC)
    assert netns_id(process.pid, PROC) is None


def test_old_kernel_is_named(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel without the socket option is told the version that has it; an option no kernel has stands in for it."""
    monkeypatch.setattr(netns_module, "_SO_NETNS_COOKIE", 9999)
    with pytest.raises(MerbridgeError, match=r"no SO_NETNS_COOKIE: Linux 5\.14 or newer is needed"):
        read_netns(os.getpid(), PROC)


def test_fib_trie() -> None:
    """Own addresses are the /32 host entries of type LOCAL: no broadcast, no /0 of TPROXY, no 127/8, none twice."""
    text = textwrap.dedent("""\
        Main:
          +-- 0.0.0.0/0 3 0 5
             |-- 0.0.0.0
                /0 universe UNICAST
                /0 host LOCAL
             |-- 10.244.1.0
                /24 link UNICAST
                /32 link BROADCAST
             |-- 10.244.1.5
                /32 host LOCAL
        Local:
          +-- 10.0.0.0/8 3 0 5
             |-- 10.244.1.5
                /32 host LOCAL
             |-- 10.244.1.64
                /26 link UNICAST
                /32 host LOCAL
             |-- 10.244.1.255
                /32 link BROADCAST
             |-- 127.0.0.1
                /32 host LOCAL
        """)
    assert addresses_in_fib_trie(text) == {IPv4Address("10.244.1.5"), IPv4Address("10.244.1.64")}
    assert addresses_in_fib_trie("") == frozenset()


def test_if_inet6() -> None:
    """Own addresses are those of global scope, which unique local ones have, too: no ::1, none of a link alone."""
    text = textwrap.dedent("""\
        00000000000000000000000000000001 01 80 10 80       lo
        fd000000000000000000000000000005 02 40 00 80     eth0
        20010db8000000000000000000000007 02 80 00 00     eth0
        fe80000000000000f80a1bfffe2c3d4e 02 40 20 80     eth0
        """)
    assert addresses_in_if_inet6(text) == {IPv6Address("fd00::5"), IPv6Address("2001:db8::7")}
    assert addresses_in_if_inet6("") == frozenset()


def test_in_same_netns(start: Start) -> None:
    """Two processes' namespaces are told apart by their /proc/net alone."""
    here, there = start(None), start(None, "10.244.9.7")
    assert in_same_netns(here.pid, "self", PROC)
    assert not in_same_netns(there.pid, "self", PROC)
    assert not in_same_netns(there.pid, "0", PROC)


def test_pod_processes(tree: Path, start: Start) -> None:
    """A pod's processes are found with their namespaces; processes of no pod are left out."""
    uid = new_uid()
    pod = make_pod(tree, uid, "a", "b")
    inside, helper, outside = start(pod / "a", "10.244.9.7"), start(pod / "b"), start(tree)
    found = {process.pid: process for process in pod_processes(PROC)}
    assert found[inside.pid].pod_uid == found[helper.pid].pod_uid == uid
    assert (found[inside.pid].netns.inode, found[helper.pid].netns.inode) == (inside.inode, helper.inode)
    assert outside.pid not in found


def test_proc_that_is_none(tmp_path: Path) -> None:
    """A wrong --proc is named, not taken for a node without processes."""
    with pytest.raises(MerbridgeError, match="not a proc file system, or an empty one: see --proc"):
        list(pod_processes(tmp_path))
    with pytest.raises(MerbridgeError, match="cannot list processes: No such file or directory: see --proc"):
        list(pod_processes(tmp_path / "none"))
    with pytest.raises(MerbridgeError, match="no process 1 there: see --proc"):
        NodeObserver(tmp_path, host_cgroup_root(PROC)).observe()


def test_observe(tree: Path, start: Start) -> None:
    """A pod shows all its cgroups and its own namespaces, each once; a helper on the host's network adds none."""
    uid, on_host, empty = new_uid(), new_uid(), new_uid()
    pod = make_pod(tree, uid, "pause", "app", "stopped")
    pause, inner = start(pod / "pause", "10.244.9.7"), start(pod / "app", "10.244.9.8")
    start(pod / "app")
    host = start(make_pod(tree, on_host, "a") / "a")
    make_pod(tree, empty, "a")

    seen = NodeObserver(PROC, tree).observe()
    assert seen.host.cookie == host.cookie
    assert {uid, on_host, empty} <= seen.pods.keys()
    assert seen.pods[uid].cgroup_ids == {inode(pod)} | {inode(pod / name) for name in ("pause", "app", "stopped")}
    assert {(each.cookie, each.inode, each.addresses) for each in seen.pods[uid].netns} == {
        (pause.cookie, pause.inode, frozenset({IPv4Address("10.244.9.7")})),
        (inner.cookie, inner.inode, frozenset({IPv4Address("10.244.9.8")})),
    }
    assert len(seen.pods[uid].netns) == 2
    assert seen.pods[on_host].netns == seen.pods[empty].netns == ()
    assert seen.pods[empty].cgroup_ids == pod_cgroup_ids(known_cgroups(tree))[empty]
    everything = frozenset[int]().union(*(each.cgroup_ids for each in seen.pods.values()))
    assert not everything & {inode(path) for path in (tree, tree / "kubepods", tree / "kubepods" / "burstable")}


def test_observe_below_another_root(tree: Path, start: Start) -> None:
    """A pod whose cgroups lie outside the root is known by its namespace alone."""
    uid = new_uid()
    process = start(make_pod(tree, uid, "a") / "a", "10.244.9.7")
    (tree / "other").mkdir()
    seen = NodeObserver(PROC, tree / "other").observe().pods[uid]
    assert seen.cgroup_ids == frozenset()
    assert [each.cookie for each in seen.netns] == [process.cookie]


def test_observe_after_the_end(tree: Path, start: Start) -> None:
    """A namespace that came where another one was has its own cookie: nothing is remembered by inode number."""
    uid = new_uid()
    pod = make_pod(tree, uid, "a")
    observer = NodeObserver(PROC, tree)
    for address in ("10.244.9.1", "10.244.9.2", "10.244.9.3"):
        process = start(pod / "a", address)
        (seen,) = observer.observe().pods[uid].netns
        assert seen.cookie == process.cookie
        assert seen.addresses == {IPv4Address(address)}
        end(process.process)
        assert observer.observe().pods[uid].netns == ()


def test_observe_while_processes_come_and_go(tree: Path, tmp_path: Path) -> None:
    """Processes and cgroups that vanish in the middle of a look are no errors."""
    pod = make_pod(tree, new_uid(), "a")
    go_on = tmp_path / "go-on"
    go_on.touch()
    churn = 'echo $$ > "$1/a/cgroup.procs"; while [ -e "$2" ]; do mkdir "$1/b"; rmdir "$1/b"; done'
    process = subprocess.Popen(["unshare", "--net", "sh", "-c", churn, "churn", str(pod), str(go_on)])
    try:
        observer = NodeObserver(PROC, tree)
        for _ in range(40):
            observer.observe()
    finally:
        go_on.unlink()
        process.wait()


# --- events -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def watch(tree: Path) -> Iterator[Callable[..., CgroupWatcher]]:
    """Makes watchers of the tree and closes them."""
    made: list[CgroupWatcher] = []

    def make(pod_file: Path | None = None) -> CgroupWatcher:
        made.append(CgroupWatcher(tree, [pod_file] if pod_file else ()))
        return made[-1]

    yield make
    for watcher in made:
        watcher.close()


def signalled(watcher: CgroupWatcher, timeout_ms: int = 2000) -> bool:
    """Whether an event comes in time; takes all away that are there."""
    poll = select.poll()
    poll.register(watcher.fileno(), select.POLLIN)
    came = bool(poll.poll(timeout_ms))
    watcher.read()
    return came


def quiet(watcher: CgroupWatcher) -> bool:
    """Whether no event comes for a while."""
    return not signalled(watcher, timeout_ms=100)


def test_new_directories_are_announced_once(tree: Path, watch: Callable[..., CgroupWatcher]) -> None:
    """A new pod's directories wake the watcher; refresh is true once, and then they are watched themselves."""
    watcher = watch()
    assert not watcher.refresh()
    assert quiet(watcher)
    pod = make_pod(tree, UID, "a")
    assert signalled(watcher)
    assert watcher.refresh()
    assert not watcher.refresh()
    assert watcher.degraded is None
    watcher.read()
    (pod / "b").mkdir()
    assert signalled(watcher)
    assert watcher.refresh()
    (pod / "a").rmdir()
    assert signalled(watcher)


def test_first_and_last_process_are_announced(tree: Path, watch: Callable[..., CgroupWatcher], start: Start) -> None:
    """A container that is populated, or not any more, wakes the watcher without any directory changing."""
    pod = make_pod(tree, UID, "a")
    watcher = watch()
    process = start(pod / "a")
    assert signalled(watcher)
    assert not watcher.refresh()
    assert quiet(watcher)
    end(process.process)
    assert signalled(watcher)


def test_a_name_that_comes_back_is_new(tree: Path, watch: Callable[..., CgroupWatcher], start: Start) -> None:
    """A directory made again under its old name is watched again, whether or not events were read in between."""
    pod = make_pod(tree, UID, "a")
    watcher = watch()
    for read_between in (True, False, True):
        (pod / "a").rmdir()
        if read_between:
            watcher.read()
            watcher.refresh()
        (pod / "a").mkdir()
        watcher.read()
        assert watcher.refresh()
        assert not watcher.refresh()
        watcher.read()
        (pod / "a" / "inner").mkdir()
        assert signalled(watcher)
        (pod / "a" / "inner").rmdir()
        watcher.refresh()
        watcher.read()


def watches_of(watcher: CgroupWatcher) -> int:
    """How many watches the kernel holds."""
    text = Path(f"/proc/self/fdinfo/{watcher.fileno()}").read_text()
    return sum(line.startswith("inotify wd") for line in text.splitlines())


def test_a_walk_that_fails_is_made_again(
    tree: Path, watch: Callable[..., CgroupWatcher], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What came in the meantime is neither forgotten nor taken for known."""
    watcher = watch()
    watcher.refresh()
    pod = make_pod(tree, UID, "a")
    watcher.read()
    scandir = os.scandir

    def fail(path: Path) -> "os._ScandirIterator[str]":
        monkeypatch.setattr(os, "scandir", scandir)
        raise OSError(24, "too many open files", str(path))

    monkeypatch.setattr(os, "scandir", fail)
    with pytest.raises(OSError, match="too many"):
        watcher.refresh()
    assert watcher.cgroups is None
    assert watcher.refresh()
    assert watcher.cgroups is not None
    assert pod in {each.path for each in watcher.cgroups}


_MOVES = """
import sys
from pybpfasm.kernel import sys as kernel
for step in (lambda: None, lambda: kernel.unshare(kernel.CLONE_NEWNET)):
    step()
    print("there", flush=True)
    sys.stdin.readline()
"""


def test_a_witness_that_moves_is_no_witness() -> None:
    """A process that has left a namespace does not lend its new one's addresses to the old one."""
    clock = SimpleNamespace(now=0.0)
    table = NetnsTable(PROC, lambda: clock.now)
    with subprocess.Popen(
        [sys.executable, "-c", _MOVES],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
        identity = netns_id(process.pid, PROC)
        assert identity is not None
        assert table.read(identity, process.pid).inode == identity.inode
        print(file=process.stdin, flush=True)
        process.stdout.readline()
        clock.now = 20.0
        with pytest.raises(NetnsGoneError):
            table.read(identity, process.pid)
        process.kill()


def test_watches_do_not_pile_up(tree: Path, watch: Callable[..., CgroupWatcher]) -> None:
    """After pods came and went the kernel holds as many watches as before."""
    make_pod(tree, UID, "a")
    watcher = watch()
    before = watches_of(watcher)
    for _ in range(5):
        pod = make_pod(tree, new_uid(), "a", "b")
        watcher.read()
        assert watcher.refresh()
        assert watches_of(watcher) == before + 6
        for directory in (pod / "a", pod / "b", pod):
            directory.rmdir()
        watcher.read()
        watcher.refresh()
        assert watches_of(watcher) == before


def test_pod_file_changes_are_announced(tmp_path: Path, watch: Callable[..., CgroupWatcher]) -> None:
    """Renamed over, written in place also behind a symlink, and swapped by a symlink: each wakes the watcher."""
    real = tmp_path / "real"
    shown = tmp_path / "shown"
    for directory in (real, shown):
        directory.mkdir()
    (real / "pods.yaml").write_text("one")
    path = shown / "pods.yaml"
    path.symlink_to(real / "pods.yaml")
    watcher = watch(path)
    assert quiet(watcher)

    (real / "pods.yaml").write_text("two")
    assert signalled(watcher)
    (real / "new").write_text("three")
    assert signalled(watcher)
    (real / "new").rename(real / "pods.yaml")
    assert signalled(watcher)
    (tmp_path / "pods.yaml").write_text("four")
    assert quiet(watcher)
    (shown / "link").symlink_to(tmp_path / "pods.yaml")
    (shown / "link").rename(path)
    assert signalled(watcher)
    assert watcher.refresh()
    (tmp_path / "pods.yaml").write_text("five")
    assert signalled(watcher)


def test_pod_file_that_is_not_there_yet(tmp_path: Path, watch: Callable[..., CgroupWatcher]) -> None:
    """The file may come later, and its directory too."""
    watcher = watch(tmp_path / "later" / "pods.yaml")
    (tmp_path / "later").mkdir()
    assert watcher.refresh()
    (tmp_path / "later" / "pods.yaml").write_text("one")
    assert signalled(watcher)


# Runs in a user namespace of its own, whose limits bind nobody else.
DEGRADED = """
import select, sys
from pathlib import Path
limit, number, tree = sys.argv[1:]
Path("/proc/sys/user", limit).write_text(number)
from merbridge.watchers import CgroupWatcher
watcher = CgroupWatcher(Path(tree))
print(watcher.degraded)
print(watcher.refresh(), select.select([watcher], [], [], 0.05)[0])
watcher.read()
Path("/proc/sys/user", limit).write_text("100")
watcher.refresh()
print(watcher.degraded)
watcher.close()
"""


def degraded(limit: str, number: int, tree: Path) -> list[str]:
    """What a watcher says in a user namespace where the limit is `number`: see DEGRADED."""
    arguments = ["unshare", "--user", "--map-root-user", sys.executable, "-c", DEGRADED, limit, str(number), str(tree)]
    return subprocess.run(arguments, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()


def test_out_of_watches(tree: Path) -> None:
    """Without watches left the watcher says so in one line, goes on, and recovers when there are some again."""
    make_pod(tree, UID, "a")
    first, second, third = degraded("max_inotify_watches", 2, tree)
    assert first.startswith("changes are noticed late at ")
    assert first.endswith(": out of inotify watches: raise sysctl fs.inotify.max_user_watches")
    assert (second, third) == ("False []", "None")


def test_out_of_instances(tree: Path) -> None:
    """Without an inotify instance the watcher says so, and is a descriptor that stays silent."""
    line = (
        "changes are noticed late: out of inotify instances or descriptors: raise sysctl fs.inotify.max_user_instances"
    )
    assert degraded("max_inotify_instances", 0, tree) == [line, "False []", line]
