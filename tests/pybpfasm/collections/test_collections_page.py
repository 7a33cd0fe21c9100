"""What the page on collections shows works as it is written."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_the_pages_examples_run() -> None:
    """The page's code, in order, in a process of its own, prints what the page says."""
    page = (ROOT / "docs" / "collections.md").read_text()
    code = "\n\n".join(re.findall(r"^```python\n(.*?)^```", page, re.S | re.M))
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "3\n2\n")
