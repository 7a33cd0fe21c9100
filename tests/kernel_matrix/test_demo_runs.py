"""The demo, as a user starts it."""

import re
import subprocess
import sys
from pathlib import Path

from kernel_matrix.needs import DATAPATH, Require

ROOT = Path(__file__).parents[2]


# Told by the first feature that the agent misses: SO_NETNS_COOKIE (5.14), or the cookie in sock_ops programs (5.15).
TOO_OLD = re.compile(r"^merbridge demo: .*this kernel .*Linux 5\.1[45]\b.*$", re.MULTILINE)


def test_demo(require: Require) -> None:
    """All arrives as it should; where the kernel lacks a feature, one line says so and names a version."""
    command = [sys.executable, "-m", "merbridge", "demo"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    output = result.stdout + result.stderr
    if not all(feature.supported() for feature in DATAPATH):
        assert result.returncode != 0
        assert TOO_OLD.search(output), output
        assert "Traceback" not in output
    require(*DATAPATH)
    assert result.returncode == 0, output
