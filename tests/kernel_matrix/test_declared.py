"""The matrix turns red where it must: a feature declared older than it is fails on exactly the older kernels."""

import subprocess
import sys
from pathlib import Path

import pytest

from tools.vm.kernel import MATRIX
from tools.vm.summary import read_summary

ROOT = Path(__file__).parents[2]
OLDER = {"bullseye", "bookworm"}  # than 6.4 and 6.6
REFUSED = {
    "test_store_of_an_immediate_to_the_context": "BPF_ST stores into R1 ctx is not allowed",
    "test_tcx_attach": "cannot attach by a link: Invalid argument (EINVAL)",
}


@pytest.mark.vm
@pytest.mark.timeout(300)
def test_exactly_the_older_kernels_turn_red(tmp_path: Path) -> None:
    """Each red cell has the verifier's or the kernel's own line; without the declaration the cells are unsupported."""
    kernels = [argument for name in MATRIX for argument in ("--kernel", name)]
    command = [sys.executable, "-m", "tools.vm", *kernels, "--results", str(tmp_path), "--"]
    command += ["python", "-m", "pytest", "tests/kernel_matrix/test_refused_by_older.py"]
    command += ["--declare", "storing an immediate to the context=5.0", "--declare", "tcx links=5.0"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    assert result.returncode == 1
    for kernel in MATRIX:
        summary = read_summary(tmp_path / kernel, kernel, 0)
        outcomes = {name.rpartition("::")[2]: outcome for name, outcome in summary.tests.items()}
        assert outcomes == dict.fromkeys(REFUSED, "failed" if kernel in OLDER else "passed"), kernel
        for name, reason in summary.reasons.items():
            assert REFUSED[name.rpartition("::")[2]] in reason
