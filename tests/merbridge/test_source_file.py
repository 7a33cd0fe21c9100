"""The source `file:PATH`: what kubectl prints is understood, what is cut or wrong is refused in one line."""

import json
import os
import textwrap
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any

import pytest
import yaml

from merbridge.config import load_config
from merbridge.model import Pod, Snapshot
from merbridge.sources import FileSource, SourceError, choose_source

# The order of keys and the quoting are kubectl's.
KUBECTL_YAML = """\
apiVersion: v1
items:
- apiVersion: v1
  kind: Namespace
  metadata:
    creationTimestamp: "2026-08-01T09:00:00Z"
    labels:
      istio.io/dataplane-mode: ambient
      kubernetes.io/metadata.name: shop
    name: shop
    resourceVersion: "211"
    uid: 5d1c9a10-0000-4000-8000-0000000000aa
  spec:
    finalizers:
    - kubernetes
  status:
    phase: Active
- apiVersion: v1
  kind: Pod
  metadata:
    annotations:
      note: 'a: "quoted" # text'
    creationTimestamp: "2026-08-01T10:00:00Z"
    labels:
      app: web
      tier: "1"
    name: web-0
    namespace: shop
    uid: 0a1b2c3d-0000-4000-8000-000000000001
  spec:
    containers:
    - args:
      - =
      - 2026-08-01
      image: example.org/web:1
      name: web
    hostNetwork: true
    nodeName: node-1
  status:
    conditions:
    - lastProbeTime: null
      status: "True"
      type: Initialized
    - status: "True"
      type: Ready
    phase: Running
    podIP: fd00::5
    podIPs:
    - ip: fd00::5
    - ip: 10.244.1.5
- apiVersion: v1
  kind: Pod
  metadata:
    creationTimestamp: "2026-08-01T10:00:01Z"
    deletionTimestamp: "2026-08-01T11:00:00Z"
    name: web-1
    namespace: shop
    uid: 0A1B2C3D-0000-4000-8000-000000000002
  spec: {}
  status:
    phase: Pending
kind: List
metadata:
  resourceVersion: ""
"""

WEB_0 = Pod(
    uid="0a1b2c3d-0000-4000-8000-000000000001",
    namespace="shop",
    name="web-0",
    node_name="node-1",
    host_network=True,
    labels={"app": "web", "tier": "1"},
    annotations={"note": 'a: "quoted" # text'},
    ip=IPv4Address("10.244.1.5"),
    phase="Running",
    ready=True,
    deleting=False,
    created="2026-08-01T10:00:00Z",
    ip6=IPv6Address("fd00::5"),
)
WEB_1 = Pod(
    uid="0a1b2c3d-0000-4000-8000-000000000002",
    namespace="shop",
    name="web-1",
    node_name=None,
    host_network=False,
    labels={},
    annotations={},
    ip=None,
    phase="Pending",
    ready=False,
    deleting=True,
    created="2026-08-01T10:00:01Z",
)
SHOP = {"istio.io/dataplane-mode": "ambient", "kubernetes.io/metadata.name": "shop"}
EXPECTED = Snapshot(namespaces={"shop": SHOP}, pods=(WEB_0, WEB_1))

NAMESPACE_A = "kind: Namespace\nmetadata:\n  name: a\n"

Document = dict[str, Any]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a test writes a pod file."""
    return tmp_path / "pods.yaml"


def read(path: Path, text: str) -> Snapshot:
    """What the source makes of `text`."""
    path.write_text(text)
    return FileSource(path).read()


def refusal(path: Path, text: str) -> str:
    """The one line with which `text` is refused, without the file's name in front."""
    with pytest.raises(SourceError) as caught:
        read(path, text)
    line = str(caught.value)
    assert line.startswith(f"{path}: ")
    assert "\n" not in line
    return line.removeprefix(f"{path}: ")


