"""What users do wrong: each is refused in one line, and nothing is left half done."""

import errno
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from cluster import NODE_NAME, ROOT, Agent, Cluster, merbridge_command, wait_until

from merbridge.demo.pod import connect

EMPTY_LIST = "apiVersion: v1\nitems: []\nkind: List\n"


@pytest.fixture(autouse=True)
def clean(cluster: Cluster) -> Iterator[None]:
    """Each test begins and ends without a datapath, and with the cluster's own pod list."""
    yield
    if cluster.source.is_dir() and not cluster.source.is_symlink():
        cluster.source.rmdir()
    cluster.publish()
    if cluster.bpffs.exists():
        cluster.end_datapath()


def places(cluster: Cluster) -> dict[str, str]:
    """The flags of a run that would be good."""
    return {
        "--source": f"file:{cluster.source}",
        "--cgroup-root": str(cluster.node.cgroup_root),
        "--bpffs": str(cluster.bpffs),
        "--node-name": NODE_NAME,
    }


def refused(
    cluster: Cluster,
    *flags: str,
    without: Sequence[str] = (),
    prefix: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    exit_status: int = 1,
) -> str:
    """Run the agent, which must refuse at once: its one line. No pin, folder or mount may be there then."""
    good = {name: value for name, value in places(cluster).items() if name not in (*flags, *without)}
    arguments = [text for pair in good.items() for text in pair]
    done = subprocess.run(
        [*prefix, *merbridge_command("run"), *arguments, *flags],
        capture_output=True,
        encoding="utf-8",
        cwd=ROOT,
        env={**os.environ, "MERBRIDGE_LOG_LEVEL": "error", **(env or {})},
        timeout=20,
        check=False,
    )
    lines = done.stderr.splitlines()
    assert (done.returncode, len(lines), done.stdout) == (exit_status, 1, ""), done.stderr
    assert "Traceback" not in done.stderr
    assert not cluster.bpffs.exists()
    assert str(cluster.directory) not in Path("/proc/self/mounts").read_text()
    return lines[0]


def half_of(cluster: Cluster) -> str:
    """The first half of the pod list, as a program that writes slowly leaves it."""
    text = cluster.source.read_text()
    return text[: len(text) // 2]


# --- the pod file, at the start --------------------------------------------------------------------------------------


def test_missing_file_is_refused(cluster: Cluster) -> None:
    """A pod file that is not there is named, with the reason."""
    path = cluster.directory / "none.yaml"
    line = refused(cluster, "--source", f"file:{path}")
    assert line == f"merbridge run: {path}: cannot read the pod file: No such file or directory"


def test_unreadable_file_is_refused(cluster: Cluster) -> None:
    """A file that permissions forbid to read is named, with the reason."""
    cluster.source.chmod(0)
    prefix = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--reuid=65534", "--clear-groups"]
    cluster.directory.chmod(0o755)
    line = refused(cluster, prefix=prefix)
    assert line == f"merbridge run: {cluster.source}: cannot read the pod file: Permission denied"


def test_directory_as_file_is_refused(cluster: Cluster) -> None:
    """A directory in the place of the file is told from one."""
    assert "not a regular file" in refused(cluster, "--source", f"file:{cluster.directory}")


def test_pipe_as_file_is_refused(cluster: Cluster) -> None:
    """A named pipe does not block the agent."""
    pipe = cluster.directory / "pipe"
    os.mkfifo(pipe)
    assert "not a regular file" in refused(cluster, "--source", f"file:{pipe}")
    pipe.unlink()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "the file is empty"),
        ("items:\n- kind: Pod\n  metadata: {name: a", "broken YAML"),
        ('{"kind": "List", "items": [', "broken JSON"),
        ("apiVersion: v1\nitems: []\n", "half-written?"),
        ("hello\n", "not a List, a Pod or a Namespace"),
        ("apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\n", "no List, Pod or Namespace in it"),
        ("kind: List\nitems:\n- kind: Pod\n  metadata: {name: a, namespace: b}\n", "Pod b/a has no spec"),
    ],
    ids=["empty", "cut YAML", "cut JSON", "no kind", "text", "other kind", "no spec"],
)
def test_wrong_content_is_refused(cluster: Cluster, text: str, reason: str) -> None:
    """Content that is cut, or something else, never counts as a node without pods."""
    cluster.source.write_text(text)
    line = refused(cluster)
    assert line.startswith(f"merbridge run: {cluster.source}: ")
    assert reason in line


def test_first_half_of_the_file_is_refused(cluster: Cluster) -> None:
    """The first half of a real list is not taken for a list."""
    cluster.source.write_text(half_of(cluster))
    assert str(cluster.source) in refused(cluster)


