"""Limits and interruptions: descriptors, locked memory, logs, signals, fork, threads."""

import errno
import os
import re
import resource
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from children import python

from pybpfasm import isa
from pybpfasm.errors import KernelError
from pybpfasm.isa import Alu, Jump, Label
from pybpfasm.kernel import sys as kernel
from pybpfasm.kernel.collection import Collection
from pybpfasm.kernel.maps import Map
from pybpfasm.kernel.programs import Program
from pybpfasm.kernel.verifier import VerifierError
from pybpfasm.spec import CollectionSpec, MapSpec, ProgramSpec, Untyped
from pybpfasm.uapi import AttachType, Command, MapType, ProgramType

ARRAY = MapSpec("values", MapType.ARRAY, Untyped(4), Untyped(8), 1)


def spec(*code: isa.Instruction | Label, name: str = "test") -> ProgramSpec:
    """A classifier of these instructions."""
    return ProgramSpec(name, ProgramType.SCHED_CLS, AttachType(0), "__sk_buff", tuple(isa.resolve_labels(code)), {})


SMALL = spec(isa.load_map(1, "values"), isa.mov_imm(0, 1), isa.exit_program())


def slow(rounds: int = 60_000, *, good: bool = True) -> ProgramSpec:
    """A program whose loop the verifier walks through round by round."""
    end = isa.mov_imm(0, 1) if good else isa.mov(0, 9)
    return spec(
        isa.mov_imm(1, 0),
        Label("again"),
        isa.alu_imm(Alu.ADD, 1, 1),
        isa.mov(2, 1),
        isa.alu_imm(Alu.XOR, 2, 5),
        isa.jump_if_imm(Jump.JLT, 1, rounds, "again"),
        end,
        isa.exit_program(),
        name="slow",
    )


# --- descriptors ------------------------------------------------------------------------------------------------------


@contextmanager
def room_for(count: int) -> Iterator[None]:
    """No more than so many descriptors can be opened."""
    listed = os.listdir("/proc/self/fd")
    used = {int(number) for number in listed if os.path.exists(f"/proc/self/fd/{number}")}
    free = [number for number in range(4096) if number not in used]
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free[count], limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@pytest.mark.parametrize(
    "action",
    [
        lambda: Map.create(ARRAY).close(),
        lambda: Collection.load(CollectionSpec({"test": SMALL}, {"values": ARRAY})).close(),
    ],
    ids=["map", "collection"],
)
def test_out_of_descriptors(action: Callable[[], None]) -> None:
    """Whichever descriptor is the one too many: one line that names the limit, and nothing stays open."""
    action()  # what is opened once and kept
    before = sorted(os.listdir("/proc/self/fd"))
    refused = 0
    for count in range(8):
        try:
            with room_for(count):
                action()
        except KernelError as error:
            assert re.fullmatch(r"cannot .*: this process is out of file descriptors: .*\(EMFILE\)", str(error))  # noqa: PT017 - the text of each
            assert error.errno == errno.EMFILE  # noqa: PT017 - likewise
            refused += 1
        assert sorted(os.listdir("/proc/self/fd")) == before
    assert 0 < refused < 8


# --- locked memory ----------------------------------------------------------------------------------------------------


def test_the_limit_of_locked_memory() -> None:
    """It is lifted where the kernel counts maps against it (before 5.11), when it is reached, and nowhere else."""
    counted = tuple(map(int, os.uname().release.split(".")[:2])) < (5, 11)
    lines = python(
        """
        hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)[1]
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (1 << 16, hard))
        attempt("map", lambda: map_(MapType.ARRAY, entries=1 << 17))
        print(resource.getrlimit(resource.RLIMIT_MEMLOCK)[0] == resource.RLIM_INFINITY)
        """
    )
    assert lines == ["map: done", str(counted)]


def test_the_limit_stays_for_other_failures() -> None:
    """A process without privilege has its limit left alone: lifting it would not help."""
    lines = python(
        """
        before = resource.getrlimit(resource.RLIMIT_MEMLOCK)
        attempt("map", lambda: map_(MapType.HASH))
        print(resource.getrlimit(resource.RLIMIT_MEMLOCK) == before)
        """,
        keep=[],
    )
    assert lines[0].startswith("map: cannot create map values")
    assert lines[1:] == ["True"]


# --- signals ----------------------------------------------------------------------------------------------------------


@contextmanager
def alarms(every_seconds: float) -> Iterator[list[int]]:
    """A signal that comes again and again; gives the list that its handler adds to."""
    came: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda number, _: came.append(number))
    signal.setitimer(signal.ITIMER_REAL, every_seconds, every_seconds)
    try:
        yield came
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_signals_during_a_load() -> None:
    """A program that takes the verifier longer than from one signal to the next is loaded all the same."""
    start = time.monotonic()
    Program.load(slow()).close()
    seconds = time.monotonic() - start
    with alarms(seconds / 8) as came:
        Program.load(slow()).close()
    assert len(came) >= 3
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == set()


def test_a_command_that_is_always_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    """EAGAIN without end is an error in the end, with the cause."""
    calls = 0

    def interrupted() -> int:
        nonlocal calls
        calls += 1
        return -1

    monkeypatch.setattr(kernel, "prepared", lambda *_: interrupted)
    monkeypatch.setattr(kernel, "last_errno", lambda: errno.EAGAIN)
    with pytest.raises(KernelError, match=r"^cannot try: signals came faster than .* \(EAGAIN\)$") as caught:
        kernel.bpf(Command.PROG_LOAD, kernel.new("prog_load"), "try")
    assert caught.value.errno == errno.EAGAIN
    assert calls == 6


# --- logs -------------------------------------------------------------------------------------------------------------


def test_a_log_larger_than_its_first_buffer() -> None:
    """ENOSPC of the log is no failure of its own: the verifier's reason comes, from a log that is whole."""
    with pytest.raises(VerifierError, match="R9 !read_ok") as caught:
        Program.load(slow(1500, good=False))
    assert len(caught.value.log) > 1 << 16
    with Program.load(slow(1500), log_level=2) as program:
        assert len(program.log) > 1 << 16
        assert "processed" in program.log


# --- fork and threads -------------------------------------------------------------------------------------------------


def test_fork_and_a_collection() -> None:
    """Parent and child each have their descriptors: the child uses and closes its own, the parent's stay."""
    with Collection.load(CollectionSpec({"test": SMALL}, {"values": ARRAY})) as loaded:
        child = os.fork()
        if not child:
            status = 1
            try:
                loaded.maps["values"].update(bytes(4), (5).to_bytes(8, "little"))
                loaded.close()
                status = 0
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0
        assert loaded.maps["values"].lookup(bytes(4)) == (5).to_bytes(8, "little")
        assert loaded.programs["test"].run(bytes(64)).retval == 1


def test_loading_from_several_threads() -> None:
    """Loads at the same time do not disturb each other, nor their errors' reasons."""
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for _ in range(10):
                collection = CollectionSpec({"test": SMALL}, {"values": ARRAY})
                with Collection.load(collection) as loaded:
                    loaded.maps["values"].update(bytes(4), number.to_bytes(8, "little"))
                    assert loaded.maps["values"].lookup(bytes(4)) == number.to_bytes(8, "little")
                with pytest.raises(VerifierError, match="R9 !read_ok"):
                    Program.load(spec(isa.mov(0, 9), isa.exit_program()))
        except BaseException as error:  # noqa: BLE001 - handed to the main thread, which raises it
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
