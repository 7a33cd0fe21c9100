"""The chart as a release: Helm installs it into a cluster, upgrades it, goes back, and takes it away."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from helm import NEEDS_HELM, release
from helm_cluster import HelmCluster
from test_deploy import misfits

from tools.chart import CHART

pytestmark = NEEDS_HELM

INSTALL = ("install", str(CHART), "merbridge")
UPGRADE = ("upgrade", str(CHART), "merbridge")
NEW_NAMESPACE = {"create_namespace": True}
KINDS = {"ServiceAccount", "ClusterRole", "ClusterRoleBinding", "DaemonSet"}


def unknown(value: dict[str, Any]) -> list[str]:
    """What the API of today does not know of an object."""
    return misfits(value, f"V1{value['kind']}", value["kind"]) + no_texts(value)


def no_texts(value: dict[str, Any]) -> list[str]:
    """Labels, selectors and annotations that are not texts."""
    metadata, spec = value["metadata"], value.get("spec", {})
    pods = spec.get("template", {})
    texts = [spec.get("selector", {}).get("matchLabels", {}), pods.get("spec", {}).get("nodeSelector", {})]
    for each in (metadata, pods.get("metadata", {})):
        texts += [each.get("labels", {}), each.get("annotations", {})]
    return [f"{key}: a text is wanted" for each in texts for key, text in each.items() if not isinstance(text, str)]


def unknown_in_1_29(value: dict[str, Any]) -> list[str]:
    """And what was not known before Kubernetes 1.30."""
    return unknown(value) + (["appArmorProfile"] if "appArmorProfile" in str(value) else [])


@pytest.fixture
def api() -> Iterator[HelmCluster]:
    """A cluster of today."""
    with HelmCluster("1.32", unknown) as started:
        yield started


def kinds(api: HelmCluster) -> set[str]:
    """Of what objects there are some."""
    return {kind for kind, _ in api.objects}


def verbs_for_pods(api: HelmCluster) -> list[str]:
    """What the role allows."""
    rules = api.objects["ClusterRole", "merbridge"]["rules"]
    (verbs,) = [rule["verbs"] for rule in rules if rule["resources"] == ["pods"]]
    return list(verbs)


@pytest.mark.parametrize(
    ("version", "check", "profile"),
    [
        ("1.29", unknown_in_1_29, None),
        ("1.30", unknown, {"type": "Unconfined"}),
        ("1.34", unknown, {"type": "Unconfined"}),
    ],
)
def test_install(version: str, check: Callable[[dict[str, Any]], list[str]], profile: object) -> None:
    """Helm makes the namespace; the field that the AppArmor profile has since 1.30 comes where it is known."""
    with HelmCluster(version, check) as api:
        assert release(api.kubeconfig, (*INSTALL, {}, NEW_NAMESPACE)) == [""]
        assert kinds(api) == {*KINDS, "Namespace"}
        pod = api.objects["DaemonSet", "merbridge"]["spec"]["template"]["spec"]
        assert pod["containers"][0]["securityContext"].get("appArmorProfile") == profile


WORDS = ("123", "0", "1e3", "0x10", "true", "no", "null", "2001-01-01")


@pytest.mark.parametrize("word", WORDS)
def test_names_that_yaml_reads_as_something_else(word: str) -> None:
    """As Helm reads what it has rendered, each is a text still: of a release, an account, a class, a label."""
    with HelmCluster("1.32", unknown) as api:
        install = ("install", str(CHART), word)
        given = {
            "namespace": {"name": word, "create": True},
            "serviceAccount": {"name": word, "annotations": {"a": word}},
            "nameOverride": word,
            "priorityClassName": word,
            "image": {"repository": "10", "tag": word, "pullSecrets": [word]},
            "podLabels": {"team": word},
            "podAnnotations": {"note": word},
            "nodeSelector": {"pool": word},
            "extraEnv": [{"name": "A", "value": word}],
            "settings": {"exemptCgroup": word, "ztunnelNamespace": word},
        }
        upgrade = ("upgrade", str(CHART), word, {**given, "fullnameOverride": word}, {})
        assert release(api.kubeconfig, (*install, given, {}), upgrade, namespace="default") == ["", ""]
        assert api.objects.keys() == {(kind, word) for kind in (*KINDS, "Namespace")}
        for each in api.objects.values():
            labels = each["metadata"]["labels"]
            assert (labels["app.kubernetes.io/instance"], labels["app.kubernetes.io/name"]) == (word, word)
        spec = api.objects["DaemonSet", word]["spec"]
        assert spec["selector"] == {"matchLabels": {"app": word}}
        assert spec["template"]["metadata"]["labels"]["app"] == word
        pod = spec["template"]["spec"]
        assert (pod["serviceAccountName"], pod["priorityClassName"]) == (word, word)
        assert (pod["imagePullSecrets"], pod["containers"][0]["image"]) == ([{"name": word}], f"10:{word}")
        (subject,) = api.objects["ClusterRoleBinding", word]["subjects"]
        assert (subject["name"], subject["namespace"]) == (word, word)


def test_upgrade_and_back(api: HelmCluster) -> None:
    """Each value counts from then on; another selector would be refused; a wrong value changes nothing."""
    first = (*INSTALL, {}, NEW_NAMESPACE)
    quiet = {"settings": {"annotate": "off"}, "image": {"tag": "v2"}, "podLabels": {"team": "net"}}
    assert release(api.kubeconfig, first, (*UPGRADE, quiet, {})) == ["", ""]
    assert verbs_for_pods(api) == ["list", "watch"]
    assert release(api.kubeconfig, first, (*UPGRADE, quiet, {}), ("rollback", "merbridge", {"version": 1})) == [""] * 3
    assert verbs_for_pods(api) == ["list", "watch", "patch"]
    _, refused = release(api.kubeconfig, first, (*UPGRADE, {"settings": {"anotate": "off"}}, {}))
    assert "at '/settings': additional properties 'anotate' not allowed" in refused
    assert verbs_for_pods(api) == ["list", "watch", "patch"]


def test_uninstall(api: HelmCluster) -> None:
    """What was installed is gone, but for the namespace, which Helm has made and leaves."""
    said = release(api.kubeconfig, (*INSTALL, {}, NEW_NAMESPACE), ("uninstall", "merbridge", {}))
    assert said == ["", ""]
    assert kinds(api) == {"Namespace"}


def test_the_releases_own_namespace_has_to_be_there(api: HelmCluster) -> None:
    """The chart can make another one, with the label that admits the pods, or take over what Helm 4 has just made."""
    own = {"namespace": {"create": True}}
    assert release(api.kubeconfig, (*INSTALL, own, NEW_NAMESPACE)) == [""]
    label = "pod-security.kubernetes.io/enforce"
    assert api.objects["Namespace", "merbridge"]["metadata"]["labels"][label] == "privileged"
    api.objects.clear()
    other = {"namespace": {"create": True, "name": "mesh"}}
    assert release(api.kubeconfig, (*INSTALL, other, {}), namespace="default") == [""]
    assert api.objects["Namespace", "mesh"]["metadata"]["labels"][label] == "privileged"
    assert api.objects["DaemonSet", "merbridge"]["metadata"]["namespace"] == "mesh"