# --- the pod file, while the agent runs ------------------------------------------------------------------------------


def is_in_mesh(cluster: Cluster) -> bool:
    """Whether the app pod's connection goes to ztunnel: nothing listens there, so it is refused by the peer."""
    result = cluster.app.call(connect, cluster.server.ip, cluster.server_port)
    return result["error"] == "ECONNREFUSED"


def assert_keeps_last_good_state(cluster: Cluster, agent: Agent, reason: str) -> None:
    """The agent says what is wrong, in the log and in status, and goes on with what it knew."""
    event = agent.wait_for("source_failed")
    assert reason in event["problem"]
    assert event["problem"].endswith("the last good state stays in force")
    exit_status, report = cluster.status()
    assert exit_status == 1
    assert [problem for problem in report["problems"] if reason in problem]
    assert is_in_mesh(cluster)


def assert_recovers(cluster: Cluster, agent: Agent) -> None:
    """With a good file again, it says so, status is healthy, and what the file says counts."""
    cluster.app.labels["istio.io/dataplane-mode"] = "none"
    try:
        cluster.publish()
        agent.wait_for("source_recovered")
        wait_until(lambda: not is_in_mesh(cluster), "the pod has left the mesh")
        assert cluster.status()[0] == 0
    finally:
        del cluster.app.labels["istio.io/dataplane-mode"]
    assert agent.process.poll() is None


def test_half_written_file_keeps_the_last_good_state(cluster: Cluster) -> None:
    """A file cut in its middle while the agent runs changes nothing, is told of, and heals."""
    agent = cluster.start_agent().ready()
    cluster.source.write_text(half_of(cluster))
    assert_keeps_last_good_state(cluster, agent, str(cluster.source))
    assert_recovers(cluster, agent)


def test_deleted_file_keeps_the_last_good_state(cluster: Cluster) -> None:
    """A file deleted while the agent runs changes nothing, is told of, and heals."""
    agent = cluster.start_agent().ready()
    cluster.source.unlink()
    assert_keeps_last_good_state(cluster, agent, "No such file or directory")
    assert_recovers(cluster, agent)


def test_directory_in_the_files_place_keeps_the_last_good_state(cluster: Cluster) -> None:
    """Something else under the file's name changes nothing, is told of, and heals."""
    agent = cluster.start_agent().ready()
    cluster.source.unlink()
    cluster.source.mkdir()
    assert_keeps_last_good_state(cluster, agent, "not a regular file")
    cluster.source.rmdir()
    assert_recovers(cluster, agent)


def test_empty_list_empties_the_mesh(cluster: Cluster) -> None:
    """A whole list without pods is good: it is no failure, and all entries go but the host's."""
    agent = cluster.start_agent().ready()
    cluster.source.write_text(EMPTY_LIST)
    wait_until(lambda: not is_in_mesh(cluster), "the pods have left the mesh")
    _, report = cluster.status()
    entries = {each["name"]: each["entries"] for each in report["maps"]}
    assert (entries["netns_info_map"], entries["cgroup_info_map"], entries["pods"]) == (1, 0, 0)
    assert not [event for event in agent.events if event["event"] == "source_failed"]


def test_file_behind_swapped_symlinks_is_followed(cluster: Cluster) -> None:
    """A ConfigMap's volume: the file is a link into a directory that is itself a link, swapped by rename."""
    volume = cluster.directory / "volume"
    for name, text in (("..old", cluster.source.read_text()), ("..new", EMPTY_LIST)):
        (volume / name).mkdir(parents=True)
        (volume / name / "pods.yaml").write_text(text)
    (volume / "..data").symlink_to("..old")
    (volume / "pods.yaml").symlink_to("..data/pods.yaml")
    agent = cluster.start_agent("--source", f"file:{volume}/pods.yaml").ready()
    assert is_in_mesh(cluster)
    (volume / "..data-new").symlink_to("..new")
    (volume / "..data-new").rename(volume / "..data")
    wait_until(lambda: not is_in_mesh(cluster), "the new file is in force")
    assert not [event for event in agent.events if event["event"] == "source_failed"]


# --- the node --------------------------------------------------------------------------------------------------------


def test_node_without_cgroup2_is_refused(cluster: Cluster) -> None:
    """Where the node's first process has no cgroup2 mount, the line says how to mend that."""
    proc = cluster.directory / "proc"
    (proc / "1").mkdir(parents=True)
    (proc / "1" / "mountinfo").write_text("22 1 8:1 / / rw - ext4 /dev/sda1 rw\n")
    line = refused(cluster, "--proc", str(proc), without=["--cgroup-root"])
    assert line.startswith(f"merbridge run: no cgroup2 file system in {proc}/1/mountinfo: mount one")


