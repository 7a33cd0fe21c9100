"""docs/btf.md works as shown."""

import re
import subprocess
import sys
from pathlib import Path

from pybpfasm.btf import Btf

PAGE = Path(__file__).parents[3] / "docs" / "btf.md"


def test_the_page_runs_as_written(kernel: Btf, tmp_path: Path) -> None:
    """The pieces, put into one file, run and print what the page says."""
    page = PAGE.read_text()
    script = tmp_path / "page.py"
    script.write_text("\n\n".join(re.findall(r"^```python\n(.*?)^```", page, re.S | re.M)))
    run = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    assert run.stderr == ""
    lines = run.stdout.splitlines()
    assert lines[0] == f"task_struct.mm is at byte {kernel.field('task_struct.mm').byte_offset}"
    assert lines[1] == "BTF: 'task_struct.no_such_field': STRUCT task_struct has no member 'no_such_field'"
    (shown,) = re.findall(r"^```\n(struct .*?)^```", page, re.S | re.M)
    assert shown in run.stdout
