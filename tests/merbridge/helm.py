"""Helm as a library, in processes of its own.

Go's threads and signal handlers would stay in the tests' process, and one with threads cannot enter a mount namespace.
"""

import json
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tools.chart import CHART

# Where there are wheels, as setup.cfg has it; there the tests fail without the package.
NEEDS_HELM = pytest.mark.skipif(
    platform.machine() not in ("x86_64", "aarch64"),
    reason=f"there is no wheel of helm-python-sdk for {platform.machine()}: the chart is not tried",
)

# Reads the name of a function below and its arguments, writes what it gives or what Helm says against it.
_PROCESS = """
import json, sys
import helm_python

def render(chart, values, options):
    with helm_python.Chart.load(chart) as loaded:
        return loaded.render(helm_python.values_from_yaml(values), **options)

def refusals(chart, all_values, options):
    said = []
    for values in all_values:
        try:
            render(chart, values, options)
            said.append("")
        except helm_python.HelmError as error:
            said.append(str(error))
    return said

def lint(chart, options):
    return helm_python.lint(chart, {}, **options)

def package(chart, destination):
    return helm_python.package(chart, destination=destination)

def release(kubeconfig, namespace, steps):
    results = []
    options = {"kubeconfig_content": kubeconfig, "namespace": namespace, "storage_driver": "memory"}
    with helm_python.Config(**options) as config:
        for step, *arguments, more in steps:
            try:
                getattr(config, step)(*arguments, **more)
                results.append("")
            except helm_python.HelmError as error:
                results.append(str(error))
    return results

name, *arguments = json.load(sys.stdin)
try:
    answer = {"result": globals()[name](*arguments)}
except helm_python.HelmError as error:
    answer = {"refusal": str(error)}
json.dump(answer, sys.stdout)
"""


class HelmRefusalError(Exception):
    """What Helm says against a chart or its values."""


def render(values: str = "", chart: Path = CHART, **options: str) -> list[dict[str, Any]]:
    """The objects that a values file in YAML gives, in the templates' order of names."""
    return [yaml.safe_load(text) for name, text in _rendered(values, chart, options) if name.endswith(".yaml")]


def refusals(*all_values: str) -> list[str]:
    """What Helm says against each of these values files, "" where it renders."""
    said: list[str] = _ask("refusals", str(CHART), all_values, {"name": "merbridge", "namespace": "merbridge"})
    return said


def notes(values: str = "", **options: str) -> str:
    """What `helm install` prints."""
    (text,) = [text for name, text in _rendered(values, CHART, options) if name.endswith("NOTES.txt")]
    return text


def lint(**options: object) -> dict[str, Any]:
    """What `helm lint` finds: `messages` and `errors`."""
    report: dict[str, Any] = _ask("lint", str(CHART), options)
    return report


def package(destination: Path) -> Path:
    """The chart as an archive."""
    return Path(_ask("package", str(CHART), str(destination)))


def release(kubeconfig: str, *steps: tuple[object, ...], namespace: str = "merbridge") -> list[str]:
    """What Helm says against each of these steps in a cluster: a command, what it takes, and a mapping of options."""
    said: list[str] = _ask("release", kubeconfig, namespace, steps)
    return said


def _rendered(values: str, chart: Path, options: dict[str, str]) -> list[tuple[str, str]]:
    release = {"name": "merbridge", "namespace": "merbridge", **options}
    texts: dict[str, str] = _ask("render", str(chart), values or "{}", release)
    return [(name, text) for name, text in sorted(texts.items()) if text.strip()]


def _ask(*request: object) -> Any:
    line = [sys.executable, "-c", _PROCESS]
    done = subprocess.run(line, input=json.dumps(request), capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        raise RuntimeError(f"no answer of helm-python-sdk, which the extra `dev` of setup.cfg has: {done.stderr}")
    answer = json.loads(done.stdout)
    if "refusal" in answer:
        raise HelmRefusalError(answer["refusal"])
    return answer["result"]