@pytest.mark.parametrize("place", ["/nonexistent", "/proc", "{directory}", "{source}", "{cgroup}/cgroup.procs"])
def test_cgroup_root_that_is_none_is_refused(cluster: Cluster, place: str) -> None:
    """A --cgroup-root that is missing, another file system or a file is named, with the flag."""
    path = place.format(directory=cluster.directory, source=cluster.source, cgroup=cluster.node.cgroup_root)
    line = refused(cluster, "--cgroup-root", path)
    assert line == f"merbridge run: {path}: no cgroup2 directory: see --cgroup-root"


@pytest.mark.parametrize(
    "place",
    [
        pytest.param("/nonexistent", id="missing"),
        pytest.param("{directory}", id="empty"),
        pytest.param("{source}", id="file"),
        pytest.param("/" + "a" * 300, id="long"),
    ],
)
def test_proc_that_is_none_is_refused(cluster: Cluster, place: str) -> None:
    """A --proc that is no proc file system is named, with the flag."""
    path = place.format(directory=cluster.directory, source=cluster.source)
    line = refused(cluster, "--proc", path)
    assert line.startswith(f"merbridge run: {path}")
    assert "--proc" in line


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("/proc/merbridge", "cannot create the directory /proc/merbridge"),
        ("{source}", "cannot create the directory {source}: a file of that name is there"),
        ("{source}/below", "cannot create the directory {source}/below: a part of the path is a file"),
        ("{directory}", "{directory} is an ordinary directory that is not empty"),
        pytest.param("/" + "a" * 300, "File name too long"),
    ],
    ids=["cannot be made", "file", "below a file", "not empty", "long"],
)
def test_bpffs_that_cannot_be_is_refused(cluster: Cluster, place: str, reason: str) -> None:
    """A --bpffs where no bpf file system can be is named, with the flag and the reason; what is there stays."""
    names = {"directory": cluster.directory, "source": cluster.source}
    before = sorted(cluster.directory.iterdir())
    line = refused(cluster, "--bpffs", place.format(**names))
    assert "--bpffs" in line
    assert reason.format(**names) in line
    assert sorted(cluster.directory.iterdir()) == before


def test_read_only_bpffs_is_refused(cluster: Cluster) -> None:
    """A bpf file system that is mounted read-only is named, with the flag."""
    mounted = cluster.directory / "read-only"
    script = f'mkdir {mounted} && mount -t bpf -o ro bpf {mounted} && exec "$@"'
    # In a mount namespace of its own: the mount ends with the process.
    line = refused(cluster, "--bpffs", str(mounted), prefix=["unshare", "-m", "sh", "-c", script, "sh"])
    mounted.rmdir()
    assert line == f"merbridge run: cannot create {mounted}/links for the pins (--bpffs): Read-only file system"


# --- privilege -------------------------------------------------------------------------------------------------------


def without_capabilities(*names: str) -> list[str]:
    """The command that runs another as root without these capabilities."""
    removed = ",".join(f"-{name}" for name in names)
    return ["setpriv", f"--bounding-set={removed}", f"--inh-caps={removed}"]


@pytest.mark.parametrize(
    ("prefix", "missing"),
    [
        (["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"], "it needs root, or CAP_SYS_ADMIN"),
        (["unshare", "--user", "--map-root-user"], "it needs root, or CAP_SYS_ADMIN"),
        (without_capabilities("all"), "it needs root, or CAP_SYS_ADMIN"),
        (without_capabilities("sys_admin"), "it needs root, or CAP_SYS_ADMIN"),
        (without_capabilities("sys_ptrace"), "it needs root with CAP_SYS_PTRACE"),
    ],
    ids=["nobody", "root of a user namespace", "none", "no sys_admin", "no sys_ptrace"],
)
def test_missing_privilege_is_named(cluster: Cluster, prefix: list[str], missing: str) -> None:
    """Without a privilege that it needs, the agent names it before it touches anything."""
    cluster.directory.chmod(0o755)
    cluster.source.chmod(0o644)
    assert missing in refused(cluster, prefix=prefix)