def documents() -> Document:
    """The List above as values, to be changed."""
    loaded: Document = yaml.load(KUBECTL_YAML, Loader=yaml.BaseLoader)  # noqa: S506  # makes only texts
    loaded["items"][1]["spec"]["hostNetwork"] = True
    del loaded["items"][1]["status"]["conditions"][0]["lastProbeTime"]
    return loaded


def as_json(**pod_changes: Any) -> str:
    """The List above in JSON; `spec__nodeName=…` changes that field of its first pod, None removes it."""
    loaded = documents()
    for where, value in pod_changes.items():
        room, _, key = where.partition("__")
        if value is None:
            del loaded["items"][1][room][key]
        else:
            loaded["items"][1][room][key] = value
    return json.dumps(loaded)


def test_kubectl_yaml(path: Path) -> None:
    """Every field comes out of kubectl's YAML; a date and a lone `=` among the fields nobody reads do no harm."""
    assert read(path, KUBECTL_YAML) == EXPECTED


def test_kubectl_json(path: Path) -> None:
    """JSON is known by its content, not by the file's name; a byte order mark is let pass."""
    assert read(path, as_json()) == EXPECTED
    assert read(path, "\ufeff\n" + as_json()) == EXPECTED


def test_several_documents(path: Path) -> None:
    """Lists and single objects, in YAML or JSON, add up; empty documents between them mean nothing."""
    listed = documents()
    namespace, web_0, web_1 = listed["items"]
    several = yaml.safe_dump_all([namespace, {"kind": "List", "items": [web_0]}, web_1])
    assert read(path, "---\n# none\n---\n" + several) == EXPECTED
    assert read(path, "\n".join(json.dumps(item) for item in listed["items"])) == EXPECTED
    assert read(path, "\n---\n".join(json.dumps(item) for item in listed["items"])) == EXPECTED


def test_lists_as_the_api_gives_them(path: Path) -> None:
    """A PodList's and a NamespaceList's items carry no kind."""
    items = documents()["items"]
    for item in items:
        del item["kind"]
    lists = [{"kind": "NamespaceList", "items": items[:1]}, {"kind": "PodList", "items": items[1:]}]
    assert read(path, yaml.safe_dump_all(lists)) == EXPECTED


def test_other_kinds_are_ignored(path: Path) -> None:
    """Objects that are neither pods nor namespaces are not looked into."""
    listed = documents()
    listed["items"].append({"kind": "Service", "metadata": None})
    text = yaml.safe_dump_all([listed, {"kind": "Deployment"}, {"kind": "ServiceList", "items": "x"}])
    assert read(path, text) == EXPECTED


def test_empty_list_is_no_pods(path: Path) -> None:
    """`items: []` is a node without pods, not an error."""
    assert read(path, "apiVersion: v1\nitems: []\nkind: List\nmetadata: {}\n") == Snapshot({}, ())


@pytest.mark.timeout(300)
def test_every_cut_is_noticed(path: Path) -> None:
    """However short kubectl's YAML is cut, it is refused, or nothing of it is lost."""
    whole = 0
    for length in range(len(KUBECTL_YAML)):
        path.write_text(KUBECTL_YAML[:length])
        try:
            snapshot = FileSource(path).read()
        except SourceError:
            continue
        assert snapshot == EXPECTED
        whole += 1
    assert whole <= len('\nmetadata:\n  resourceVersion: ""\n')


def test_every_cut_of_json_is_noticed(path: Path) -> None:
    """However short JSON is cut, it is refused."""
    text = as_json()
    for length in range(0, len(text) - 1, 7):
        refusal(path, text[:length])


