"""deploy/helm: the manifest is what the chart renders, each value does what it says, wrong ones are refused by name."""

import json
import shlex
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from helm import NEEDS_HELM, HelmRefusalError, lint, notes, package, refusals, render
from test_deploy import CONTAINER, OBJECTS, misfits

from merbridge.config import ConfigError, load_config
from merbridge.config.settings import SETTINGS
from tools.chart import CHART, ROOT

pytestmark = NEEDS_HELM

WARNING = 2  # of Helm's severities
LABELS_OF_HELM = ("helm.sh/", "app.kubernetes.io/")

# What of the agent's settings is no value below `settings`.
ELSEWHERE = {
    "config": "there is no file: the environment has it all",
    "source": "always kubernetes",
    "kubeconfig": "a pod has its service account",
    "context": "a pod has its service account",
    "node-name": "the downward API's",
    "listen": "`listen`, which the probes need in parts",
    "proc": "the host's is at /proc by hostPID",
    "host-pid": "1, by hostPID",
}
SCHEMA: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text())
SETTINGS_IN_SCHEMA: dict[str, dict[str, Any]] = SCHEMA["properties"]["settings"]["properties"]

EVERYTHING = """
enabled: true
global: {of: another chart}
image:
  repository: registry.example:5000/mesh/merbridge
  tag: v2
  digest: sha256:%s
  pullPolicy: Always
  pullSecrets: [one, two]
settings: {logFormat: text, annotate: off, maxPods: 1000000, cgroupRoot: /sys/fs/cgroup}
listen: {address: "::", port: 9000}
prometheus: {scrape: true}
extraEnv:
  - {name: TZ, value: UTC}
  - {name: HOST_IP, valueFrom: {fieldRef: {fieldPath: status.hostIP}}}
serviceAccount: {name: agent, annotations: {who: me}}
namespace: {name: mesh, create: true}
fullnameOverride: agents
podAnnotations: {note: "yes"}
podLabels: {team: net}
priorityClassName: ""
nodeSelector: {mesh: "on"}
tolerations: [{key: dedicated, operator: Equal, value: mesh, effect: NoSchedule}]
affinity:
  nodeAffinity:
    requiredDuringSchedulingIgnoredDuringExecution:
      nodeSelectorTerms: [{matchExpressions: [{key: pool, operator: In, values: [mesh]}]}]
updateStrategy: {rollingUpdate: {maxUnavailable: 1}}
resources: {limits: {cpu: 1}}
""" % ("0a" * 32)