@pytest.mark.parametrize("command", ["status", "cleanup"])
def test_pins_are_for_root_only(cluster: Cluster, command: str) -> None:
    """Without the right to see the pins, status cannot tell and cleanup removes nothing; both say so in a line."""
    cluster.start_agent().ready().stop()
    cluster.directory.chmod(0o755)
    before = cluster.status()[1]["hooks"]
    done = subprocess.run(
        ["setpriv", "--reuid=65534", "--clear-groups", *merbridge_command(command), "--bpffs", str(cluster.bpffs)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2 if command == "status" else 1, "")
    assert done.stderr == f"merbridge {command}: {cluster.bpffs}: permission denied: run as root\n"
    assert cluster.status()[1]["hooks"] == before


def test_few_descriptors_are_named(cluster: Cluster) -> None:
    """With too few file descriptors for the datapath, the line says which limit to raise."""
    for limit in (10, 16):
        assert "ulimit -n" in refused(cluster, prefix=["prlimit", f"--nofile={limit}:{limit}"])


# --- the kernel ------------------------------------------------------------------------------------------------------

_KERNEL_WITHOUT = """
import sys
from merbridge.cli import main
from pybpfasm.kernel import sys as kernel
from pybpfasm.uapi import Command
real = kernel.bpf
def bpf(command, attributes, attempted):
    if command == Command[sys.argv[1]]:
        raise kernel.failure(int(sys.argv[2]), attempted)
    return real(command, attributes, attempted)
kernel.bpf = bpf
sys.exit(main(sys.argv[3:]))
"""


@pytest.mark.parametrize(
    ("command", "number", "reason"),
    [
        ("LINK_CREATE", errno.EINVAL, "merbridge needs Linux 5.15 or later"),
        ("PROG_LOAD", errno.EINVAL, "cannot load program"),
        ("PROG_LOAD", errno.EPERM, "the capabilities are there: a security module"),
        ("MAP_CREATE", errno.EINVAL, "cannot create map"),
        ("BTF_LOAD", errno.EINVAL, "(BTF)"),
        ("MAP_CREATE", errno.ENOSYS, "this kernel has no bpf() system call"),
        ("OBJ_PIN", errno.EPERM, "--bpffs"),
    ],
)
def test_kernel_without_a_feature_is_told(cluster: Cluster, command: str, number: int, reason: str) -> None:
    """Where a bpf command fails as on a kernel without it, one line names what failed, and nothing stays."""
    flags = [text for pair in places(cluster).items() for text in pair]
    done = subprocess.run(
        [sys.executable, "-c", _KERNEL_WITHOUT, command, str(number), "run", *flags, "--log-level", "error"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=20,
        check=False,
    )
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1), done.stderr
    assert reason in done.stderr
    assert not cluster.bpffs.exists()


# --- settings --------------------------------------------------------------------------------------------------------


def test_missing_source_is_asked_for(cluster: Cluster) -> None:
    """Without a source, the line says how to give one, and what belongs into the file."""
    line = refused(cluster, without=["--source"])
    assert line.startswith("merbridge run: no source of pods is given: add --source kubernetes or file:PATH")
    assert "kubectl get namespaces,pods -A -o yaml" in line


def test_unknown_flag_is_one_line(cluster: Cluster) -> None:
    """A flag that does not exist is named in one line, with exit status 2 as is usual."""
    line = refused(cluster, "--out-prot", exit_status=2)
    assert line == "python -m merbridge: unrecognized arguments: --out-prot: see --help"


def test_missing_command_is_one_line() -> None:
    """Without a command, one line says that one is missing."""
    done = subprocess.run([sys.executable, "-m", "merbridge"], capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "COMMAND" in done.stderr


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OUT_PORT", "0"),
        ("OUT_PORT", "http"),
        ("OUT_PORT", "65536"),
        ("MAX_PODS", "-1"),
        ("MAX_CONNECTIONS", "1e3"),
        ("LOG_LEVEL", "loud"),
        ("PROC", "proc"),
        ("ZTUNNEL_NAMESPACE", "Istio System"),
    ],
)
def test_bad_environment_is_refused(cluster: Cluster, name: str, value: str) -> None:
    """A value from the environment that is not allowed is shown with its variable and with what is allowed."""
    line = refused(cluster, env={f"MERBRIDGE_{name}": value})
    assert line.startswith(f"merbridge run: environment MERBRIDGE_{name}: {value!r} is not allowed: give ")


def test_name_that_is_no_text_does_not_stop_the_agent(cluster: Cluster) -> None:
    """A node name with bytes that are no UTF-8 is a name that no pod has, not a failure; status shows it escaped."""
    agent = cluster.start_agent("--node-name", os.fsdecode(b"node-\xff")).ready()
    assert cluster.status()[1]["node_name"] == "node-\\udcff"
    assert agent.stop() == 0


@pytest.mark.parametrize(
    "name",
    [
        "cgroup-root",
        *(pytest.param(name) for name in ("source", "bpffs", "proc")),
    ],
)
def test_path_with_a_zero_byte_is_refused(cluster: Cluster, name: str) -> None:
    """A path from the configuration file that no file can have is refused in a line, not by a traceback."""
    settings = cluster.directory / "settings.yaml"
    value = "file:/a" if name == "source" else "/a"
    settings.write_text(f'{name}: "{value}\\0b"\n')
    refused(cluster, "--config", str(settings), without=[f"--{name}"])
