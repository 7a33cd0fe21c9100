"""What every kind of link does, on the running kernel: a row a kind, in tracing_kinds.py and networking_kinds.py."""

import errno
import gc
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from kernel_matrix.needs import Require
from link_kinds import LinkKind, Scene
from networking_kinds import NETWORKING_KINDS
from tracing_kinds import TRACING_KINDS

from pybpfasm.errors import BpfError, KernelError, UnsupportedFeatureError
from pybpfasm.kernel.links import Attachment, LegacyAttachment, Link
from pybpfasm.kernel.maps import Map
from pybpfasm.kernel.programs import Program
from pybpfasm.spec import MapSpec, Untyped
from pybpfasm.uapi import MapType

KINDS = (*TRACING_KINDS, *NETWORKING_KINDS)

FIRST, SECOND = 0, 1
# The kernel lets go of a link in a worker of its own; in an emulated machine that takes a while.
PATIENCE_SECONDS = 10


class Bench:
    """A place, two programs for it, and their counts."""

    def __init__(self, kind: LinkKind, scene: Scene, counts: Map, require: Require) -> None:
        self.kind = kind
        self._require = require
        self.scene = scene
        self._counts = counts
        self._programs: dict[int, Program] = {}

    def program(self, index: int) -> Program:
        """The first or the second program."""
        if index not in self._programs:
            self._programs[index] = self.kind.program(self._counts, index)
        return self._programs[index]

    def attach(self, index: int = FIRST) -> Attachment:
        """Attach a program."""
        return self.scene.attach(self.program(index))

    def link(self) -> Link:
        """Attach the first program, on a kernel that has links for the place."""
        self._require(*self.kind.link)
        made = self.attach()
        assert isinstance(made, Link)
        return made

    def effect(self) -> set[int]:
        """Which of the programs run when they are made to."""
        before = self._numbers()
        self.scene.trigger()
        return {index for index, count in enumerate(self._numbers()) if count > before[index]}

    def gone(self) -> bool:
        """Whether soon no program runs any more."""
        end = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < end:
            if not self.effect():
                return True
            time.sleep(0.02)
        return False

    def close(self) -> None:
        """Let go of the programs."""
        for each in self._programs.values():
            each.close()

    def _numbers(self) -> list[int]:
        values = [self._counts.lookup(index.to_bytes(4, "little")) for index in (FIRST, SECOND)]
        return [int.from_bytes(value or b"", "little") for value in values]


@pytest.fixture(params=[pytest.param(each, marks=pytest.mark.needs(*each.needs), id=each.name) for each in KINDS])
def bench(request: pytest.FixtureRequest, require: Require) -> Iterator[Bench]:
    """A place for each kind of link."""
    kind: LinkKind = request.param
    with Map.create(MapSpec("counts", MapType.ARRAY, Untyped(4), Untyped(8), 2)) as counts, kind.scene() as scene:
        made = Bench(kind, scene, counts, require)
        try:
            yield made
        finally:
            made.close()


def test_an_attached_program_runs_until_the_end(bench: Bench) -> None:
    """Nothing before, the program while it is attached, nothing after."""
    assert bench.effect() == set()
    with bench.attach():
        assert bench.effect() == {FIRST}
    assert bench.gone()


def test_the_program_may_be_closed(bench: Bench) -> None:
    """The attachment holds the program: its descriptor is not needed any more."""
    with bench.attach():
        bench.close()
        assert bench.effect() == {FIRST}


def test_info_names_program_and_target(bench: Bench) -> None:
    """The kind of link, the program's id, and what is attached to; the same by the link's id."""
    with bench.link() as link:
        info = link.info()
        assert (info.type, info.program_id) == (bench.kind.type, bench.program(FIRST).info().id)
        # Names of tracepoints and probes are told from 6.6 on, by an empty text before.
        assert bench.scene.target in (info.target, info.name) or (info.target, info.name) == (0, "")
        with Link.by_id(info.id) as again:
            assert again.info() == info


def test_a_pin_keeps_the_attachment(bench: Bench, bpffs: Path) -> None:
    """Pinned and closed, the program still runs; opened by the pin it is the same link; without both, it ends."""
    with bench.link() as link:
        link.pin(bpffs / "link")
        number = link.info().id
    assert bench.effect() == {FIRST}
    with Link.open(bpffs / "link") as adopted:
        assert adopted.info().id == number
        adopted.unpin()
        assert not (bpffs / "link").exists()
        assert bench.effect() == {FIRST}
    assert bench.gone()