@pytest.mark.parametrize("ending", ["{", "    podIP: 10.244.1.1", "    podIP: 10.244.1.15\n---\n"])
def test_cut_after_the_kind(path: Path, ending: str) -> None:
    """Where the kind comes first, as people write it, a cut within a line or after `---` is still noticed."""
    text = textwrap.dedent("""\
        kind: Pod
        metadata: {name: a, namespace: b, uid: c}
        spec: {}
        status:
        """)
    assert read(path, text + "    podIP: 10.244.1.15\n").pods[0].ip == IPv4Address("10.244.1.15")
    refusal(path, text + ending)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "the file is empty: half-written?"),
        (" \n\t\n", "the file is empty: half-written?"),
        ("# only this\n", "nothing follows the last `---` or comment: half-written?"),
        ("kind: List\nitems:\n- a: [1\n", "line 4, column 1: broken YAML: "),
        ("kind: List\nitems: &a\n- *b\n", "line 3, column 3: broken YAML: found undefined alias"),
        ("kind: List\n\x00", "broken YAML: "),
        ('{"kind": "List",\n "items": [}', "line 2, column 12: broken JSON: Expecting value"),
        ("items:\n", "a list without `kind: List`: half-written?"),
        ("kind: List\n", "document 1: items is not a list: half-written?"),
        ("kind: List\nitems:\n", "document 1: items is not a list: half-written?"),
        ("kind: List\nitems: [1]\n", "document 1, items[0] is not an object: half-written?"),
        ("kind: List\nitems: [{}]\n", "document 1, items[0] has no kind: half-written?"),
        ("- kind: Pod\n", "document 1 is not a List, a Pod or a Namespace"),
        ("just text\n", "document 1 is not a List, a Pod or a Namespace"),
        ("kind: Service\n", "no List, Pod or Namespace in it (kind: 'Service'):"),
        ("kind: Pod\n", "document 1 has no metadata: half-written?"),
        ("kind: Namespace\nmetadata: {}\n", "document 1 has no metadata.name: half-written?"),
        (NAMESPACE_A + "  labels:\n", "Namespace a: metadata.labels is empty (null), not a mapping"),
        (NAMESPACE_A + "  labels: {b: no}\n", "Namespace a: metadata.labels: 'b': False is not a string: quote it"),
        (NAMESPACE_A + "---\n" + NAMESPACE_A, "Namespace a is in the file twice"),
        # PyYAML says where since 6.0.4; before, Python's own limit ends it.
        ("[" * 100_000, ("broken YAML: ", "line 1, column 1001: broken YAML: exceeded maximum nesting depth")),
        ('{"a":' * 100_000, "broken JSON: "),
        ("\n".join(" " * depth + "a:" for depth in range(3000)), "broken YAML: nested more than 200 levels deep"),
    ],
    ids=range(23),
)
def test_refusals(path: Path, text: str, expected: str | tuple[str, ...]) -> None:
    """What is no pod list is refused in one line with the place, however broken it is."""
    assert refusal(path, text).startswith(expected)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"metadata__uid": None}, "Pod shop/web-0 has no metadata.uid: half-written?"),
        ({"metadata__name": None}, "document 1, items[1] has no metadata.name: half-written?"),
        ({"metadata__namespace": None}, "document 1, items[1] has no metadata.namespace: half-written?"),
        ({"metadata__uid": WEB_1.uid}, f"Pod shop/web-1: its uid {WEB_1.uid} is also that of Pod shop/web-0"),
        ({"metadata__name": "a\nb"}, "document 1, items[1]: metadata.name is 'a\\nb': it holds control characters"),
        ({"metadata__labels": ["a"]}, "Pod shop/web-0: metadata.labels is ['a'], not a mapping"),
        ({"metadata__annotations": {"a": 1}}, "Pod shop/web-0: metadata.annotations: 'a': 1 is not a string: quote it"),
        ({"spec__hostNetwork": "yes"}, "Pod shop/web-0: spec.hostNetwork is 'yes', not true or false"),
        ({"spec__nodeName": 7}, "Pod shop/web-0: spec.nodeName is 7, not a string"),
        ({"status__podIP": "10.244.1"}, "Pod shop/web-0: status.podIP '10.244.1' is not an IP address"),
        ({"status__podIPs": [{"ip": "x"}]}, "Pod shop/web-0: status.podIP 'x' is not an IP address"),
        ({"status__conditions": ["Ready"]}, "Pod shop/web-0: status.conditions[0] is 'Ready', not a mapping"),
    ],
)
def test_wrong_pieces(path: Path, changes: dict[str, Any], expected: str) -> None:
    """A missing or wrongly typed piece is refused with the object's name and the field's."""
    assert refusal(path, as_json(**changes)) == expected


