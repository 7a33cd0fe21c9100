"""The runner of virtual machines: what it passes on, what it says when something is wrong, that it leaves nothing."""

import fcntl
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from tools.vm.cache import CACHE_VARIABLE, Cache
from tools.vm.disk import make_disk, read_directory
from tools.vm.errors import VmError
from tools.vm.job_image import _copy_project
from tools.vm.outcome import TIMED_OUT, VM_FAILED, Outcome
from tools.vm.root_image import NOT_FOR_TESTS_THERE, Stage, _files
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


@pytest.mark.parametrize("content", [None, "", "[1]", "{}"])
def test_a_run_without_a_summary_has_failed(tmp_path: Path, content: str | None) -> None:
    """Whatever its exit status: something has taken it away, or cut it off."""
    if content is not None:
        (tmp_path / "summary.json").write_text(content)
    summary = read_summary(tmp_path, "trixie", 0)
    assert (summary.is_good, summary.count("passed"), summary.count("failed")) == (False, 0, 1)


def test_a_report_that_was_cut_off_is_a_failure(tmp_path: Path) -> None:
    """pytest's report that is no XML does not pass for one without failures."""
    (tmp_path / "junit.xml").write_text("<testsuites><testsuite>")
    write_summary(tmp_path, "trixie", Outcome(0, "6.12", (), (), 1.0))
    assert not read_summary(tmp_path, "trixie", 0).is_good


# --- the running kernel, which needs no machine ----------------------------------------------------------------------


def native(results: Path, *options: str, script: str) -> subprocess.CompletedProcess[bytes]:
    """Run a shell script on the running kernel as one of a matrix."""
    return run("--kernel", "native", "--results", str(results), *options, "--", "sh", "-c", script)


def test_the_running_kernel_is_a_kernel(tmp_path: Path) -> None:
    """Exit status and output are the command's; pytest's report becomes the summary; a report of before is gone."""
    (tmp_path / "junit.xml").write_text("<testsuites><testcase classname='a' name='old'/></testsuites>")
    result = native(tmp_path, script="echo $PYTEST_ADDOPTS; exit 3")
    assert (result.returncode, result.stderr) == (3, b"")
    assert f"--junit-xml={tmp_path}/junit.xml".encode() in result.stdout
    summary = read_summary(tmp_path, "native", 3)
    assert (summary.release, summary.exit_status, summary.tests) == (os.uname().release, 3, {})


def test_a_command_on_the_running_kernel_has_its_time(tmp_path: Path) -> None:
    """It is interrupted, so that it can tidy up, and no process of it stays."""
    result = native(tmp_path, "--timeout", "1", script=f"trap 'touch {tmp_path}/tidied; exit' INT; sleep 77.5 & wait")
    assert result.returncode == TIMED_OUT
    assert result.stderr == b"tools.vm: out of time: stopped after 1 s (--timeout)\n"
    assert (tmp_path / "tidied").exists()
    assert not [path for path in Path("/proc").glob("[0-9]*/cmdline") if _holds(path, b"sleep\x0077.5")]


def _holds(path: Path, content: bytes) -> bool:
    try:
        return content in path.read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_table_for_one_kernel(tmp_path: Path) -> None:
    """A skipped test fails there, as among several kernels, though pytest ends with 0."""
    (tmp_path / "test_it.py").write_text("import pytest\ndef test_it(): pytest.skip('no reason')\n")
    options = ("--kernel", "native", "--table", "--results", str(tmp_path / "results"))
    result = run(*options, "--", sys.executable, "-m", "pytest", "-q", "test_it.py", directory=tmp_path)
    assert result.returncode == 1
    assert b"| native | " in result.stdout
    assert "skipped without a feature" in (tmp_path / "results" / "tests.md").read_text()


def test_a_matrix_has_its_time(tmp_path: Path) -> None:
    """A kernel that has not ended by then has failed, one that has not begun as well."""
    kernels = ("--kernel", "native", "--kernel", "trixie", "--accel", "tcg", "--jobs", "1", "--total", "2")
    result = run(*kernels, "--results", str(tmp_path), "--", "sleep", "600", environment=small_tools(tmp_path))
    assert result.returncode == 1
    lines = result.stdout.decode().splitlines()
    assert "native: FAILED (exit status 124) stopped when 2 s were over for all kernels (--total)" in lines
    assert "trixie: FAILED (exit status 124) not started when 2 s were over for all kernels (--total)" in lines
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    counts = {row[0]: row[2:5] for row in rows if len(row) == 6}
    assert counts["native"] == counts["trixie"] == ["0", "1", "0"]


