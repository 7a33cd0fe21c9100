"""A test declares which features of the kernel it needs: `@pytest.mark.needs(features.TCX_LINK)`.

Each is probed before the test's fixtures are made. On a kernel that is older than the feature and has not got it the
test is *unsupported*, an outcome of its own. On a kernel that must have it the test fails with the kernel's words.
So it is, too, outside of the virtual machines, where a kernel was built without the option that a feature needs.
"""

import os
import re
from collections import Counter
from collections.abc import Callable

import pytest

from merbridge.datapath.datapath import NEEDED as DATAPATH
from pybpfasm.kernel import features
from pybpfasm.kernel.features import Feature

DATAPATH_FIXTURE = "cluster"  # the datapath is loaded wherever it is used

# The property of a test's report that names the feature it misses; tools/vm/summary.py counts by it.
UNSUPPORTED = "unsupported"

# Features that Debian's kernels, which the matrix has, came with later than Linux had them: without CONFIG_FPROBE,
# and by a pahole that leaves variables out of the BTF.
_LATER_IN_DEBIAN = {features.KPROBE_MULTI.name: "6.2", features.KERNEL_VARIABLES.name: "5.11"}

Require = Callable[..., None]

_DECLARED = pytest.StashKey[dict[str, str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """To see that the matrix turns red, a feature can be declared older than it is."""
    parser.addoption(
        "--declare",
        action="append",
        default=[],
        metavar="FEATURE=VERSION",
        help="take a kernel feature, by name, as one that came in this Linux version",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known, and see that what is declared can be."""
    config.addinivalue_line("markers", "needs(feature, ...): kernel features that the test cannot do without")
    config.stash[_DECLARED] = _parse_declared(config.getoption("--declare"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test that runs the datapath needs what the datapath needs."""
    for item in items:
        if DATAPATH_FIXTURE in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.needs(*DATAPATH))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Probe before any fixture is made."""
    for marker in item.iter_markers("needs"):
        _require(item, *marker.args)


@pytest.fixture
def require(request: pytest.FixtureRequest) -> Require:
    """The same as the marker, at the moment of the call: for a test that has something to see without the feature."""
    return lambda *needed: _require(request.node, *needed)


def pytest_report_teststatus(report: pytest.TestReport) -> tuple[str, str, str] | None:
    """Show `unsupported` apart from `skipped`."""
    if report.skipped and UNSUPPORTED in dict(report.user_properties):
        return "unsupported", "u", "UNSUPPORTED"
    return None


def pytest_terminal_summary(terminalreporter: "pytest.TerminalReporter") -> None:
    """Each reason once, with the number of tests that it kept from running."""
    reports = terminalreporter.getreports("unsupported")
    reasons = Counter(report.longrepr[2].removeprefix("Skipped: ") for report in reports)
    for reason, count in reasons.items():
        terminalreporter.write_line(f"UNSUPPORTED [{count}] {reason}")


def _require(item: pytest.Item, *needed: Feature) -> None:
    for feature in needed:
        refusal = feature.refusal()
        if refusal is None:
            continue
        declared = item.config.stash[_DECLARED]
        since = declared.get(feature.name) or _LATER_IN_DEBIAN.get(feature.name, feature.since)
        release = os.uname().release
        if _version(release) >= _version(since) and not _may_lack(feature):
            pytest.fail(f"Linux {release} lacks {feature.name}, which came in {since}: {refusal}", pytrace=False)
        item.user_properties.append((UNSUPPORTED, feature.name))
        pytest.skip(f"unsupported by this kernel: {feature.name}, since Linux {since}: {refusal}")


def _may_lack(feature: Feature) -> bool:
    """Whether the kernel may have been built without it: the matrix's kernels have all options."""
    return feature.option is not None and "MERBRIDGE_VM" not in os.environ


def _parse_declared(entries: list[str]) -> dict[str, str]:
    known = {feature.name for feature in features.FEATURES}
    declared = {}
    for entry in entries:
        name, _, version = entry.rpartition("=")
        if name not in known:
            raise pytest.UsageError(f"--declare {entry!r}: give FEATURE=VERSION; no feature is called {name!r}")
        if not re.fullmatch(r"\d+\.\d+", version):
            raise pytest.UsageError(f"--declare {entry!r}: {version!r} is no Linux version, as in 5.15")
        declared[name] = version
    return declared


def _version(text: str) -> tuple[int, ...]:
    """The first two numbers of a release or of a version."""
    found = re.match(r"(\d+)\.(\d+)", text)
    assert found, f"no Linux version: {text}"
    return tuple(map(int, found.groups()))