@pytest.mark.parametrize("room", ["spec", "status", "metadata"])
def test_rooms_of_a_pod_are_required(path: Path, room: str) -> None:
    """A pod without spec or status, as a cut leaves it, is refused."""
    loaded = documents()
    del loaded["items"][1][room]
    assert f"has no {room}: half-written?" in refusal(path, json.dumps(loaded))


def test_unreadable_files(tmp_path: Path) -> None:
    """A missing file, a directory, a pipe and bytes that are no text are each refused in one line."""
    with pytest.raises(SourceError, match=r"none: cannot read the pod file: No such file or directory$"):
        FileSource(tmp_path / "none").read()
    with pytest.raises(SourceError, match="not a regular file"):
        FileSource(tmp_path).read()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SourceError, match="not a regular file"):
        FileSource(tmp_path / "pipe").read()
    (tmp_path / "bytes").write_bytes(b"kind: List\nitems: \xff")
    with pytest.raises(SourceError, match="line 2: not UTF-8 text"):
        FileSource(tmp_path / "bytes").read()


def test_stamp_sees_each_way_of_changing(tmp_path: Path) -> None:
    """Written in place, renamed over, swapped by a symlink on the way, removed: the stamp differs each time."""
    for version, text in enumerate(("one", "two")):
        (tmp_path / f"..{version}").mkdir()
        (tmp_path / f"..{version}" / "pods.yaml").write_text(text)
    (tmp_path / "..data").symlink_to("..0")
    path = tmp_path / "pods.yaml"
    path.symlink_to("..data/pods.yaml")
    source = FileSource(path)
    stamps = [source.stamp()]
    assert source.stamp() == stamps[0]

    (tmp_path / "..data_tmp").symlink_to("..1")
    (tmp_path / "..data_tmp").rename(tmp_path / "..data")
    stamps.append(source.stamp())
    path.write_text("longer")
    stamps.append(source.stamp())
    (tmp_path / "new").write_text("longer")
    (tmp_path / "new").rename(path)
    stamps.append(source.stamp())
    path.unlink()
    stamps.append(source.stamp())
    assert len(set(stamps)) == len(stamps)


def test_last_good_state_is_kept(tmp_path: Path) -> None:
    """A file that becomes unreadable changes nothing but the source's state; a good one is taken again."""
    path = tmp_path / "pods.yaml"
    path.write_text(KUBECTL_YAML)
    source = FileSource(path)
    source.start()
    good = source.latest()
    assert good is not None
    path.write_text("kind: List\nitems: [")
    assert source.latest() is good
    (state,) = source.states()
    assert (state.name, state.synced) == (f"file:{path}", True)
    assert state.problem.startswith(f"{path}: ")
    path.write_text(KUBECTL_YAML.replace("web-0", "web-9"))
    assert source.latest() != good
    assert source.states()[0].problem == ""


def test_choice_of_the_source(tmp_path: Path) -> None:
    """`file:PATH` is this source; what is no source says what there is."""
    chosen = choose_source(load_config({"source": f"file:{tmp_path}/a:b"}, {}))
    assert isinstance(chosen, FileSource)
    assert chosen.path == tmp_path / "a:b"
    for text in ("file:", "file", "kubernetes:", "/pods.yaml"):
        with pytest.raises(SourceError, match=r"what exists is kubernetes, and file:PATH with the output of") as caught:
            choose_source(load_config({"source": text}, {}))
        assert repr(text) in str(caught.value)
