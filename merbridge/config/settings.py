"""The one table of settings: flags, environment names and keys of the configuration file all come from it."""

import re
import socket
from collections.abc import Callable, Mapping
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import attrs

Environment = Mapping[str, str]
Value = str | int | Path | None

_ENDPOINT = re.compile(r"(\[(?P<ip6>[^\]]*)\]|(?P<ip4>[^:\[\]]*)):(?P<port>[0-9]+)")
_DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


@attrs.frozen
class Setting:
    """One setting. `parse` raises ValueError for a text that is not `allowed`; `default` may ask the environment."""

    name: str
    metavar: str
    parse: Callable[[str], Value]
    allowed: str
    default: Callable[[Environment], Value]
    default_text: str
    help: str
    in_file: bool = True

    @property
    def attribute(self) -> str:
        """The name in `Config`, and the other spelling in the file."""
        return self.name.replace("-", "_")

    @property
    def flag(self) -> str:
        """As on the command line."""
        return f"--{self.name}"

    @property
    def variable(self) -> str:
        """As in the environment."""
        return f"MERBRIDGE_{self.attribute.upper()}"


def _always(value: Value) -> Callable[[Environment], Value]:
    return lambda _environment: value


def _text(text: str) -> str:
    if not text.strip() or "\0" in text:
        raise ValueError(text)
    return text


def _path(text: str) -> Path:
    return Path(_text(text))


def _absolute_path(text: str) -> Path:
    path = _path(text)
    if not path.is_absolute():
        raise ValueError(text)
    return path


def _dns_label(text: str) -> str:
    if not _DNS_LABEL.fullmatch(text):
        raise ValueError(text)
    return text


