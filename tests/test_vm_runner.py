"""The runner of virtual machines: what it passes on, what it says when something is wrong, that it leaves nothing."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from tools.vm.cache import CACHE_VARIABLE, Cache
from tools.vm.outcome import TIMED_OUT, VM_FAILED, Outcome
from tools.vm.summary import read_summary, write_summary

ROOT = Path(__file__).parent.parent
KERNEL = "trixie"
vm = pytest.mark.vm


def runner(*arguments: str) -> list[str]:
    """The command line of the runner."""
    return [sys.executable, "-m", "tools.vm", *arguments]


def run(
    *arguments: str, environment: Mapping[str, str] | None = None, directory: Path = ROOT
) -> subprocess.CompletedProcess[bytes]:
    """Run the runner to its end."""
    variables = {**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})}
    return subprocess.run(
        runner(*arguments), cwd=directory, env=variables, stdin=subprocess.DEVNULL, capture_output=True, check=False
    )


@vm
def test_passes_on_what_the_command_does(tmp_path: Path) -> None:
    """Exit status, both output streams, the environment, root, a copy of the directory, and files left as results."""
    (tmp_path / "note").write_text("from here")
    script = "cat note; id -u; echo $GIVEN >&2; echo gone > note; echo kept > /vm/results/file; exit 42"
    options = ("--kernel", KERNEL, "--env", "GIVEN=a b", "--results", str(tmp_path / "results"))
    result = run(*options, "--", "sh", "-c", script, directory=tmp_path)
    assert (result.returncode, result.stdout, result.stderr) == (42, b"from here0\na b\n", b"")
    assert (tmp_path / "note").read_text() == "from here"
    assert (tmp_path / "results" / "file").read_text() == "kept\n"
    assert read_summary(tmp_path / "results", KERNEL, 0).exit_status == 42


@vm
def test_output_larger_than_a_pipe() -> None:
    """Output comes byte for byte, also more of it than a pipe holds, and also what is no text."""
    script = "import sys; sys.stdout.buffer.write(bytes(range(256)) * 1200)"
    result = run("--kernel", KERNEL, "--", "python", "-c", script)
    assert (result.returncode, result.stderr) == (0, b"")
    assert result.stdout == bytes(range(256)) * 1200


@vm
def test_a_command_that_takes_too_long() -> None:
    """The machine is stopped after the time allowed; what was printed before is there."""
    result = run("--kernel", KERNEL, "--timeout", "40", "--", "sh", "-c", "echo begun; sleep 600")
    assert (result.returncode, result.stdout) == (TIMED_OUT, b"begun\n")
    assert result.stderr.startswith(b"tools.vm: out of time: stopped after 40 s (--timeout)\n")


@vm
def test_a_command_that_hangs() -> None:
    """A machine without a word for too long is stopped."""
    result = run("--kernel", KERNEL, "--silence", "20", "--", "sh", "-c", "echo begun; sleep 600")
    assert (result.returncode, result.stdout) == (TIMED_OUT, b"begun\n")
    assert result.stderr.startswith(b"tools.vm: hangs: stopped after 20 s without any output (--silence)\n")


@vm
def test_a_kernel_panic() -> None:
    """One line names the panic, and the console's last lines follow."""
    result = run("--kernel", KERNEL, "--", "sh", "-c", "echo c > /proc/sysrq-trigger")
    assert result.returncode == VM_FAILED
    assert result.stderr.startswith(
        b"tools.vm: the guest's kernel died: Kernel panic - not syncing: sysrq triggered crash\n"
    )
    assert b"sysrq_handle_crash" in result.stderr


@vm
def test_a_full_disk_in_the_guest() -> None:
    """The command fails as it would anywhere, and a line says that the disk was full."""
    script = (
        "import os; os.posix_fallocate(os.open('/fill', os.O_CREAT | os.O_WRONLY), 0, os.statvfs('/').f_bavail * 4096)"
    )
    result = run("--kernel", KERNEL, "--", "python", "-c", f"{script}; open('/more', 'wb').write(bytes(1 << 20))")
    assert result.returncode == 1
    assert b"No space left on device" in result.stdout
    assert result.stderr == b"tools.vm: the guest's disk is full at /: the command may have failed for that\n"


@vm
def test_a_matrix_runs_two_at_once(tmp_path: Path) -> None:
    """Each kernel's result stands in the table; the second machine is up before the first has ended."""
    script = "uname -r; date +%s; sleep 30; date +%s; test $MERBRIDGE_VM = trixie"
    kernels = ("--kernel", "trixie", "--kernel", "bookworm", "--results", str(tmp_path))
    result = run(*kernels, "--", "sh", "-c", script)
    assert result.returncode == 1
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in result.stdout.decode().splitlines()]
    counts = {row[0]: row[2:5] for row in rows if len(row) == 6}
    assert counts["trixie"] == ["1", "0", "0"]
    assert counts["bookworm"] == ["0", "1", "0"]
    assert (tmp_path / "trixie" / "output.txt").read_text().startswith("6.12.")
    assert (tmp_path / "bookworm" / "output.txt").read_text().startswith("6.1.")
    times = [(tmp_path / name / "output.txt").read_text().split()[1:3] for name in ("trixie", "bookworm")]
    (first, first_end), (second, second_end) = ((int(begin), int(end)) for begin, end in times)
    assert max(first, second) < min(first_end, second_end)