def test_two_runs_do_not_share_results(tmp_path: Path) -> None:
    """The second is refused at once, and leaves the first one's files alone."""
    (tmp_path / "summary.json").write_text("the first one's")
    holder = os.open(tmp_path, os.O_RDONLY)
    try:
        fcntl.flock(holder, fcntl.LOCK_EX)
        for option in ((), ("--table",)):
            line = refused(native(tmp_path, *option, script="true"))
            assert line.startswith(f"tools.vm: another run writes its results to {tmp_path}: ")
    finally:
        os.close(holder)
    assert (tmp_path / "summary.json").read_text() == "the first one's"


def test_kernels_of_one_name_are_refused(tmp_path: Path) -> None:
    """Their results would lie in one directory."""
    options = ("--kernel", "a/bz", "--kernel", "b/bz", "--accel", "tcg", "--results", str(tmp_path))
    line = refused(run(*options, "--", "true", environment=small_tools(tmp_path)))
    assert line == "tools.vm: a/bz and b/bz would write to the same results: give one of them another file name"


def small_tools(directory: Path) -> dict[str, str]:
    """An environment in which the runner finds a QEMU, for what ends before one is started."""
    tools = directory / "tools"
    tools.mkdir()
    for name in ("qemu-system-x86_64", "qemu-system-aarch64", "mke2fs", "debugfs"):
        (tools / name).write_text("#!/bin/false\n")
        (tools / name).chmod(0o755)
    return {"PATH": f"{tools}:{os.environ['PATH']}", CACHE_VARIABLE: str(directory / "cache")}


# --- one line for what is wrong --------------------------------------------------------------------------------------


def test_results_that_cannot_be_written_are_told_before_the_run(tmp_path: Path) -> None:
    """A file in the way, and a place where even root cannot write."""
    (tmp_path / "file").touch()
    assert "File exists" in refused(native(tmp_path / "file", script="echo not run"))
    assert refused(native(Path("/proc"), script="echo not run")).startswith("tools.vm: cannot write results to /proc: ")


def test_a_cache_that_cannot_be_written(tmp_path: Path) -> None:
    """The line names the variable that chooses another."""
    environment = small_tools(tmp_path) | {CACHE_VARIABLE: "/proc"}
    line = refused(run("--kernel", KERNEL, "--", "true", environment=environment))
    assert line.startswith("tools.vm: cannot write to the cache /proc: ")
    assert line.endswith(f"; set {CACHE_VARIABLE}")


def test_a_kernel_whose_name_is_too_long(tmp_path: Path) -> None:
    """The kernel says so; no traceback."""
    options = ("--kernel", "k" * 300, "--accel", "tcg")
    assert "File name too long" in refused(run(*options, "--", "true", environment=small_tools(tmp_path)))


def test_the_current_directory_is_gone(tmp_path: Path) -> None:
    """The command was to run in a copy of it."""
    command = " ".join(runner("--kernel", KERNEL, "--accel", "tcg", "--", "true"))
    script = f"mkdir {tmp_path}/gone; cd {tmp_path}/gone; rmdir {tmp_path}/gone; exec {command}"
    environment = {**os.environ, **small_tools(tmp_path), "PYTHONPATH": str(ROOT)}
    result = subprocess.run(["sh", "-c", script], env=environment, capture_output=True, check=False)
    assert refused(result).startswith("tools.vm: the current directory has been removed")


@pytest.mark.parametrize(("redirection", "words"), [(">&-", "standard output is closed"), (">/dev/full", "No space")])
def test_output_that_cannot_be_written(tmp_path: Path, redirection: str, words: str) -> None:
    """It is not taken for a cache without room."""
    command = " ".join(runner("--kernel", "native", "--table", "--results", str(tmp_path), "--", "true"))
    result = subprocess.run(["sh", "-c", f"{command} {redirection}"], cwd=ROOT, capture_output=True, check=False)
    assert words in refused(result)
    assert b"cache" not in result.stderr


@pytest.mark.parametrize(
    "options",
    [("--timeout", "nan"), ("--silence", "-1"), ("--total", "0"), ("--memory", "-5"), ("--memory", "0")],
)
def test_numbers_that_make_no_sense(options: tuple[str, str]) -> None:
    """As for every wrong option the exit status is 2."""
    result = run("--kernel", KERNEL, *options, "--", "true")
    assert result.returncode == 2
    assert f"argument {options[0]}: ".encode() in result.stderr.splitlines()[-1]