def of_kind(objects: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    """The one object of a kind."""
    (found,) = [each for each in objects if each["kind"] == kind]
    return found


def daemon_set(values: str = "", **options: str) -> dict[str, Any]:
    """The rendered daemon set."""
    return of_kind(render(values, **options), "DaemonSet")


def pod(values: str = "", **options: str) -> dict[str, Any]:
    """Its pods' spec."""
    spec: dict[str, Any] = daemon_set(values, **options)["spec"]["template"]["spec"]
    return spec


def container(values: str = "") -> dict[str, Any]:
    """Its pods' one container."""
    (only,) = pod(values)["containers"]
    found: dict[str, Any] = only
    return found


def environment(values: str) -> dict[str, str]:
    """The agent's variables, with the node's name put in."""
    return {each["name"]: each.get("value", "node-1") for each in container(values)["env"]}


@cache
def everything() -> list[dict[str, Any]]:
    """What is rendered when each value is given."""
    return render(EVERYTHING)


def without_helms_labels(value: Any) -> Any:
    """The same, without labels of Helm's conventions; where none is left, without labels."""
    if isinstance(value, list):
        return [without_helms_labels(each) for each in value]
    if not isinstance(value, dict):
        return value
    kept = {key: without_helms_labels(each) for key, each in value.items() if not key.startswith(LABELS_OF_HELM)}
    return {key: each for key, each in kept.items() if (key, each) != ("labels", {})}


def camel_case(name: str) -> str:
    """A setting's name as values have it."""
    first, *others = name.split("-")
    return first + "".join(each.capitalize() for each in others)


def test_helm_finds_nothing_against_it() -> None:
    """No warning either, for Kubernetes before and after appArmorProfile."""
    for version in ("v1.29.0", "v1.30.0"):
        report = lint(strict=True, kube_version=version)
        assert [each for each in report["messages"] if each["severity"] >= WARNING] == []
        assert report["errors"] == []


def test_the_manifest_is_what_the_chart_renders() -> None:
    """To the letter; `python -m tools.chart` writes it."""
    line = [sys.executable, "-m", "tools.chart", "--check"]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_manifest_has_the_charts_objects() -> None:
    """So no way of writing them down has changed one; Helm makes the namespace itself."""
    rendered = {each["kind"]: each for each in render()}
    assert without_helms_labels(rendered) == {each["kind"]: each for each in OBJECTS if each["kind"] != "Namespace"}
    assert without_helms_labels(render("namespace: {create: true}")[3]) == of_kind(OBJECTS, "Namespace")


def test_the_manifest_keeps_its_selector() -> None:
    """`kubectl apply` over any former one would be refused with another."""
    assert of_kind(OBJECTS, "DaemonSet")["spec"]["selector"] == {"matchLabels": {"app": "merbridge"}}


def test_the_install_page_puts_the_registry_in() -> None:
    """The line with sed finds the image as the manifest writes it."""
    page = (ROOT / "docs" / "install.md").read_text()
    (line,) = [line for line in page.splitlines() if line.startswith("sed ")]
    command = shlex.split(line.partition(" | ")[0])
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    daemons = of_kind(list(yaml.safe_load_all(done.stdout)), "DaemonSet")
    image = daemons["spec"]["template"]["spec"]["containers"][0]["image"]
    assert image == f"REGISTRY/{CONTAINER['image']}"


def test_objects_are_of_the_apis_types() -> None:
    """Each field is one that the API has, with a value of its type, whatever is given."""
    for objects in (render(), everything(), render("updateStrategy: {type: OnDelete}")):
        for each in objects:
            assert misfits(each, f"V1{each['kind']}", each["kind"]) == []


def test_each_value_is_given_somewhere() -> None:
    """EVERYTHING has each, but for those that are tried with their opposite."""
    given = yaml.safe_load(EVERYTHING)
    assert set(SCHEMA["properties"]) - set(given) == {"rbac", "nameOverride"}
    defaults = yaml.safe_load((CHART / "values.yaml").read_text())
    assert set(SCHEMA["properties"]) - set(defaults) == {"enabled", "global"}


def test_every_capability_stays() -> None:
    """No value widens or narrows what the container may do."""
    (agent,) = of_kind(everything(), "DaemonSet")["spec"]["template"]["spec"]["containers"]
    assert agent["securityContext"] == CONTAINER["securityContext"]


@pytest.mark.parametrize(
    ("values", "image"),
    [
        ("", "merbridge:0.1.0.dev0"),
        ("image: {repository: registry.example/merbridge}", "registry.example/merbridge:0.1.0.dev0"),
        ("image: {tag: v2}", "merbridge:v2"),
        (f"image: {{tag: v2, digest: 'sha256:{'0a' * 32}'}}", f"merbridge@sha256:{'0a' * 32}"),
    ],
)
def test_the_image(values: str, image: str) -> None:
    """By its tag, or by its digest, which wins."""
    assert container(values)["image"] == image


def test_an_image_that_looks_like_a_number() -> None:
    """10:30 without quotes is 630, by YAML 1.1."""
    assert container("image: {repository: '10', tag: '30'}")["image"] == "10:30"


def test_how_the_image_is_pulled() -> None:
    """Nothing is said by default, so that Kubernetes decides."""
    assert "imagePullPolicy" not in container()
    assert "imagePullSecrets" not in pod()
    spec = of_kind(everything(), "DaemonSet")["spec"]["template"]["spec"]
    assert spec["containers"][0]["imagePullPolicy"] == "Always"
    assert spec["imagePullSecrets"] == [{"name": "one"}, {"name": "two"}]


def test_where_pods_are_put() -> None:
    """Selector, tolerations, affinity and priority are the pod's; a map is added to, as ever with Helm."""
    spec, given = of_kind(everything(), "DaemonSet")["spec"]["template"]["spec"], yaml.safe_load(EVERYTHING)
    assert spec["nodeSelector"] == {"kubernetes.io/os": "linux", "mesh": "on"}
    assert (spec["tolerations"], spec["affinity"]) == (given["tolerations"], given["affinity"])
    assert "priorityClassName" not in spec
    assert pod("priorityClassName: mine")["priorityClassName"] == "mine"
    assert "tolerations" not in pod("tolerations: []")


def test_resources() -> None:
    """What is given is added to what is there; null takes away."""
    assert container("resources: {limits: {cpu: 1}}")["resources"]["limits"] == {"cpu": 1, "memory": "384Mi"}
    assert "resources" not in container("resources: null")


def test_update_strategy() -> None:
    """A number or a part of the nodes at a time, or by hand."""
    assert daemon_set("updateStrategy: {rollingUpdate: {maxUnavailable: 3}}")["spec"]["updateStrategy"] == {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxUnavailable": 3},
    }
    assert daemon_set("updateStrategy: {type: OnDelete}")["spec"]["updateStrategy"] == {"type": "OnDelete"}


def test_annotations_and_labels_of_pods() -> None:
    """They come beside the chart's own, and not into the selector."""
    daemons = of_kind(everything(), "DaemonSet")
    metadata = daemons["spec"]["template"]["metadata"]
    assert metadata["annotations"] == {
        "container.apparmor.security.beta.kubernetes.io/agent": "unconfined",
        "prometheus.io/scrape": "true",
        "prometheus.io/port": "9000",
        "prometheus.io/path": "/metrics",
        "note": "yes",
    }
    assert (metadata["labels"]["team"], metadata["labels"]["app"]) == ("net", "agents")
    assert daemons["spec"]["selector"] == {"matchLabels": {"app": "agents"}}


@pytest.mark.parametrize(
    ("address", "variable", "probed"),
    [
        ("127.0.0.2", "127.0.0.2:9000", "127.0.0.2"),
        ("0.0.0.0", "0.0.0.0:9000", "127.0.0.1"),
        ("::1", "[::1]:9000", "::1"),
        ("::", "[::]:9000", "::1"),
        ("0:0::0", "[0:0::0]:9000", "::1"),
        ("::ffff:0.0.0.0", "[::ffff:0.0.0.0]:9000", "127.0.0.1"),
        ("::ffff:10.0.0.1", "[::ffff:10.0.0.1]:9000", "::ffff:10.0.0.1"),
    ],
)
def test_the_probes_ask_where_the_agent_listens(address: str, variable: str, probed: str) -> None:
    """Also where it listens at every address."""
    agent = container(f"listen: {{address: '{address}', port: 9000}}")
    given = {each["name"]: each.get("value", "node-1") for each in agent["env"]}
    assert load_config({}, given).listen == variable
    for probe in ("livenessProbe", "readinessProbe"):
        assert (agent[probe]["httpGet"]["host"], agent[probe]["httpGet"]["port"]) == (probed, 9000)


ADDRESSES = [
    *("::", "::1", "1::", "a::b", "1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7::", "::2:3:4:5:6:7:8", "FE80::00aB", "::1.2.3.4"),
    *("1:2:3:4:5:6:1.2.3.4", "1::6:1.2.3.4", "64:ff9b::255.255.255.255", "0000:0::0010", "10.0.0.1", "::ffff:a00:1"),
]
NO_ADDRESSES = [
    *("", ":", ":::", ":::::", ":1", "1:", "1:2", "1::2::3", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", "::1:2:3:4:5:6:7:8"),
    *("1::2:3:4:5:6:7:8", "12345::", "g::", "::1.2.3", "::1.2.3.256", "::01.2.3.4", "1.2.3.4::", ":1.2.3.4", "1.2.3"),
    *("1:2:3:4:5:6:7:1.2.3.4", "1:2:3:4:5:1.2.3.4", "1.2.3.4.5", "010.0.0.1", "10.0.0.1:80", " ::1", "merbridge"),
]
LOOPBACK = [
    *("127.0.0.1", "127.255.0.1", "::1", "0:0:0:0:0:0:0:1", "0000::0001", "::0.0.0.1", "::ffff:127.0.0.1"),
    *("0:0:0:0:0:FFFF:127.1.2.3", "::ffff:7f00:1", "::FFFF:7Fab:0"),
]
NO_LOOPBACK = ["10.0.0.1", "::", "::2", "::ffff:128.0.0.1", "::127.0.0.1", "0:1::1", "7f00::1", "::ffff:7f:1"]


def listening_at(address: str, more: str = "") -> str:
    """Values with this address."""
    return yaml.safe_dump({"listen": {"address": address}}) + more


def listen_at(address: str) -> None:
    """Have the agent read this address. Raises `ConfigError`."""
    endpoint = f"[{address}]:9000" if ":" in address else f"{address}:9000"
    load_config({}, {"MERBRIDGE_LISTEN": endpoint}, names=("listen",))


def test_the_chart_takes_for_an_address_what_the_agent_does() -> None:
    """IPv6 in each of its forms; what is none is refused here rather than by the agent on each node."""
    for address in ADDRESSES:
        listen_at(address)
    assert refusals(*map(listening_at, ADDRESSES)) == [""] * len(ADDRESSES)
    said = refusals(*map(listening_at, NO_ADDRESSES))
    for address, told in zip(NO_ADDRESSES, said, strict=True):
        with pytest.raises(ConfigError, match="MERBRIDGE_LISTEN"):
            listen_at(address)
        assert f"listen.address: {address or repr(address)} is no IP address" in told


def test_nobody_scrapes_a_loopback_address() -> None:
    """In whatever form it is given; what only looks like one is another address."""
    scrape = "prometheus: {scrape: true}"
    said = refusals(*(listening_at(address, scrape) for address in LOOPBACK))
    for address, told in zip(LOOPBACK, said, strict=True):
        assert f"prometheus.scrape: nobody beyond the node hears {address}: " in told
    assert refusals(*(listening_at(address, scrape) for address in NO_LOOPBACK)) == [""] * len(NO_LOOPBACK)


def test_ports_differ_also_from_the_agents_defaults() -> None:
    """Each port that a setting names is refused to `listen`, given or not, and to the other settings."""
    names = [name for name in SETTINGS if name.endswith("-port")]
    assert len(names) == 4
    for name in names:
        key, port = f"settings.{camel_case(name)}", SETTINGS[name].default_text
        with pytest.raises(HelmRefusalError, match=rf"{key}: {port} is also that of listen[.]port"):
            render(f"listen: {{port: {port}}}")
    swapped = environment("settings: {outPort: 15006, inPort: 15001}")
    assert (swapped["MERBRIDGE_OUT_PORT"], swapped["MERBRIDGE_IN_PORT"]) == ("15006", "15001")


def test_as_part_of_another_chart(tmp_path: Path) -> None:
    """With what Helm gives such a chart: `global`, and `enabled` for the condition."""
    shutil.copytree(CHART, tmp_path / "charts" / "merbridge")
    dependency = {"name": "merbridge", "version": "0.1.0-dev.0", "condition": "merbridge.enabled"}
    parent = {"apiVersion": "v2", "name": "mesh", "version": "1.0.0", "dependencies": [dependency]}
    (tmp_path / "Chart.yaml").write_text(yaml.safe_dump(parent))
    given = "global: {of: all}\nmerbridge: {enabled: true, image: {tag: v2}}"
    assert of_kind(render(given, chart=tmp_path), "DaemonSet")["metadata"]["name"] == "merbridge"
    assert render("merbridge: {enabled: false}", chart=tmp_path) == []


def test_each_setting_of_the_agent_is_a_value() -> None:
    """Or has a reason not to be."""
    assert set(SETTINGS_IN_SCHEMA) == {camel_case(name) for name in SETTINGS if name not in ELSEWHERE}


def samples(name: str) -> list[Any]:
    """Values that the schema allows for a setting."""
    schema = SETTINGS_IN_SCHEMA[camel_case(name)]
    if "enum" in schema:
        return list(schema["enum"])
    if schema["type"] == "integer":
        return [schema["minimum"], schema["maximum"]]
    return ["/sys/fs/bpf/other" if name in ("bpffs", "cgroup-root") else "some-name"]


@pytest.mark.parametrize("name", [name for name in SETTINGS if name not in ELSEWHERE])
def test_the_agent_understands_what_the_schema_allows(name: str) -> None:
    """Each choice and both ends of each range arrive as they are; beyond them both refuse."""
    setting = SETTINGS[name]
    words = {False: "no", True: "yes"} if name == "fail-open" else {False: "off", True: "on"}
    for sample in samples(name):
        text = words[sample] if isinstance(sample, bool) else str(sample)
        given = environment(yaml.safe_dump({"settings": {camel_case(name): sample}}))
        assert given[setting.variable] == text
        assert getattr(load_config({}, given), setting.attribute) == setting.parse(text)
    schema = SETTINGS_IN_SCHEMA[camel_case(name)]
    for beyond in [schema["minimum"] - 1, schema["maximum"] + 1] if "minimum" in schema else []:
        with pytest.raises(ValueError, match=str(beyond)):
            setting.parse(str(beyond))


def test_the_values_file_shows_each_setting_with_the_agents_default() -> None:
    """As comments, so that the agent's own default counts; and without the mark they are what the schema allows."""
    block = (CHART / "values.yaml").read_text().split("settings:\n", 1)[1].split("\n\n", 1)[0]
    shown = yaml.safe_load(block.replace("\n  # ", "\n  "))
    assert {key: str(value) for key, value in shown.items() if value is not None} == {
        camel_case(name): "json" if name == "log-format" else setting.default_text
        for name, setting in SETTINGS.items()
        if name not in ELSEWHERE and name != "cgroup-root"
    }
    given = {key: value for key, value in shown.items() if value is not None}
    assert load_config({}, environment(yaml.safe_dump({"settings": given}))).bpffs == SETTINGS["bpffs"].default({})


def test_more_variables() -> None:
    """They come behind the settings."""
    assert container(EVERYTHING)["env"][-2:] == yaml.safe_load(EVERYTHING)["extraEnv"]


def test_pods_may_be_patched_only_to_annotate_them() -> None:
    """Whichever way YAML reads `off`."""
    for value, verbs in (("on", ["list", "watch", "patch"]), ("off", ["list", "watch"]), ("'off'", ["list", "watch"])):
        role = of_kind(render(f"settings: {{annotate: {value}}}"), "ClusterRole")
        assert [rule["verbs"] for rule in role["rules"] if rule["resources"] == ["pods"]] == [verbs]


def test_account_and_role_can_be_somebody_elses() -> None:
    """Then neither is made, and the pods use the account that is named."""
    objects = render("serviceAccount: {create: false, name: theirs}\nrbac: {create: false}")
    assert [each["kind"] for each in objects] == ["DaemonSet"]
    assert objects[0]["spec"]["template"]["spec"]["serviceAccountName"] == "theirs"
    assert pod("serviceAccount: {create: false}\nrbac: {create: false}")["serviceAccountName"] == "default"


def test_the_role_is_bound_to_default_only_by_name() -> None:
    """Whatever else runs in the namespace has that account, and would have its permissions."""
    with pytest.raises(HelmRefusalError, match=r"serviceAccount[.]name: none is given or created"):
        render("serviceAccount: {create: false}")
    binding = of_kind(render("serviceAccount: {create: false, name: default}"), "ClusterRoleBinding")
    assert binding["subjects"][0]["name"] == "default"


def test_names_agree_when_each_is_another() -> None:
    """The binding is of the account and the role, in the namespace that is made."""
    account, binding, role = (
        of_kind(everything(), kind) for kind in ("ServiceAccount", "ClusterRoleBinding", "ClusterRole")
    )
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "agent", "namespace": "mesh"}]
    assert (account["metadata"]["name"], account["metadata"]["namespace"]) == ("agent", "mesh")
    assert account["metadata"]["annotations"] == {"who": "me"}
    assert binding["roleRef"]["name"] == role["metadata"]["name"] == "agents"
    assert of_kind(everything(), "Namespace")["metadata"]["name"] == "mesh"
    daemons = of_kind(everything(), "DaemonSet")
    assert (daemons["metadata"]["name"], daemons["metadata"]["namespace"]) == ("agents", "mesh")
    assert daemons["spec"]["template"]["spec"]["serviceAccountName"] == "agent"