@vm
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_interrupted(number: signal.Signals) -> None:
    """Ctrl-C and SIGTERM leave neither a machine nor a file; after a SIGKILL the machine ends, the next run tidies."""
    process = subprocess.Popen(
        runner("--kernel", KERNEL, "--", "sh", "-c", "echo up; sleep 600"),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        machines = [int(path.name) for path in Path("/proc").glob("[0-9]*") if _parent(path) == process.pid]
        assert len(machines) == 1
        workspace = _workspace(machines[0])
        assert workspace.is_dir()
        process.send_signal(number)
        _, errors = process.communicate(timeout=10)
    assert process.returncode == (-number if number == signal.SIGKILL else 128 + number)
    assert errors == (b"tools.vm: interrupted\n" if number == signal.SIGINT else b"")
    _wait_until_gone(machines[0])
    if number == signal.SIGKILL:
        with Cache.from_environment().workspace():
            pass
    assert not workspace.exists()


def _parent(process: Path) -> int | None:
    try:
        return int((process / "stat").read_text().rpartition(")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return None


def _workspace(machine: int) -> Path:
    """Where the machine's job disk lies, which its command line names."""
    arguments = Path("/proc", str(machine), "cmdline").read_bytes().decode().split("\0")
    (job,) = [argument.partition("file=")[2] for argument in arguments if argument.endswith("/job.img")]
    return Path(job).parent


def _wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + 5
    while Path("/proc", str(pid)).exists():
        assert time.monotonic() < deadline, f"process {pid} is still there"
        time.sleep(0.05)


@vm
def test_an_image_that_is_no_kernel(tmp_path: Path) -> None:
    """QEMU's own words say why it could not start."""
    (tmp_path / "bzImage").write_bytes(b"no kernel" * 1000)
    result = run("--kernel", str(tmp_path / "bzImage"), "--", "true", directory=tmp_path)
    assert result.returncode == VM_FAILED
    assert result.stderr.startswith(b"tools.vm: QEMU ended before the kernel came up: ")


def refused(result: subprocess.CompletedProcess[bytes]) -> str:
    """The one line of a run that could not be prepared."""
    assert (result.returncode, result.stdout) == (VM_FAILED, b"")
    (line,) = result.stderr.decode().splitlines()
    return line


@vm
def test_an_unknown_kernel() -> None:
    """The names that are known are listed."""
    line = refused(run("--kernel", "potato", "--", "true"))
    assert line.startswith("tools.vm: no kernel 'potato': give one of bullseye (5.10), bookworm (6.1), ")


def test_qemu_is_missing() -> None:
    """The line names the package to install."""
    line = refused(run("--kernel", KERNEL, "--arch", "amd64", "--", "true", environment={"PATH": "/nonexistent"}))
    assert line == "tools.vm: qemu-system-x86_64 is not installed: run `apt-get install qemu-system-x86`"


@vm
def test_a_mirror_that_does_not_answer(tmp_path: Path) -> None:
    """apt's reason is passed on; nothing half-made stays in the cache."""
    environment = {CACHE_VARIABLE: str(tmp_path / "cache"), "MERBRIDGE_VM_MIRROR": f"file:{tmp_path}/nothing"}
    line = refused(run("--kernel", KERNEL, "--accel", "tcg", "--", "true", environment=environment))
    assert line.startswith(f"tools.vm: cannot fetch the package lists of Debian {KERNEL}: apt-get: E: ")
    assert not (tmp_path / "cache" / "kernels").exists()


@vm
def test_the_cache_has_no_room(tmp_path: Path) -> None:
    """A full file system is named as such. The small one is mounted in a mount namespace that ends with the run."""
    (tmp_path / "bzImage").touch()
    command = " ".join(runner("--kernel", f"{tmp_path}/bzImage", "--accel", "tcg", "--", "true"))
    script = (
        f"mount -t tmpfs -o size=4m none {tmp_path}/small && cd {ROOT} && {CACHE_VARIABLE}={tmp_path}/small {command}"
    )
    (tmp_path / "small").mkdir()
    result = subprocess.run(["unshare", "-m", "sh", "-c", script], capture_output=True, check=False)
    assert refused(result).startswith(f"tools.vm: no room left in the cache {tmp_path}/small: free some")


def test_tests_are_counted_by_their_outcome(tmp_path: Path) -> None:
    """A test whose feature was probed and is missing is unsupported; one that is skipped otherwise has failed."""
    (tmp_path / "junit.xml").write_text(
        """<testsuites><testsuite>
        <testcase classname="tests.a" name="good"/>
        <testcase classname="tests.a" name="bad"><failure message="assert 1 == 2&#10;more">trace</failure></testcase>
        <testcase classname="tests.a" name="old">
          <properties><property name="unsupported" value="tcx"/></properties><skipped message="no tcx"/>
        </testcase>
        <testcase classname="tests.a" name="limit"><skipped type="pytest.xfail" message="known"/></testcase>
        <testcase classname="tests.a" name="lazy"><skipped message="unsupported, says who?"/></testcase>
        <testcase classname="tests.a" name="setup"><error message="failed on setup">must have tcx</error></testcase>
        </testsuite></testsuites>"""
    )
    write_summary(tmp_path, "trixie", Outcome(0, "6.12", (), (), 1.0))
    summary = read_summary(tmp_path, "trixie", 0)
    assert [summary.count("passed"), summary.count("failed"), summary.count("unsupported")] == [2, 3, 1]
    assert summary.reasons["tests.a::bad"] == "assert 1 == 2"
    assert summary.reasons["tests.a::old"] == "no tcx"
    assert summary.reasons["tests.a::lazy"] == "skipped without a feature: unsupported, says who?"
    assert summary.reasons["tests.a::setup"] == "must have tcx"
    assert not summary.is_good