def _one_of(*choices: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text.lower() not in choices:
            raise ValueError(text)
        return text.lower()

    return parse


def _number(lowest: int, highest: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        # int() takes signs, spaces, underscores and other scripts' digits.
        if not re.fullmatch(r"[0-9]{1,10}", text) or not lowest <= int(text) <= highest:
            raise ValueError(text)
        return int(text)

    return parse


def _endpoint(text: str) -> str:
    if text != "none":
        split_endpoint(text)
    return text


def split_endpoint(text: str) -> tuple[str, int]:
    """Host and port of `--listen`, an IPv6 address in brackets; raises ValueError."""
    found = _ENDPOINT.fullmatch(text)
    if found is None:
        raise ValueError(text)
    host = str(IPv4Address(found["ip4"]) if found["ip6"] is None else IPv6Address(found["ip6"]))
    return host, _number(0, 65535)(found["port"])


def _this_node(environment: Environment) -> str:
    # The kubelet registers the hostname in lower case.
    return environment.get("NODE_NAME") or socket.gethostname().lower()


SETTINGS: Mapping[str, Setting] = {
    setting.name: setting
    for setting in (
        Setting(
            "config", "FILE", _path, "a path", _always(None), "none",
            "YAML file with settings, their names as keys", in_file=False,
        ),
        Setting(
            "source", "KIND", _text, "kubernetes or file:PATH", _always(None), "none: it must be given",
            "where pods and namespaces are known from: kubernetes (the API), or file:PATH, what `kubectl get "
            "namespaces,pods -A -o yaml` prints",
        ),
        Setting(
            "kubeconfig", "FILE", _path, "a path", _always(None), "in a pod its service account, else kubectl's",
            "with --source kubernetes: where the API is and who the agent is there",
        ),
        Setting(
            "context", "NAME", _text, "a context's name", _always(None), "the kubeconfig's current one",
            "with --source kubernetes: the context of the kubeconfig",
        ),
        Setting(
            "node-name", "NAME", _text, "a node's name", _this_node, "NODE_NAME, then the hostname",
            "this node's name; pods of other nodes are ignored",
        ),
        Setting(
            "cgroup-root", "DIR", _absolute_path, "an absolute path", _always(None), "the cgroup2 mount of PID 1",
            "cgroup2 directory that the programs are attached to and pods' cgroups are below",
        ),
        Setting(
            "bpffs", "DIR", _absolute_path, "an absolute path", _always(Path("/sys/fs/bpf/merbridge")),
            "/sys/fs/bpf/merbridge", "directory for pinned maps and links; bpffs is mounted if it is missing",
        ),
        Setting(
            "proc", "DIR", _absolute_path, "an absolute path", _always(Path("/proc")), "/proc",
            "proc file system of the node's PID namespace",
        ),
        Setting(
            "host-pid", "PID", _number(1, 4_194_304), "a process id", _always(1), "1",
            "a process in the node's own network namespace; its connections to enrolled pods go to ztunnel, too",
        ),
        Setting(
            "out-port", "PORT", _number(1, 65535), "a TCP port, 1 to 65535", _always(15001), "15001",
            "ztunnel's port for outbound connections",
        ),
        Setting(
            "in-port", "PORT", _number(1, 65535), "a TCP port, 1 to 65535", _always(15006), "15006",
            "ztunnel's port for what the host sends to enrolled pods",
        ),
        Setting(
            "hbone-port", "PORT", _number(1, 65535), "a TCP port, 1 to 65535", _always(15008), "15008",
            "the port of HBONE, which stays the same on its way to ztunnel",
        ),
        Setting(
            "dns-port", "PORT", _number(1, 65535), "a TCP and UDP port, 1 to 65535", _always(15053), "15053",
            "ztunnel's port for DNS",
        ),
        Setting(
            "dns-capture", "WHETHER", _one_of("on", "off"), "on or off", _always("on"), "on",
            "whether DNS of enrolled pods with the annotation ambient.istio.io/dns-capture=true goes to ztunnel",
        ),
        Setting(
            "exempt-cgroup", "NAME", _text, "a cgroup's name, or its path below the cgroup root, or none",
            _always("kubelet.service"), "kubelet.service",
            "cgroup of the host whose connections to enrolled pods are left alone: the kubelet's probes",
        ),
        Setting(
            "inbound", "WHETHER", _one_of("on", "off"), "on or off", _always("on"), "on",
            "whether what arrives for enrolled pods from anywhere goes to ztunnel; off: what the host's processes dial",
        ),
        Setting(
            "fail-open", "WHETHER", _one_of("yes", "no"), "yes or no", _always("no"), "no",
            "whether enrolled pods' connections go out in the clear while no ztunnel is known; no refuses them",
        ),
        Setting(
            "log-level", "LEVEL", _one_of("debug", "info", "warning", "error"), "debug, info, warning or error",
            _always("info"), "info", "least severe messages to log",
        ),
        Setting(
            "log-format", "FORMAT", _one_of("text", "json"), "text or json", _always("text"), "text",
            "one line of text, or one JSON object, a message",
        ),
        Setting(
            "listen", "ADDRESS:PORT", _endpoint, "an IP address and a port, as 127.0.0.1:15020 or [::1]:15020, or none",
            _always("none"), "none", "where /healthz, /readyz and /metrics are answered",
        ),
        Setting(
            "ztunnel-namespace", "NAME", _dns_label, "a namespace's name", _always("istio-system"), "istio-system",
            "the only namespace in which pods labelled app=ztunnel count as ztunnel",
        ),
        Setting(
            "max-pods", "N", _number(1, 1_000_000), "a number from 1 to 1000000", _always(4096), "4096",
            "size of the maps that hold the node's pods; when full, further pods are reported and not enrolled",
        ),
        Setting(
            "max-connections", "N", _number(1, 16_000_000), "a number from 1 to 16000000", _always(65536), "65536",
            "open redirected connections that need no memory of their own; so many more can be in set-up",
        ),
        Setting(
            "splice", "WHICH", _one_of("off", "to-ztunnel", "both"), "off, to-ztunnel or both", _always("to-ztunnel"),
            "to-ztunnel", "which bytes between app and ztunnel skip the TCP stack; docs/splice.md has what apps notice",
        ),
        Setting(
            "annotate", "WHETHER", _one_of("on", "off"), "on or off", _always("on"), "on",
            "with --source kubernetes: annotate enrolled pods with ambient.istio.io/redirection=enabled, for istiod",
        ),
    )
}  # fmt: skip
