"""Settings: where they come from, which place wins, and the line that a bad one gets."""

from argparse import ArgumentParser
from pathlib import Path
from typing import get_args

import attrs
import pytest

from merbridge.config import SETTINGS, Config, ConfigError, add_arguments, load_config

SOURCE = {"source": "file:/pods.yaml"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where a test writes a configuration file."""
    return tmp_path / "merbridge.yaml"


def refusal(given: dict[str, str | None], environment: dict[str, str] | None = None) -> str:
    """The one line with which the settings are refused."""
    with pytest.raises(ConfigError) as caught:
        load_config(SOURCE | given, environment or {})
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_defaults() -> None:
    """With nothing but a source, every setting has its documented default."""
    assert load_config(SOURCE, {"NODE_NAME": "node-1"}) == Config(
        config=None,
        source="file:/pods.yaml",
        kubeconfig=None,
        context=None,
        node_name="node-1",
        cgroup_root=None,
        bpffs=Path("/sys/fs/bpf/merbridge"),
        proc=Path("/proc"),
        host_pid=1,
        out_port=15001,
        in_port=15006,
        hbone_port=15008,
        dns_port=15053,
        dns_capture="on",
        exempt_cgroup="kubelet.service",
        inbound="on",
        fail_open="no",
        log_level="info",
        log_format="text",
        ztunnel_namespace="istio-system",
        max_pods=4096,
        max_connections=65536,
        splice="to-ztunnel",
        annotate="on",
        listen="none",
    )


def test_table_and_values_agree() -> None:
    """Each setting has its field, and its parser and its default give that field's type."""
    fields = attrs.fields_dict(attrs.resolve_types(Config))
    assert {setting.attribute for setting in SETTINGS.values()} == set(fields)
    samples = {"log-level": "debug", "log-format": "json", "splice": "off", "fail-open": "yes", "annotate": "on"}
    samples |= {"listen": "127.0.0.1:8", "inbound": "off", "dns-capture": "off"}
    for name, setting in SETTINGS.items():
        wanted = fields[setting.attribute].type
        types = get_args(wanted) or (wanted,)
        sample = samples.get(
            name, "8" if "number" in setting.allowed or "port" in setting.allowed or "id" in setting.allowed else "/a"
        )
        parsed = setting.parse("a" if name == "ztunnel-namespace" else sample)
        assert isinstance(parsed, types)
        default = setting.default({})
        assert isinstance(default, types) or (name == "source" and default is None)


def test_flag_before_environment_before_file(file: Path) -> None:
    """Of three places that name a setting the flag wins, then the environment, then the file."""
    file.write_text("out-port: 1\nmax-pods: 1\nmax-connections: 1\n")
    environment = {"MERBRIDGE_OUT_PORT": "2", "MERBRIDGE_MAX_PODS": "2"}
    config = load_config(SOURCE | {"config": str(file), "out_port": "3"}, environment)
    assert (config.out_port, config.max_pods, config.max_connections) == (3, 2, 1)


def test_file_named_by_the_environment(file: Path) -> None:
    """MERBRIDGE_CONFIG names the file; keys may have dashes or underscores; scalars keep their text."""
    file.write_text("source: file:/p\ncgroup_root: /c\nlog-format: json\nnode-name: 0123\n")
    config = load_config({}, {"MERBRIDGE_CONFIG": str(file)})
    assert (config.source, config.cgroup_root, config.log_format) == ("file:/p", Path("/c"), "json")
    assert (config.node_name, config.config) == ("0123", file)


def test_empty_file_and_empty_variable(file: Path) -> None:
    """A file without settings and a variable without text are as if they were not given."""
    file.write_text("# nothing\n")
    config = load_config(SOURCE | {"config": str(file)}, {"MERBRIDGE_OUT_PORT": "", "NODE_NAME": ""})
    assert config.out_port == 15001
    assert config.node_name


def test_variables_of_a_service_are_let_pass() -> None:
    """Kubernetes sets MERBRIDGE_PORT and such for a Service named merbridge; they are no settings."""
    load_config(SOURCE, {"MERBRIDGE_PORT": "tcp://10.0.0.1:80", "MERBRIDGE_SERVICE_HOST": "10.0.0.1"})


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("out_port", "0", "a TCP port, 1 to 65535"),
        ("out_port", "65536", "a TCP port, 1 to 65535"),
        ("out_port", "1_0", "a TCP port, 1 to 65535"),
        ("out_port", "http\n", "a TCP port, 1 to 65535"),
        ("max_pods", "-1", "a number from 1 to 1000000"),
        ("max_connections", "9" * 5000, "a number from 1 to 16000000"),
        ("bpffs", "pins", "an absolute path"),
        ("log_level", "loud", "debug, info, warning or error"),
        ("log_format", "", "text or json"),
        ("ztunnel_namespace", "Istio/System", "a namespace's name"),
        ("node_name", " ", "a node's name"),
        ("config", "", "a path"),
    ],
)
def test_bad_value_names_its_flag(name: str, value: str, allowed: str) -> None:
    """A refused flag's line has the flag, the value and what is allowed."""
    flag = SETTINGS[name.replace("_", "-")].flag
    assert refusal({name: value}) == f"flag {flag}: {value!r} is not allowed: give {allowed}"


