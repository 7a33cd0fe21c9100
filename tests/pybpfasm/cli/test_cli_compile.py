"""Python files on the command line: `compile`, `check`, `explain`."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cli_outcome import Command

from pybpfasm.interop import read_elf
from pybpfasm.kernel import features
from pybpfasm.kernel.collection import Collection

SOURCE = '''\
"""Two programs that share a map."""

import pybpfasm as bpf
from pybpfasm import Array, SkBuff, Struct, XdpMd, u32, u64


class Stat(Struct):
    """What is counted."""

    packets: u64


stats = Array[u32, Stat](max_entries=1)


@bpf.inline
def counted() -> None:
    """One more."""
    stat = stats.lookup(0)
    if stat is not None:
        stat.packets += 1


@bpf.xdp
def drop(ctx: XdpMd) -> int:
    """Counted, dropped."""
    counted()
    return 1


@bpf.tc
def on(ctx: SkBuff) -> int:
    """Counted, let through."""
    counted()
    return 0
'''

WRONG = """\
import pybpfasm as bpf
from pybpfasm import SkBuff, XdpMd

@bpf.xdp
def drop(ctx: XdpMd) -> int:
    x = missing
    return "é" and other

@bpf.tc
def on(ctx: SkBuff) -> int:
    ctx.nothing = 1
    return 0
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file with two programs."""
    path = tmp_path / "two.py"
    path.write_text(SOURCE)
    return path


def test_an_object_is_written_and_loads(
    cli: Command, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside the reader's own folder: two.o, here; it has both programs and the map, and the kernel takes it."""
    monkeypatch.chdir(tmp_path)
    assert cli("compile", file).status == 0
    spec = read_elf((tmp_path / "two.o").read_bytes())
    assert (sorted(spec.programs), sorted(spec.maps)) == (["drop", "on"], ["stats"])
    with Collection.load(spec) as loaded:
        assert loaded.programs["drop"].run(bytes(64)).retval == 1
        assert int.from_bytes(loaded.maps["stats"].lookup(bytes(4)) or b"", "little") == 1


def test_one_program_by_its_name(cli: Command, file: Path) -> None:
    """As instructions: those of the program, none of the other."""
    text = cli("compile", f"{file}:drop", "--emit", "asm").text
    assert re.match(r"; drop, \d+ slots\n   0: ", text)
    assert "; on" not in text


def test_operations(cli: Command, file: Path) -> None:
    """What programs are behind the passes: one function each, no instructions."""
    text = cli("compile", file, "--emit", "ir").text
    assert re.findall(r"^func (\w+)\(%0 ctx\):$", text, re.M) == ["drop", "on"]
    assert "map_value? = call 1(map[stats], &slot0)" in text


def test_a_skeleton_names_what_there_is(cli: Command, file: Path, tmp_path: Path) -> None:
    """A header with the object in it, and a member for each map and program."""
    header = tmp_path / "two.skel.h"
    assert cli("compile", file, "--emit", "c-skeleton", "-o", header).status == 0
    text = header.read_text()
    assert "struct two *two__open(void)" in text
    assert {"*drop;", "*on;", "*stats;"} <= set(text.split())


def test_a_target_decides(cli: Command, file: Path, tmp_path: Path) -> None:
    """What needs a younger kernel is told at its line, and compiled for one that has it."""
    path = tmp_path / "loops.py"
    path.write_text(
        SOURCE.replace("    counted()\n    return 1", "    while bpf.can_loop():\n        counted()\n    return 1")
    )
    old = cli("compile", f"{path}:drop", "--target", "6.1", "--emit", "asm")
    assert (old.status, old.err.splitlines()[0]) == (
        1,
        f"pybpfasm: {path}:27:11: can_loop() needs Linux 6.9, this is compiled for 6.1: give the loop a bound",
    )
    assert "may_goto" in cli("compile", f"{path}:drop", "--target", "6.12", "--emit", "asm").text


def test_check_tells_all_errors(cli: Command, tmp_path: Path) -> None:
    """Of all programs, a line each, as editors read them; columns count characters."""
    path = tmp_path / "wrong.py"
    path.write_text(WRONG)
    outcome = cli("check", path)
    places = [line.partition(": error: ")[0].removeprefix(f"{path}:") for line in outcome.text.splitlines()]
    assert outcome.status == 1
    assert places == ["6:9", "7:12", "11:9"]


def test_check_of_what_is_right(cli: Command, file: Path) -> None:
    """Nothing is said."""
    outcome = cli("check", file)
    assert (outcome.status, outcome.text, outcome.err) == (0, "", "")


def test_explain_shows_all_four(cli: Command, file: Path) -> None:
    """Python lines, operations, instructions, and states of the running kernel's verifier."""
    text = cli("explain", f"{file}:drop").text
    assert re.match(r"drop: \d+ slots, verified \d+ instructions\n", text)
    assert re.search(r"two\.py:20  if stat is not None:\n +if jeq %\d+, 0 .* if r0 == 0x0 goto pc\+\d+ +; R0", text)


