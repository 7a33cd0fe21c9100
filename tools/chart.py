"""Write deploy/kubernetes/merbridge.yaml: what the chart deploy/helm/merbridge renders by default, with its namespace.

    python -m tools.chart [--check]

With `--check` nothing is written; the exit status is 1 where the file is not what the chart renders. Helm's own labels
are left out: they say that a release of Helm's owns the object.
"""

import argparse
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
CHART = ROOT / "deploy" / "helm" / "merbridge"
FILE = ROOT / "deploy" / "kubernetes" / "merbridge.yaml"

# In the order in which a cluster can take them.
TEMPLATES = ("namespace", "serviceaccount", "clusterrole", "clusterrolebinding", "daemonset")
VALUES = {"namespace": {"create": True}}
HEADER = """\
# The agent on each node of a cluster: `kubectl apply -f deploy/kubernetes/merbridge.yaml`. docs/install.md says what
# comes before, and how to look whether it works. The image's name is yours to put in: there is no registry of the
# project's.
# Generated from deploy/helm/merbridge by tools/chart.py.
"""

_HELMS_LABEL = re.compile(r"^ +(helm\.sh/chart|app\.kubernetes\.io/[a-z-]+): .*\n", re.MULTILINE)
_EMPTY_LABELS = re.compile(r"^( +)labels:\n(?!\1 )", re.MULTILINE)


def manifest() -> str:
    """The file's text."""
    import helm_python  # late: tests import this module, and not Go's threads

    with helm_python.Chart.load(CHART) as chart:
        rendered = chart.render(VALUES, name="merbridge", namespace="merbridge")
    objects = [rendered.pop(f"merbridge/templates/{name}.yaml").strip() + "\n" for name in TEMPLATES]
    forgotten = [name for name in rendered if name.endswith(".yaml")]
    if forgotten:
        raise SystemExit(f"tools.chart: no place among TEMPLATES has {', '.join(forgotten)}")
    return HEADER + "---\n".join(without_helms_labels(each) for each in objects)


def without_helms_labels(text: str) -> str:
    """An object's text without the labels that the chart has of Helm's conventions, comments and all else kept."""
    return _EMPTY_LABELS.sub("", _HELMS_LABEL.sub("", text))


def main() -> None:
    """Write the file, or say whether it is up to date."""
    parser = argparse.ArgumentParser(prog="python -m tools.chart", description="render the chart as a manifest")
    parser.add_argument("--check", action="store_true", help="write nothing; 1 if the file is not what is rendered")
    check = parser.parse_args().check
    text = manifest()
    if not check:
        FILE.write_text(text)
    elif FILE.read_text() != text:
        sys.exit(f"{FILE.relative_to(ROOT)} is not what the chart renders: run python -m tools.chart")


if __name__ == "__main__":
    main()