def test_bad_value_names_its_variable_or_file(file: Path) -> None:
    """A value from the environment or the file is named by where it is to be mended."""
    assert refusal({}, {"MERBRIDGE_OUT_PORT": "x"}).startswith("environment MERBRIDGE_OUT_PORT: 'x' is not allowed")
    file.write_text("out_port: 70000\n")
    assert refusal({"config": str(file)}).startswith(f"{file}: out_port: '70000' is not allowed")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("out-prt: 1\n", "unknown setting 'out-prt': did you mean out-port?"),
        ("zzz: 1\n", "unknown setting 'zzz': known are source, kubeconfig, context, node-name,"),
        ("config: other.yaml\n", "unknown setting 'config'"),
        ("out-port: 1\nout_port: 2\n", "out-port is given twice"),
        ("out-port: [1]\n", "out-port is not a single value: give a TCP port, 1 to 65535"),
        ("out-port:\n", "out-port: '' is not allowed: give a TCP port, 1 to 65535"),
        ("- out-port\n", "not a mapping of settings to values"),
        ("a: b: c\n", "line 1, column 5: broken YAML: mapping values are not allowed"),
        ("a: \x00\n", "broken YAML: "),
    ],
)
def test_bad_files(file: Path, text: str, expected: str) -> None:
    """A wrong configuration file is refused in one line with the file, the key and the nearest known name."""
    file.write_text(text)
    assert refusal({"config": str(file)}).startswith(f"{file}: {expected}")


def test_unreadable_file(tmp_path: Path) -> None:
    """A configuration file that is not there is an error, not an empty one."""
    path = tmp_path / "none.yaml"
    assert refusal({"config": str(path)}) == f"{path}: cannot read the configuration file: No such file or directory"


def test_no_source() -> None:
    """`run` without a source says so and how to give one; a command without --source needs none."""
    with pytest.raises(ConfigError, match=r"no source of pods is given: add --source kubernetes or file:PATH"):
        load_config({}, {})
    assert load_config({}, {}, names=("bpffs",)).source == ""


def test_a_command_reads_only_its_settings(file: Path) -> None:
    """`status` is not stopped by a bad value of a setting that it does not take."""
    config = load_config({}, {"MERBRIDGE_OUT_PORT": "x", "MERBRIDGE_BPFFS": "/b"}, names=("config", "bpffs"))
    assert (config.bpffs, config.out_port) == (Path("/b"), 15001)


def test_arguments() -> None:
    """The parser has a flag for each name and for no other, and its values load."""
    parser = ArgumentParser(exit_on_error=False)
    add_arguments(parser, ("bpffs", "cgroup-root"))
    arguments = parser.parse_args(["--cgroup-root", "/c"])
    assert vars(arguments) == {"bpffs": None, "cgroup_root": "/c"}
    assert load_config(vars(arguments), {}, names=("bpffs", "cgroup-root")).cgroup_root == Path("/c")


def test_help_names_default_and_variable() -> None:
    """A command's help shows each setting's default and its name in the environment."""
    parser = ArgumentParser()
    add_arguments(parser)
    text = " ".join(parser.format_help().split())
    for setting in SETTINGS.values():
        assert setting.flag in text
        assert f"environment: {setting.variable})" in text
        assert f"(default: {setting.default_text};" in text