def test_two_releases_have_nothing_in_common() -> None:
    """As for two pools of nodes with other settings each."""
    assert {each["metadata"]["name"] for each in render(name="blue")} == {"blue-merbridge"}
    blue, green = daemon_set(name="blue"), daemon_set(name="green")
    assert blue["spec"]["selector"] != green["spec"]["selector"]
    assert daemon_set("nameOverride: node-agent", name="blue")["metadata"]["name"] == "blue-node-agent"


def test_an_upgrade_keeps_the_selector(tmp_path: Path) -> None:
    """Kubernetes refuses another one; so no version is in it, nor in the pods' labels, which would start them again."""
    newer = tmp_path / "merbridge"
    shutil.copytree(CHART, newer)
    text = (newer / "Chart.yaml").read_text()
    (newer / "Chart.yaml").write_text(text.replace("version: 0.1.0-dev.0", "version: 9.0.0+build.7"))
    before, after = daemon_set(), of_kind(render(chart=newer), "DaemonSet")
    assert after["metadata"]["labels"]["helm.sh/chart"] == "merbridge-9.0.0_build.7"
    assert before["metadata"]["labels"]["helm.sh/chart"] == "merbridge-0.1.0-dev.0"
    assert after["spec"] == before["spec"]


def test_labels_of_helms_conventions() -> None:
    """Each object has them."""
    for each in render(name="blue"):
        labels = {key: value for key, value in each["metadata"]["labels"].items() if key.startswith(LABELS_OF_HELM)}
        assert labels == {
            "helm.sh/chart": "merbridge-0.1.0-dev.0",
            "app.kubernetes.io/name": "merbridge",
            "app.kubernetes.io/instance": "blue",
            "app.kubernetes.io/version": "0.1.0.dev0",
            "app.kubernetes.io/managed-by": "Helm",
        }


