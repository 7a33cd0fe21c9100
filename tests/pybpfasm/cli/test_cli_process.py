"""The command line as a process: exit statuses, closed pipes, signals, start-up time."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from cli_outcome import ROOT, Command, shell


def test_help_names_the_commands_and_statuses(cli: Command) -> None:
    """`--help` has each command, and says what exit statuses mean."""
    done = cli("--help")
    assert done.status == 0
    assert all(f"    {name}" in done.text for name in ("asm", "dis", "run", "cfg", "elf", "btf"))
    assert "141" in done.text


@pytest.mark.parametrize("command", ["asm", "dis", "run", "cfg", "elf", "btf"])
def test_each_command_shows_examples(cli: Command, command: str) -> None:
    """`COMMAND --help` has examples that begin as they are typed."""
    done = cli(command, "--help")
    assert done.status == 0
    assert f"python -m pybpfasm {command}" in done.text.split("examples:")[1]


def test_no_command_is_bad_usage(cli: Command) -> None:
    """Without a command, or with one that is none, the status is 2."""
    cli().failed(2, "COMMAND")
    cli("frobnicate").failed(2, "frobnicate")


def test_help_loads_nothing_heavy() -> None:
    """Help is quick: neither instructions nor types, objects or the kernel's side are imported for it."""
    script = "import sys, pybpfasm.cli as c\ntry: c.main(['--help'])\nexcept SystemExit: pass\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split("\n")[-2].split())
    for room in ("isa", "btf", "interop", "sim", "kernel", "uapi", "spec", "cfg.graph"):
        assert f"pybpfasm.{room}" not in loaded


@pytest.mark.parametrize("arguments", [["asm", "--as", "hex"], ["asm"]])
def test_a_reader_that_has_gone(arguments: list[str]) -> None:
    """A closed pipe ends a command with 141, and it says nothing; also when the output is small."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "pybpfasm", *arguments]
    done = subprocess.run(command, cwd=ROOT, input=b"exit\n", stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


def test_closed_standard_streams() -> None:
    """A closed input or output is a complaint, not a traceback."""
    done = shell("$PYBPFASM dis --raw - <&-; echo $?")
    assert done.stdout == "1\n"
    assert done.stderr == "pybpfasm: standard input is closed: name a file\n"
    done = shell("printf 'exit\\n' | $PYBPFASM asm --as hex >&-; echo $? >&2")
    assert done.stderr == "pybpfasm: standard output is closed: say -o FILE\n1\n"


def test_a_full_disk() -> None:
    """What cannot be written is a complaint with status 1."""
    done = shell("printf 'exit\\n' | $PYBPFASM asm --as hex > /dev/full; echo $?")
    assert done.stdout == "1\n"
    assert done.stderr.startswith("pybpfasm: ")
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_control_c() -> None:
    """An interrupted command ends with 130 and no traceback."""
    process = subprocess.Popen(
        [sys.executable, "-m", "pybpfasm", "dis", "--raw", "-"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin is not None
    try:
        # It waits for the rest of its input once it has begun to read.
        while b"pybpfasm" not in _command_line(process.pid) or not _reads_standard_input(process.pid):
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130
    assert err == b""


def _command_line(pid: int) -> bytes:
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        return file.read()


def _reads_standard_input(pid: int) -> bool:
    """Whether it sleeps in read(0, …): system call 0 on x86-64, 63 elsewhere, with descriptor 0."""
    with open(f"/proc/{pid}/syscall") as file:
        fields = file.read().split()
    return fields[0] == ("0" if os.uname().machine == "x86_64" else "63") and fields[1] == "0x0"


def test_an_unreadable_file(tmp_path: Path) -> None:
    """Another user's file is refused in one line."""
    if os.getuid() != 0:
        pytest.skip("needs root, to become another user")
    secret = str(tmp_path / "secret")
    Path(secret).write_text("exit\n")
    os.chmod(secret, 0)
    # What the command imports may be unreadable for that user, too: it is imported before.
    script = (
        "import os, sys; from pybpfasm.cli import main; sys.stdin = None; main(['asm', '-']); sys.stderr.flush();"
        f"os.setuid(65534); sys.exit(main(['asm', {secret!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[1:] == [f"pybpfasm: {secret} cannot be read: Permission denied"]
