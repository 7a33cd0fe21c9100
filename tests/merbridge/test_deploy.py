"""deploy/: the manifests are what Kubernetes and the agent understand, and the capabilities in them are enough."""

import shlex
import subprocess
from pathlib import Path
from typing import Any

import kubernetes.client
import pytest
import yaml
from cluster import READY_SECONDS, ROOT, SLOWNESS, Cluster, merbridge_command, wait_until
from pod_sockets import PodSockets
from test_original_dst import accept, original_destination

from merbridge.config import load_config
from merbridge.config.settings import SETTINGS

MANIFESTS = ROOT / "deploy" / "kubernetes" / "merbridge.yaml"
IMAGE = ROOT / "deploy" / "image" / "Containerfile"
OBJECTS: list[dict[str, Any]] = list(yaml.safe_load_all(MANIFESTS.read_text()))


def of_kind(kind: str) -> dict[str, Any]:
    """The one object of a kind."""
    (found,) = [each for each in OBJECTS if each["kind"] == kind]
    return found


CONTAINER: dict[str, Any] = of_kind("DaemonSet")["spec"]["template"]["spec"]["containers"][0]
ADDED: list[str] = CONTAINER["securityContext"]["capabilities"]["add"]


def misfits(value: object, type_: str, where: str) -> list[str]:
    """What of a value is not of a type of the API, as the package `kubernetes` has its types."""
    if type_.lower().startswith("list["):
        if not isinstance(value, list):
            return [f"{where}: a list is wanted"]
        inner = type_[5:-1]
        return [line for number, each in enumerate(value) for line in misfits(each, inner, f"{where}[{number}]")]
    if type_.lower().startswith(("dict(", "dict[")):
        return [] if isinstance(value, dict) else [f"{where}: a mapping is wanted"]
    plain = {"str": str, "int": int, "bool": bool, "float": float}
    if type_ in plain:
        return [] if isinstance(value, plain[type_]) else [f"{where}: {type_} is wanted, not {value!r}"]
    if type_ in ("object", "datetime"):
        return []
    model = getattr(kubernetes.client, type_)
    if not isinstance(value, dict):
        return [f"{where}: {type_} is wanted"]
    fields = {name: model.openapi_types[attribute] for attribute, name in model.attribute_map.items()}
    found = [f"{where}.{name}: {type_} has no such field" for name in value.keys() - fields.keys()]
    for name in value.keys() & fields.keys():
        found += misfits(value[name], fields[name], f"{where}.{name}")
    return found


@pytest.mark.parametrize("manifest", OBJECTS, ids=[each["kind"] for each in OBJECTS])
def test_objects_are_of_the_apis_types(manifest: dict[str, Any]) -> None:
    """Each field is one that the API has, with a value of its type."""
    assert misfits(manifest, f"V1{manifest['kind']}", manifest["kind"]) == []


def test_a_wrong_field_would_be_found() -> None:
    """So the above says something."""
    wrong = {"metadata": {"name": 5}, "spec": {"template": {"spec": {"hostNetwrok": True}}}}
    assert len(misfits(wrong, "V1DaemonSet", "wrong")) == 2


def test_no_mount_leads_out_of_the_container() -> None:
    """The API refuses Bidirectional propagation to a container that is not privileged (validateMountPropagation)."""
    assert "privileged" not in CONTAINER["securityContext"]
    assert {mount.get("mountPropagation") for mount in CONTAINER["volumeMounts"]} <= {None, "HostToContainer"}


def test_apparmor_lets_the_agent_work() -> None:
    """By the field, and for Kubernetes before 1.30 by the annotation, which have to agree."""
    annotations = of_kind("DaemonSet")["spec"]["template"]["metadata"]["annotations"]
    assert CONTAINER["securityContext"]["appArmorProfile"] == {"type": "Unconfined"}
    assert annotations[f"container.apparmor.security.beta.kubernetes.io/{CONTAINER['name']}"] == "unconfined"


def test_in_a_container_no_bpf_file_system_is_mounted(cluster: Cluster) -> None:
    """It would end with the container, and interception with it: the agent says what to do on the node."""
    line = ["unshare", "--mount", *merbridge_command("run"), *cluster.settings()]
    done = subprocess.run(line, capture_output=True, text=True, cwd=ROOT, timeout=30 * SLOWNESS, check=False)
    assert done.returncode == 1
    assert f"merbridge run: {cluster.bpffs} is in no bpf file system of the node (--bpffs)" in done.stderr
    assert "`mount -t bpf bpf /sys/fs/bpf`" in done.stderr
    assert not cluster.bpffs.exists()


def test_the_role_is_what_the_agents_page_says() -> None:
    """Nothing more is asked for."""
    page = (ROOT / "docs" / "agent.md").read_text()
    in_page = yaml.safe_load(
        page.split("```yaml\napiVersion: rbac", 1)[1].split("```", 1)[0].join(["apiVersion: rbac", ""])
    )
    assert of_kind("ClusterRole") == in_page


def test_the_agent_understands_its_settings() -> None:
    """Each variable is a setting's, with a value that it takes."""
    environment = {each["name"]: each.get("value", "node-1") for each in CONTAINER["env"]}
    known = {setting.variable for setting in SETTINGS.values()} | {"NODE_NAME"}
    assert environment.keys() <= known
    config = load_config({}, environment)
    assert (config.source, config.node_name, config.bpffs) == ("kubernetes", "node-1", Path("/sys/fs/bpf/merbridge"))
    port = int(config.listen.rpartition(":")[2])
    for probe in ("livenessProbe", "readinessProbe"):
        assert CONTAINER[probe]["httpGet"]["port"] == port