def test_versions_agree() -> None:
    """The image's tag is the package's version, and the chart's own the same as SemVer writes it."""
    version = (ROOT / "setup.cfg").read_text().split("version = ", 1)[1].split("\n", 1)[0]
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == version
    assert chart["version"] == version.replace(".dev", "-dev.")


def test_the_notes_say_what_to_look_at() -> None:
    """By the names of this release; and that an image without a registry has to be there."""
    told = notes(name="blue", namespace="mesh")
    assert "kubectl -n mesh exec daemonset/blue-merbridge -- python -m merbridge status" in told
    assert "set image.repository" in told
    assert "set image.repository" not in notes("image: {repository: registry.example/merbridge}")


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ("settings: {failOpn: 'no'}", "at '/settings': additional properties 'failOpn' not allowed"),
        ("settings: {fail-open: 'no'}", "at '/settings': additional properties 'fail-open' not allowed"),
        ("settings: {source: kubernetes}", "at '/settings': additional properties 'source' not allowed"),
        ("settings: {failOpen: maybe}", "at '/settings/failOpen': value must be one of 'yes', 'no', true, false"),
        ("settings: {maxPods: 0}", "at '/settings/maxPods': minimum: got 0, want 1"),
        ("settings: {maxPods: many}", "at '/settings/maxPods': got string, want integer"),
        ("settings: {exemptCgroup: ''}", "at '/settings/exemptCgroup': '' does not match"),
        ("settings: {bpffs: /run/bpf}", "at '/settings/bpffs': '/run/bpf' does not match"),
        ("settings: {bpffs: /sys/fs/bpf/../x}", "at '/settings/bpffs': '/sys/fs/bpf/../x' does not match"),
        ("settings: {bpffs: /sys/fs/bpf/a.b}", "at '/settings/bpffs': '/sys/fs/bpf/a.b' does not match"),
        (r'settings: {bpffs: "/sys/fs/bpf/a\nb"}', r"at '/settings/bpffs': '/sys/fs/bpf/a\nb' does not match"),
        (r'settings: {cgroupRoot: "/sys\x07"}', r"at '/settings/cgroupRoot': '/sys\a' does not match"),
        (r'settings: {exemptCgroup: "kubelet\n"}', r"at '/settings/exemptCgroup': 'kubelet\n' does not match"),
        (r'settings: {exemptCgroup: "\u2003"}', r"at '/settings/exemptCgroup': '\u2003' does not match"),
        ("settings: {inPort: 15001}", "settings.outPort: 15001 is also that of settings.inPort"),
        ("settings: {dnsPort: 9, hbonePort: 9}", "settings.hbonePort: 9 is also that of settings.dnsPort"),
        ("settings: {outPort: 15120}", "settings.outPort: 15120 is also that of listen.port"),
        ("settings: {ztunnelNamespace: Istio}", "at '/settings/ztunnelNamespace': 'Istio' does not match"),
        ("imag: {}", "additional properties 'imag' not allowed"),
        ("image: {repository: 'merbridge:v2'}", "at '/image/repository': 'merbridge:v2' does not match"),
        ("image: {repository: ''}", "at '/image/repository': '' does not match"),
        ("image: {tag: 1.0}", "at '/image/tag': got number, want string"),
        ("image: {digest: 0a0b}", "at '/image/digest': '0a0b' does not match"),
        ("image: {pullPolicy: Sometimes}", "at '/image/pullPolicy': value must be one of"),
        ("image: {pullSecrets: [{name: one}]}", "at '/image/pullSecrets/0': got object, want string"),
        ("listen: {port: 0}", "at '/listen/port': minimum: got 0, want 1"),
        ("listen: {address: 127.0.0.256}", "listen.address: 127.0.0.256 is no IP address"),
        ("listen: {address: '[::1]'}", "listen.address: [::1] is no IP address"),
        ("listen: {address: none}", "listen.address: none is no IP address"),
        (r'listen: {address: "127.0.0.1\n"}', r"at '/listen/address': '127.0.0.1\n' does not match"),
        ("prometheus: {scrape: true}", "prometheus.scrape: nobody beyond the node hears 127.0.0.1"),
        ("enabled: false", "enabled: false takes nothing away here"),
        ("enabled: 'yes'", "at '/enabled': got string, want boolean"),
        ("extraEnv: [{name: MERBRIDGE_SPLICE, value: both}]", "extraEnv: MERBRIDGE_SPLICE is the chart's own"),
        ("extraEnv: [{name: NODE_NAME, value: me}]", "extraEnv: NODE_NAME is the chart's own"),
        ("extraEnv: [{name: A, value: a}, {name: B}, {name: A}]", "extraEnv: A is given twice"),
        ("extraEnv: [{name: A, value: '', valueFrom: {}}]", "extraEnv: A has both value and valueFrom"),
        ("extraEnv: [{name: 1A}]", "at '/extraEnv/0/name': '1A' does not match"),
        ("extraEnv: [{name: A=B}]", "at '/extraEnv/0/name': 'A=B' does not match"),
        (r'extraEnv: [{name: A, value: "\0"}]', r"at '/extraEnv/0/value': '\x00' does not match"),
        ("extraEnv: {TZ: UTC}", "at '/extraEnv': got object, want array"),
        ("podLabels: {app: other}", "podLabels: app is the chart's own"),
        ("podLabels: {team: 5}", "at '/podLabels/team': got number, want string"),
        (
            "podAnnotations: {container.apparmor.security.beta.kubernetes.io/agent: runtime/default}",
            "podAnnotations: container.apparmor.security.beta.kubernetes.io/agent is the chart's own",
        ),
        (
            "{podAnnotations: {prometheus.io/port: '1'}, prometheus: {scrape: true}, listen: {address: 0.0.0.0}}",
            "podAnnotations: prometheus.io/port is the chart's own",
        ),
        ("nodeSelector: {mesh: on}", "at '/nodeSelector/mesh': got boolean, want string"),
        ("tolerations: [{kye: a}]", "at '/tolerations/0': additional properties 'kye' not allowed"),
        ("affinity: {podAfinity: {}}", "at '/affinity': additional properties 'podAfinity' not allowed"),
        ("updateStrategy: {type: Recreate}", "at '/updateStrategy/type': value must be one of"),
        ("updateStrategy: {rollingUpdate: {maxUnavailable: 0%}}", "at '/updateStrategy/rollingUpdate/maxUnavailable'"),
        ("updateStrategy: {rollingUpdate: {maxSurge: 1}}", "additional properties 'maxSurge' not allowed"),
        ("resources: {limit: {}}", "at '/resources': additional properties 'limit' not allowed"),
        ("serviceAccount: {name: A_B}", "at '/serviceAccount/name': 'A_B' does not match"),
        ("namespace: {name: a.b}", "at '/namespace/name': 'a.b' does not match"),
        ("fullnameOverride: A", "at '/fullnameOverride': 'A' does not match"),
        ("settings: null", "missing property 'settings'"),
    ],
)
def test_what_is_refused(values: str, told: str) -> None:
    """By one line that names the value."""
    with pytest.raises(HelmRefusalError) as caught:
        render(values)
    lines = str(caught.value).strip().splitlines()
    assert told in lines[-1]
    assert len([line for line in lines if line.startswith("- ")]) <= 1


def test_it_is_packaged(tmp_path: Path) -> None:
    """The archive renders the same."""
    archive = package(tmp_path)
    assert archive.name == "merbridge-0.1.0-dev.0.tgz"
    assert render(chart=archive) == render()
