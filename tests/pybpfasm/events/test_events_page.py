"""What the page on events shows works as it is written."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from pybpfasm.kernel import features

ROOT = Path(__file__).parents[3]


@pytest.mark.needs(features.RING_BUFFER)
def test_the_pages_examples_run() -> None:
    """The page's code, in order, in a process of its own, prints what the page says."""
    page = (ROOT / "docs" / "events.md").read_text()
    code = "\n\n".join(re.findall(r"^```python\n(.*?)^```", page, re.S | re.M))
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    record = bytes([42, *bytes(7)])
    assert done.stdout.splitlines() == ["42", f"2 {[record]}", "[42]", "5000", "[] 0"]