def test_names_agree() -> None:
    """The binding is of the account and the role, the selector finds the pods, the image has the version."""
    account, binding, daemons = (
        of_kind("ServiceAccount")["metadata"],
        of_kind("ClusterRoleBinding"),
        of_kind("DaemonSet"),
    )
    assert binding["subjects"] == [{"kind": "ServiceAccount", **{key: account[key] for key in ("name", "namespace")}}]
    assert binding["roleRef"]["name"] == of_kind("ClusterRole")["metadata"]["name"]
    template = daemons["spec"]["template"]
    assert daemons["spec"]["selector"]["matchLabels"] == template["metadata"]["labels"]
    assert template["spec"]["serviceAccountName"] == account["name"]
    version = (ROOT / "setup.cfg").read_text().split("version = ", 1)[1].split("\n", 1)[0]
    assert CONTAINER["image"] == f"merbridge:{version}"


def test_the_image_is_made_of_what_is_there() -> None:
    """What is copied exists, the entry point is the agent, and no compiler is installed."""
    lines = IMAGE.read_text().splitlines()
    copied = [
        name for line in lines if line.startswith("COPY ") and "--from" not in line for name in line.split()[1:-1]
    ]
    assert copied
    assert [name for name in copied if not (ROOT / name).exists()] == []
    assert 'ENTRYPOINT ["/opt/merbridge/bin/python", "-m", "merbridge"]' in lines
    assert not {"gcc", "build-essential", "clang", "apt-get"} & set(shlex.split(IMAGE.read_text(), comments=True))


def restricted(command: list[str], capabilities: list[str]) -> list[str]:
    """A command with these capabilities alone, which it cannot add to: as the container has it."""
    chosen = ",".join(["-all", *(f"+{each.lower()}" for each in capabilities)])
    return ["setpriv", "--no-new-privs", f"--bounding-set={chosen}", f"--inh-caps={chosen}", *command]


def run_restricted(cluster: Cluster, capabilities: list[str], *flags: str) -> subprocess.Popen[str]:
    """An agent with these capabilities."""
    places = ["--source", f"file:{cluster.source}", "--cgroup-root", str(cluster.node.cgroup_root)]
    places += ["--bpffs", str(cluster.bpffs), "--node-name", cluster.node.name]
    places += ["--host-pid", str(cluster.node.host().containers["app"].pid), "--log-format", "json"]
    command = restricted([*merbridge_command("run"), *places, *flags], capabilities)
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT)


def read_until_ready(agent: "subprocess.Popen[str]") -> list[str]:
    """Its lines up to `ready`, or to its end."""
    assert agent.stderr is not None
    lines: list[str] = []
    while (line := agent.stderr.readline()) and '"event": "ready"' not in line:
        lines.append(line)
    return [*lines, *([line] if line else [])]


def test_the_capabilities_are_enough(cluster: Cluster) -> None:
    """With those of the manifest, and no way to more, the agent captures both ways, and every command works."""
    agent = run_restricted(cluster, ADDED)
    try:
        assert '"event": "ready"' in read_until_ready(agent)[-1]
        with PodSockets(cluster.ztunnel) as ztunnel, PodSockets(cluster.app) as app:
            listener = ztunnel.listen(15001)
            app.make().connect((cluster.server.ip, 7777))
            with accept(listener) as accepted:
                assert original_destination(accepted) == (cluster.server.ip, 7777)
        status = restricted([*merbridge_command("status"), "--bpffs", str(cluster.bpffs)], ADDED)
        done = subprocess.run(status, capture_output=True, text=True, cwd=ROOT, timeout=30 * SLOWNESS, check=False)
        assert done.returncode == 0, done.stdout
        trace = restricted([*merbridge_command("trace"), "--bpffs", str(cluster.bpffs), "--seconds", "1"], ADDED)
        traced = subprocess.run(trace, capture_output=True, text=True, cwd=ROOT, timeout=30 * SLOWNESS, check=False)
        assert traced.returncode == 0, traced.stderr
        doctor = restricted([*merbridge_command("doctor"), *cluster.settings()], ADDED)
        found = subprocess.run(doctor, capture_output=True, text=True, cwd=ROOT, timeout=30 * SLOWNESS, check=False)
        assert "ok       privileges" in found.stdout, (found.stdout, found.stderr)
        told = [line for line in found.stdout.splitlines() if line.startswith("problem")]
        assert not [line for line in told if "ermission" in line or "CAP_" in line]
        pin = cluster.bpffs / "maps" / "counters"
        pin.unlink()
        wait_until(pin.exists, "what somebody removes is put right", 12)
        assert any(line.split()[:4] == ["shop/app", cluster.app.ip, "yes", "yes"] for line in done.stdout.splitlines())
    finally:
        agent.terminate()
        agent.communicate(timeout=READY_SECONDS)
        cleanup = restricted([*merbridge_command("cleanup"), "--bpffs", str(cluster.bpffs)], ADDED)
        done = subprocess.run(cleanup, capture_output=True, text=True, cwd=ROOT, timeout=30 * SLOWNESS, check=False)
    assert done.returncode == 0, done.stderr
    assert not cluster.bpffs.exists()


@pytest.mark.parametrize("missing", ADDED)
def test_each_capability_is_needed(cluster: Cluster, missing: str) -> None:
    """Without it, the agent says so in a line: at its start, or as what it cannot capture."""
    agent = run_restricted(cluster, [each for each in ADDED if each != missing])
    try:
        lines = read_until_ready(agent)
        assert any("CAP_" in line or "Permission denied" in line for line in lines), lines
        assert not any("Traceback" in line for line in lines)
    finally:
        agent.terminate()
        agent.communicate(timeout=READY_SECONDS)
        cluster.end_datapath()
