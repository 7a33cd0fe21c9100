"""What the page on maps shows works as it is written."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_the_pages_examples_run() -> None:
    """The page's code, in order, in a process of its own."""
    page = (ROOT / "docs" / "maps.md").read_text()
    code = "\n\n".join(re.findall(r"^```python\n(.*?)^```", page, re.S | re.M))
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(
        r"cannot update map stats: it is full, .*; (\d+) of 5000 entries were done before \1\n", done.stdout
    )
