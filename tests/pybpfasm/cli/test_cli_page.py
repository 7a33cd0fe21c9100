"""docs/cli.md is true."""

import re
import subprocess
import sys
from pathlib import Path

from cli_outcome import ROOT

COMMANDS = ("asm", "dis", "run", "cfg", "elf", "btf", "probe", "load", "attach", "prog", "map", "link")
PAGE = (ROOT / "docs" / "cli.md").read_text()


def sessions() -> list[tuple[str, str]]:
    """The commands of the page's sessions, in order, each with what it prints."""
    blocks = re.findall(r"^```console\n(.*?)^```", PAGE, re.S | re.M)
    return [(command, printed) for block in blocks for command, printed in _commands(block)]


def _commands(block: str) -> list[tuple[str, str]]:
    parts = re.split(r"^\$ (.*)\n", block, flags=re.M)
    return list(zip(parts[1::2], parts[2::2], strict=True))


def test_the_sessions_run_as_written(tmp_path: Path) -> None:
    """Each command, one after the other in one folder, prints what the page shows; … stands for anything in a line."""
    assert len(sessions()) > 8
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)}
    for command, printed in sessions():
        script = command.replace("python -m", f"'{sys.executable}' -m")
        done = subprocess.run(
            ["bash", "-c", f"{script} 2>&1"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert re.fullmatch(re.escape(printed).replace("…", ".*"), done.stdout), (command, done.stdout)


def test_every_command_and_option_is_described() -> None:
    """The page names each command, and each option that one of them has for itself."""
    for name in COMMANDS:
        assert f"\n## {name}\n" in PAGE
        shown = subprocess.run(
            [sys.executable, "-m", "pybpfasm", name, "--help"], cwd=ROOT, capture_output=True, text=True, check=True
        )
        for option in set(re.findall(r"--[a-z][a-z-]*", shown.stdout)) - {"--help", "--output"}:
            assert option in PAGE, f"{name} {option}"