def test_kvm_for_another_architecture(tmp_path: Path) -> None:
    """It is refused before anything is downloaded."""
    other = "arm64" if os.uname().machine == "x86_64" else "amd64"
    options = ("--kernel", KERNEL, "--accel", "kvm", "--arch", other)
    line = refused(run(*options, "--", "true", environment=small_tools(tmp_path)))
    assert line == f"tools.vm: --accel kvm is for machines like this one, --arch {other} is not: choose tcg"


def test_a_hangup_that_is_ignored_stays_ignored(tmp_path: Path) -> None:
    """As under nohup."""
    script = f"kill -HUP $PPID; sleep 0.2; touch {tmp_path}/went-on"
    command = runner("--kernel", "native", "--", "sh", "-c", script)
    previous = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        result = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    finally:
        signal.signal(signal.SIGHUP, previous)
    assert (result.returncode, (tmp_path / "went-on").exists()) == (0, True)


# --- disks and caches ------------------------------------------------------------------------------------------------


def test_results_are_read_into_a_path_with_spaces(tmp_path: Path) -> None:
    """debugfs takes its request apart at spaces."""
    place = tmp_path / "with a space"
    (place / "tree" / "results").mkdir(parents=True)
    (place / "tree" / "results" / "file").write_text("kept")
    make_disk(place / "tree", place / "disk")
    read_directory(place / "disk", "/results", place)
    assert (place / "file").read_text() == "kept"


def test_what_is_copied_of_a_project(tmp_path: Path) -> None:
    """Links to directories stay links; pipes and sockets are left out; so are build and dist, at the top alone."""
    project, copy = tmp_path / "project", tmp_path / "copy"
    for folder in ("build", "dist", ".git", "package/build"):
        (project / folder).mkdir(parents=True)
        (project / folder / "file").touch()
    (project / "link").symlink_to("package")
    (project / "nowhere").symlink_to("/nonexistent")
    os.mkfifo(project / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(project / "socket"))
        _copy_project(project, copy)
    found = {str(path.relative_to(copy)) for path in copy.rglob("*")}
    assert found == {"link", "nowhere", "package", "package/build", "package/build/file"}
    assert (copy / "link").readlink() == Path("package")


def test_an_edited_package_is_seen(tmp_path: Path) -> None:
    """The root image is made of every file of the environment, but for bytecode."""
    (tmp_path / "package" / "__pycache__").mkdir(parents=True)
    (tmp_path / "package" / "module.py").touch()
    (tmp_path / "package" / "__pycache__" / "module.pyc").touch()
    assert list(_files(tmp_path)) == [str(tmp_path / "package" / "module.py")]


def test_what_no_test_needs_there_is_left_out(tmp_path: Path) -> None:
    """A package that is large and for no kernel comes neither into the image nor into what it is known by."""
    environment = tmp_path / "environment"
    for name in (*NOT_FOR_TESTS_THERE, "package"):
        (environment / name / "lib").mkdir(parents=True)
        (environment / name / "lib" / "file").touch()
    stage = Stage(tmp_path / "root")
    stage.add_tree(environment, NOT_FOR_TESTS_THERE)
    kept = str(environment / "package" / "lib" / "file")
    assert [f"/{path.relative_to(stage.top)}" for path in stage.top.rglob("file")] == [kept]
    assert list(_files(environment)) == [kept]


def test_kernels_that_no_run_has_used_are_removed(tmp_path: Path) -> None:
    """But not the newest of a suite: its mirror may have given the suite up."""
    folders = [tmp_path / "kernels" / name for name in ("old", "newest", "in-use")]
    for folder in folders:
        folder.mkdir(parents=True)
        (folder / "vmlinuz").touch()
    for folder in folders[:2]:
        os.utime(folder, (0, 0))
    Cache(tmp_path).remove_unused("kernels", keep={folders[1]})
    assert [folder.exists() for folder in folders] == [False, True, True]


def test_a_disk_that_fills_up_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """QEMU waits without a word when it cannot write what the guest writes: the runner looks itself."""
    cache = Cache(tmp_path)
    cache.check_room()
    state = os.statvfs(tmp_path)
    monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result((*state[:4], 3, *state[5:])))
    with pytest.raises(VmError, match=f"no room left in the cache {tmp_path}: free some"):
        cache.check_room()
