"""Debian's kubectl works against the tests' API server: so the server speaks as a real one does."""

import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from apiserver import ApiServer, Fault
from apiserver.objects import namespace, pod
from cluster import SLOWNESS, wait_until


@pytest.fixture
def server() -> Iterator[ApiServer]:
    """A server with two namespaces and two pods."""
    with ApiServer() as started:
        started.store.put(namespace("shop"))
        started.store.put(namespace("empty"))
        started.store.put(pod("web", labels={"app": "web"}))
        started.store.put(pod("other", node="node-2"))
        yield started


@pytest.fixture
def command(server: ApiServer, tmp_path: Path) -> list[str]:
    """The argument list that begins each kubectl command."""
    program = shutil.which("kubectl")
    assert program, "kubectl is missing, and the tests need it: tools/install-test-packages installs it"
    kubeconfig = server.write_kubeconfig(tmp_path / "kubeconfig")
    return [program, "--kubeconfig", str(kubeconfig), "--cache-dir", str(tmp_path / "cache")]


def output(command: list[str], *arguments: str) -> str:
    """What kubectl prints; it must end well."""
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=30 * SLOWNESS, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def first_words(text: str, count: int) -> list[list[str]]:
    """The first words of each line."""
    return [line.split()[:count] for line in text.splitlines()]


def test_get(command: list[str]) -> None:
    """Pods and namespaces are listed, also by their short names, by field, and one alone."""
    pods = first_words(output(command, "get", "pods", "-A"), 2)
    assert pods == [["NAMESPACE", "NAME"], ["shop", "other"], ["shop", "web"]]
    assert first_words(output(command, "get", "ns"), 1) == [["NAME"], ["empty"], ["shop"]]
    chosen = first_words(output(command, "get", "po", "-A", "--field-selector", "spec.nodeName=node-2"), 2)
    assert chosen == [["NAMESPACE", "NAME"], ["shop", "other"]]
    one = json.loads(output(command, "get", "pod", "-n", "shop", "web", "-o", "json"))
    assert (one["kind"], one["metadata"]["labels"]) == ("Pod", {"app": "web"})


def test_what_the_file_source_needs(command: list[str]) -> None:
    """`kubectl get namespaces,pods -A -o json` prints one List of both."""
    listed = json.loads(output(command, "get", "namespaces,pods", "-A", "-o", "json"))
    assert [each["kind"] for each in listed["items"]] == ["Namespace", "Namespace", "Pod", "Pod"]


def test_annotate_and_label(server: ApiServer, command: list[str]) -> None:
    """Annotations and labels are put onto pods and namespaces, and taken away."""
    output(command, "annotate", "pod", "-n", "shop", "web", "a/b=c")
    assert server.store.get("pods", "shop", "web")["metadata"]["annotations"] == {"a/b": "c"}
    output(command, "annotate", "pod", "-n", "shop", "web", "a/b-")
    assert "annotations" not in server.store.get("pods", "shop", "web")["metadata"]
    output(command, "label", "pod", "-n", "shop", "web", "tier=1")
    assert server.store.get("pods", "shop", "web")["metadata"]["labels"] == {"app": "web", "tier": "1"}
    output(command, "label", "ns", "shop", "istio.io/dataplane-mode=ambient")
    assert server.store.get("namespaces", "", "shop")["metadata"]["labels"] == {"istio.io/dataplane-mode": "ambient"}


def test_watch(server: ApiServer, command: list[str]) -> None:
    """`get -w` prints each change as it comes."""
    lines: list[str] = []
    with subprocess.Popen([*command, "get", "pods", "-A", "-w"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        reader = threading.Thread(target=lines.extend, args=(iter(process.stdout.readline, ""),))
        reader.start()
        try:
            wait_until(lambda: len(lines) == 3, "what is there is printed")
            server.store.put(pod("third"))
            wait_until(lambda: any("third" in line for line in lines), "what comes is printed")
        finally:
            process.terminate()
            reader.join()


def test_refusals_are_understood(server: ApiServer, command: list[str]) -> None:
    """kubectl says what the server refuses: a missing pod, a missing permission."""
    missing = subprocess.run([*command, "get", "pod", "-n", "shop", "no"], capture_output=True, text=True, check=False)
    assert missing.stderr.strip() == 'Error from server (NotFound): pods "no" not found'
    server.forbidden.add(("list", "pods"))
    forbidden = subprocess.run([*command, "get", "pods", "-A"], capture_output=True, text=True, check=False)
    assert "Error from server (Forbidden): pods is forbidden" in forbidden.stderr


def test_faults_pass(server: ApiServer, command: list[str]) -> None:
    """A fault is met by as many requests as it was made for."""
    server.fail(Fault("status", "list", "pods", code=500, message="etcd is away"))
    failed = subprocess.run([*command, "get", "pods", "-A"], capture_output=True, text=True, check=False)
    assert "etcd is away" in failed.stderr
    output(command, "get", "pods", "-A")