def test_update_in_place(bench: Bench) -> None:
    """Where the kernel can, the other program takes the place and the link stays; else one line says that it cannot."""
    with bench.link() as link:
        number = link.info().id
        if not bench.kind.updates:
            with pytest.raises(KernelError, match=r"^cannot replace the attached program by count_1: .* updated"):
                link.update(bench.program(SECOND))
            assert bench.effect() == {FIRST}
            return
        link.update(bench.program(SECOND))
        assert (link.info().id, link.info().program_id) == (number, bench.program(SECOND).info().id)
        assert bench.effect() == {SECOND}


def test_update_of_another_program_than_expected(bench: Bench) -> None:
    """With the program that should be there, an update is refused if another is, and done if it is."""
    if not bench.kind.updates:
        return
    with bench.link() as link:
        with pytest.raises(KernelError, match=r"^cannot replace the attached program by count_1: ") as caught:
            link.update(bench.program(SECOND), old=bench.program(SECOND))
        assert caught.value.errno == errno.EPERM
        assert bench.effect() == {FIRST}
        link.update(bench.program(SECOND), old=bench.program(FIRST))
        assert bench.effect() == {SECOND}


def test_detach(bench: Bench, bpffs: Path) -> None:
    """Where the kernel can, the end comes at once although the link is pinned; else one line says how it ends."""
    with bench.link() as link:
        link.pin(bpffs / "link")
        if bench.kind.detaches:
            link.detach()
            assert bench.effect() == set()
        else:
            with pytest.raises(KernelError, match=r"^cannot detach the \w+ link: .*close the link, remove its pins"):
                link.detach()
            assert bench.effect() == {FIRST}
        link.unpin()


def test_a_second_program(bench: Bench) -> None:
    """An exclusive place says that it is taken; at another both run, and each ends by itself."""
    with bench.attach() as first:
        if bench.kind.exclusive:
            with pytest.raises(KernelError, match=r"^cannot attach program count_1 to [^:]*: .*\(EBUSY\)$") as caught:
                bench.attach(SECOND)
            assert caught.value.errno == errno.EBUSY
            return
        with bench.attach(SECOND):
            assert bench.effect() == {FIRST, SECOND}
            first.close()
            _wait_for(bench, {SECOND})


def _wait_for(bench: Bench, wanted: set[int]) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while bench.effect() != wanted:
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_pin_that_is_no_link(bench: Bench, bpffs: Path) -> None:
    """A program's pin is not opened as a link."""
    bench.program(FIRST).pin(bpffs / "program")
    said = rf"^cannot open {bpffs}/program as a link: it is another kind of object, a program \(EINVAL\)$"
    with pytest.raises(KernelError, match=said):
        Link.open(bpffs / "program")


def test_without_a_link(bench: Bench, bpffs: Path) -> None:
    """Where the kernel has no link for the place, what only links can do says so; elsewhere there is a link."""
    with bench.attach() as made:
        if not isinstance(made, LegacyAttachment):
            assert isinstance(made, Link)
            return
        for impossible in (made.info, lambda: made.pin(bpffs / "link")):
            with pytest.raises(UnsupportedFeatureError, match=r"^this kernel does not support .*: it needs Linux "):
                impossible()
        made.detach()
        assert bench.gone()


def test_a_program_of_another_kind(bench: Bench) -> None:
    """A program that is not of this kind is refused in one line that names it."""
    other = next(kind for kind in KINDS if kind.program_type != bench.kind.program_type and not kind.needs)
    with (
        Map.create(MapSpec("counts", MapType.ARRAY, Untyped(4), Untyped(8), 2)) as counts,
        other.program(counts, SECOND) as stranger,
        pytest.raises(BpfError, match=r"^[^\n]*count_1[^\n]*$"),
    ):
        bench.scene.attach(stranger)


def test_nothing_is_left(bench: Bench, bpffs: Path) -> None:
    """Success and failure leave as many descriptors, of any kind, as there were."""
    bench.program(FIRST)
    with bench.attach(SECOND):  # caches, and modules that are read when they are first used
        pass
    gc.collect()
    before = _descriptors()
    with bench.attach() as made:
        if isinstance(made, Link):
            made.info()
            made.pin(bpffs / "link")
            with pytest.raises(KernelError, match="EEXIST"):
                made.pin(bpffs / "link")
            Link.open(bpffs / "link").close()
            made.unpin()
    assert _descriptors() == before


def _descriptors() -> list[str]:
    found = []
    for number in os.listdir("/proc/self/fd"):
        try:
            found.append(re.sub(r"\d+", "", os.readlink(f"/proc/self/fd/{number}")))
        except FileNotFoundError:  # the listing's own
            continue
    return sorted(found)