def test_explain_without_the_kernel(cli: Command, file: Path) -> None:
    """No state is shown, and none is asked for."""
    text = cli("explain", f"{file}:drop", "--no-kernel").text
    assert "verified" not in text
    assert "; R" not in text


@pytest.mark.parametrize(
    ("arguments", "status", "reason"),
    [
        (("compile", "{file}:none"), 1, "{file}: there is no program none: there are drop, on"),
        (("compile", "{folder}/none.py"), 1, "{folder}/none.py: there is no such file"),
        (("compile", "{file}", "--target", "3.10"), 2, "--target: there is no target '3.10': there are 5.10,"),
        (("compile", "{file}", "--emit", "c-skeleton", "-o", "x.c"), 2, "a skeleton is a header: call it .h"),
        (("explain", "{file}"), 2, "{file} has several programs (drop, on): say which, as in {file}:drop"),
        (("compile", "{file}:"), 2, "{file}:: '' is no name of a program: {file}:NAME, or {file} for all"),
        (("check", "{folder}"), 1, "{folder}: this is a directory: name a file"),
        (("check", "/dev/null"), 1, "/dev/null: this is no file that can be imported"),
        (("check", "{folder}/zero.py"), 1, "{folder}/zero.py: source code string cannot contain null bytes"),
        (("check", "{folder}/exits.py"), 1, "{folder}/exits.py: it ends itself by sys.exit(3) when it is imported"),
    ],
)
def test_what_is_wrong_is_told(
    cli: Command, file: Path, tmp_path: Path, arguments: tuple[str, ...], status: int, reason: str
) -> None:
    """In one line that says what, where, and what to do."""
    (tmp_path / "zero.py").write_text("\0")
    (tmp_path / "exits.py").write_text("raise SystemExit(3)")
    outcome = cli(*(each.format(file=file, folder=tmp_path) for each in arguments))
    assert outcome.status == status
    assert outcome.err.startswith(f"pybpfasm: {reason.format(file=file, folder=tmp_path)}")
    assert outcome.err.count("\n") == 1


_MEASURE = """
<script>
addEventListener("load", () => {
  const rows = [...document.querySelectorAll("tr[data-place]")];
  const chosen = rows.find((row) => row.textContent.includes("stat.packets += 1"));
  chosen.dispatchEvent(new MouseEvent("mouseenter"));
  const cells = [...document.querySelectorAll("td, th")].filter((cell) => cell.offsetParent !== null);
  document.title = JSON.stringify({
    overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
    cut: cells.filter((cell) => cell.scrollWidth > cell.clientWidth + 1).length,
    smallest: Math.min(...cells.map((cell) => parseFloat(getComputedStyle(cell).fontSize))),
    lit: rows.filter((row) => row.classList.contains("lit")).map((row) => row.dataset.place === chosen.dataset.place),
    broken: [...document.querySelectorAll("a")].filter((a) => !document.querySelector(a.getAttribute("href"))).length,
    columns: [...document.querySelectorAll("th")].map((each) => each.textContent),
    states: chosen.querySelector(".state").textContent.length > 0,
  });
});
</script>
"""


def test_the_page_in_a_browser(cli: Command, file: Path, tmp_path: Path) -> None:
    """It needs nothing else, nothing is cut off or too small, links lead somewhere, a line lights up what is of it."""
    page = tmp_path / "drop.html"
    assert cli("explain", f"{file}:drop", "--html", "-o", page).status == 0
    text = page.read_text()
    assert not re.search(r"(src|href)=\"(?!#)|url\(|@import", text)
    page.write_text(text + _MEASURE)
    browser = shutil.which("chromium")
    assert browser is not None, "install chromium: tools/install-test-packages does"
    options = ("--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}")
    command = [browser, *options, "--window-size=1280,900", "--dump-dom", page.as_uri()]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    found = re.search(r"<title>(.*?)</title>", shown, re.S)
    assert found is not None
    measured = json.loads(found[1])
    assert measured["columns"] == ["Python", "Operations", "Instructions", "What the verifier knows"]
    assert (measured["overflow"], measured["cut"], measured["broken"]) == (0, 0, 0)
    assert measured["smallest"] >= 12
    assert measured["lit"]
    assert all(measured["lit"])
    assert measured["states"]


SELF_REFERRING = """\
import pybpfasm as bpf
from pybpfasm import KernelStruct, get_current_task, i32


class Task(KernelStruct, name="task_struct"):
    tgid: i32
    real_parent: "Task"


@bpf.raw_tp("sys_enter")
def parent() -> int:
    return get_current_task(Task).real_parent.tgid
"""


@pytest.mark.needs(features.KERNEL_BTF)
def test_a_struct_that_names_itself(cli: Command, tmp_path: Path) -> None:
    """Annotations that are texts are found in the file, also if the file is called as a module is that is imported."""
    path = tmp_path / "struct.py"
    path.write_text(SELF_REFERRING)
    assert cli("check", path).status == 0
    assert sys.modules["struct"].__file__ != str(path)
