"""What the page on probes shows works as it is written."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_the_pages_examples_run() -> None:
    """The page's code, in order, in a process of its own."""
    page = (ROOT / "docs" / "probes.md").read_text()
    code = "\n\n".join(re.findall(r"^```python\n(.*?)^```", page, re.S | re.M))
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_pages_commands_run() -> None:
    """Each command of the page succeeds and says something."""
    page = (ROOT / "docs" / "probes.md").read_text()
    commands = re.findall(r"^python -m (pybpfasm probe[^#\n]*)", page, re.M)
    assert len(commands) == 3
    for command in commands[:2]:  # the third asks for all helpers of all types, as other tests do
        done = subprocess.run([sys.executable, "-m", *command.split()], cwd=ROOT, capture_output=True, check=True)
        assert done.stdout
