"""The commands for the running kernel, with what they do seen from elsewhere: by sockets, and by bpftool."""

import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cli_outcome import ROOT, Command

from pybpfasm import isa
from pybpfasm.kernel import Map, Program, features
from pybpfasm.kernel.inventory import ObjectKind, object_ids
from pybpfasm.kernel.maps import TypedMap
from pybpfasm.spec import MapSpec, ProgramSpec, Untyped
from pybpfasm.testing import (
    Cgroup,
    Network,
    bpf_cgroup,  # noqa: F401 - a fixture is found by its name
    bpf_file_system,  # noqa: F401 - likewise
    bpf_network,  # noqa: F401 - likewise
)
from pybpfasm.uapi import AttachType, MapType, ProgramType

# ruff: noqa: F811 - fixtures are imported, and then are arguments

_SOURCE = """
import pybpfasm as bpf
from pybpfasm import HashMap, PerCpuArray, SockAddr, Struct, u32, u64


class Stat(Struct):
    connects: u64
    refused: u64


stats = HashMap[u32, Stat](max_entries=16)


class Runs(Struct):
    count: u64


runs = PerCpuArray[u32, Runs](max_entries=1)


@bpf.connect4
def refuse(ctx: SockAddr) -> int:
    count = runs.lookup(0)
    st = stats.lookup(7)
    if st is None:
        return 1
    st.connects += 1
    st.refused += 1
    return 0
"""

_XDP = """
#define SEC(name) __attribute__((section(name), used))
char licence[] SEC("license") = "GPL";
const volatile int verdict = 1;
SEC("xdp") int drop(void *ctx) { return verdict; }
SEC("xdp") int pass(void *ctx) { return 2; }
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A Python file with a program that refuses connects once its map has an entry."""
    path = tmp_path / "refuse.py"
    path.write_text(_SOURCE)
    return path


@pytest.fixture
def pinned(cli: Command, source: Path, bpf_file_system: Path) -> Path:
    """The folder where that program and its maps are pinned by the command."""
    folder = bpf_file_system / "mine"
    assert cli("load", source, "--pin", folder).status == 0
    return folder


@pytest.fixture
def xdp_object(tmp_path: Path) -> Path:
    """An object with two XDP programs and a constant."""
    compiler = shutil.which("clang-19") or shutil.which("clang-14")
    if compiler is None:
        pytest.skip("clang is not installed")
    path = tmp_path / "xdp.o"
    command = [compiler, "-O2", "-g", "-target", "bpf", "-x", "c", "-c", "-", "-o", str(path)]
    subprocess.run(command, input=_XDP, text=True, check=True)
    return path


def _connects(cgroup: Cgroup) -> bool:
    def connect() -> bool:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            try:
                sock.connect(("127.0.0.1", 9))
            except PermissionError:
                return False
        return True

    return cgroup.run(connect)


def _wait_until(happens: Callable[[], bool]) -> None:
    """The kernel ends a link a little after its last pin has gone (bpf_link_put)."""
    deadline = time.monotonic() + 10
    while not happens():
        assert time.monotonic() < deadline
        time.sleep(0.02)


# --- load -------------------------------------------------------------------------------------------------------------


def test_load_without_a_pin_verifies_and_forgets(cli: Command, source: Path) -> None:
    """The table has the program and its maps; afterwards no program is there."""
    outcome = cli("load", source, "--json")
    rows = json.loads(outcome.out)
    assert {(row["kind"], row["name"], row["type"]) for row in rows} == {
        ("program", "refuse", "cgroup_sock_addr"),
        ("map", "stats", "hash"),
        ("map", "runs", "percpu_array"),
    }
    number = next(row["id"] for row in rows if row["kind"] == "program")
    assert number not in set(object_ids(ObjectKind.PROGRAM))


def test_load_pins_by_name(cli: Command, pinned: Path) -> None:
    """Program and maps are in the folder, and can be opened from there."""
    assert {each.name for each in pinned.iterdir()} == {"refuse", "stats", "runs"}
    with Program.open(pinned / "refuse") as program, Map.open(pinned / "stats") as stats:
        assert stats.info().id in program.info().map_ids


def test_a_load_that_fails_leaves_nothing(cli: Command, source: Path, bpf_file_system: Path) -> None:
    """A name is taken: what was pinned before it is gone again, and what was there before stays."""
    folder = bpf_file_system / "mine"
    cli("load", source, "--pin", folder)
    for name in ("refuse", "runs"):
        (folder / name).unlink()
    with Map.open(folder / "stats") as stats:
        number = stats.info().id
    cli("load", source, "--pin", folder).failed(1, str(folder / "stats"), "pinned already", "remove it")
    assert [each.name for each in folder.iterdir()] == ["stats"]
    with Map.open(folder / "stats") as stats:
        assert stats.info().id == number


def test_a_load_that_fails_takes_its_folder_away(cli: Command, tmp_path: Path, bpf_file_system: Path) -> None:
    """What the verifier refuses leaves no folder behind either; the error names the file's line."""
    path = tmp_path / "endless.py"
    path.write_text(_SOURCE.replace("return 0", "while True:\n        st.refused += 1\n    return 0"))
    outcome = cli("load", path, "--pin", bpf_file_system / "mine")
    assert outcome.status == 1
    assert "endless.py" in outcome.err
    assert not (bpf_file_system / "mine").exists()


def test_load_of_an_object(cli: Command, xdp_object: Path, bpf_file_system: Path) -> None:
    """One of an object's programs; the map of its constants has a dot in its name, and is not pinned."""
    outcome = cli("load", xdp_object, "--program", "drop", "--pin", bpf_file_system / "mine")
    assert outcome.status == 0, outcome.err
    assert [each.name for each in (bpf_file_system / "mine").iterdir()] == ["drop"]
    with Program.open(bpf_file_system / "mine" / "drop") as program:
        assert program.run(bytes(64)).retval == 1


@pytest.mark.parametrize(
    ("name", "text", "parts"),
    [
        ("missing.py", None, ["missing.py", "no such file"]),
        ("empty.py", "", ["empty.py", "no program in it"]),
        ("raises.py", "\n\n1 // 0", ["raises.py:3", "ZeroDivisionError"]),
        ("syntax.py", "def (", ["syntax.py:1", "invalid syntax"]),
        ("text.o", "hello", ["text.o", "neither an ELF object nor a Python file"]),
    ],
)
def test_load_says_what_is_wrong_with_a_file(
    cli: Command, tmp_path: Path, name: str, text: str | None, parts: list[str]
) -> None:
    """Whatever is given as input, one line says what is wrong, and where."""
    if text is not None:
        (tmp_path / name).write_text(text)
    cli("load", tmp_path / name).failed(1, *parts)


def test_load_pins_in_a_bpf_file_system_only(cli: Command, source: Path, tmp_path: Path) -> None:
    """An ordinary folder with files in it is not mounted over."""
    cli("load", source, "--pin", tmp_path).failed(1, str(tmp_path), "bpf file system")


# --- attach -----------------------------------------------------------------------------------------------------------


def test_attach_to_a_cgroup(cli: Command, pinned: Path, bpf_cgroup: Cgroup) -> None:
    """Connects are refused from the command on until the pin is removed."""
    with Map.open(pinned / "stats") as stats:
        TypedMap.of(stats)[7] = {}
    place = ["--cgroup", bpf_cgroup.path, "--pin", pinned / "link"]
    assert _connects(bpf_cgroup)
    cli("attach", pinned / "refuse", *place).failed(2, "--hook", "cgroup_inet4_connect")
    assert cli("attach", pinned / "refuse", *place, "--hook", "cgroup_inet4_connect").status == 0
    assert not _connects(bpf_cgroup)
    assert json.loads(cli("map", "dump", pinned / "stats", "--json").out) == [
        {"key": 7, "value": {"connects": 1, "refused": 1}}
    ]
    (pinned / "link").unlink()
    _wait_until(lambda: _connects(bpf_cgroup))


def test_attach_to_xdp(cli: Command, xdp_object: Path, bpf_file_system: Path, bpf_network: Network) -> None:
    """Packets are dropped at an interface in another namespace while the link is pinned."""
    folder, right = bpf_file_system / "mine", bpf_network.right
    cli("load", xdp_object, "--pin", folder)
    options = ["--xdp", right.interface, "--xdp-mode", "generic", "--pin", folder / "link"]
    assert _arrives(bpf_network)
    assert right.run(lambda: cli("attach", folder / "drop", *options)).status == 0
    assert not _arrives(bpf_network)
    (folder / "link").unlink()
    _wait_until(lambda: _arrives(bpf_network))


def _pin_program(path: Path, type_: ProgramType, hook: AttachType, verdict: int) -> None:
    """Load a program that does nothing but return a verdict, and leave it pinned."""
    code = (isa.mov_imm(0, verdict), isa.exit_program())
    with Program.load(ProgramSpec("verdict", type_, hook, "ctx", code, {})) as program:
        program.pin(path)


@pytest.mark.needs(features.TCX_LINK)
def test_attach_to_tcx(cli: Command, bpf_file_system: Path, bpf_network: Network) -> None:
    """What comes in at an interface is dropped (TCX_DROP) as long as the pin is there."""
    program, link, right = bpf_file_system / "verdict", bpf_file_system / "link", bpf_network.right
    _pin_program(program, ProgramType.SCHED_CLS, AttachType(0), 2)
    options = ["--tcx-ingress", right.interface, "--pin", link]
    assert right.run(lambda: cli("attach", program, *options)).status == 0
    assert not _arrives(bpf_network)
    link.unlink()
    _wait_until(lambda: _arrives(bpf_network))


def test_attach_to_a_network_namespace(cli: Command, bpf_file_system: Path, bpf_network: Network) -> None:
    """No packet finds a socket there (SK_DROP) as long as the pin is there."""
    program, link = bpf_file_system / "verdict", bpf_file_system / "link"
    _pin_program(program, ProgramType.SK_LOOKUP, AttachType.SK_LOOKUP, 0)
    assert cli("attach", program, "--netns", bpf_network.right.path, "--pin", link).status == 0
    assert not _arrives(bpf_network)
    link.unlink()
    _wait_until(lambda: _arrives(bpf_network))


@pytest.mark.needs(features.SOCKMAP_LINK)
def test_attach_to_a_map_of_sockets(cli: Command, bpf_file_system: Path) -> None:
    """The link is to the map by its id; the only hook of sk_msg programs need not be named."""
    program, place, link = (bpf_file_system / name for name in ("verdict", "sockets", "link"))
    _pin_program(program, ProgramType.SK_MSG, AttachType.SK_MSG_VERDICT, 1)
    with Map.create(MapSpec("sockets", MapType.SOCKHASH, Untyped(4), Untyped(8), 4)) as sockets:
        sockets.pin(place)
        number = sockets.info().id
    outcome = cli("attach", program, "--sockets", place, "--pin", link)
    assert outcome.status == 0, outcome.err
    shown = json.loads(cli("link", "show", link, "--json").out)
    assert (shown["type"], shown["target"], shown["attach_type"]) == ("sockmap", number, "sk_msg_verdict")


def test_attach_to_a_raw_tracepoint(cli: Command, bpf_file_system: Path) -> None:
    """The link has the tracepoint's name, and the list shows it."""
    program, link = bpf_file_system / "verdict", bpf_file_system / "link"
    _pin_program(program, ProgramType.RAW_TRACEPOINT, AttachType(0), 0)
    outcome = cli("attach", program, "--raw-tracepoint", "sched_process_exit", "--pin", link)
    assert outcome.status == 0, outcome.err
    assert json.loads(cli("link", "show", link, "--json").out)["name"] == "sched_process_exit"


def test_a_link_whose_pin_is_taken_is_undone(cli: Command, pinned: Path, bpf_cgroup: Cgroup) -> None:
    """It says so, and nothing stays attached."""
    with Map.open(pinned / "stats") as stats:
        TypedMap.of(stats)[7] = {}
    options = ["--cgroup", bpf_cgroup.path, "--hook", "cgroup_inet4_connect", "--pin", pinned / "stats"]
    cli("attach", pinned / "refuse", *options).failed(1, "cannot pin", "EEXIST")
    assert _connects(bpf_cgroup)


@pytest.mark.parametrize(
    ("options", "status", "parts"),
    [
        (["--cgroup", "/", "--hook", "cgroup_skb"], 2, ["--hook cgroup_skb", "can have cgroup_inet4_bind"]),
        (["--cgroup", "/nowhere", "--hook", "cgroup_inet4_connect"], 1, ["/nowhere", "ENOENT"]),
        (["--xdp", "nothing0"], 1, ["nothing0", "ENODEV"]),
        (["--xdp-mode", "generic", "--netns", "/proc/self/ns/net"], 2, ["--xdp-mode is for --xdp, not for --netns"]),
        (["--hook", "xdp", "--xdp", "lo"], 2, ["--hook is for --cgroup, --sockets, not for --xdp"]),
        (["--raw-tracepoint", "sched_switch"], 1, ["raw tracepoint", "cgroup_sock_addr"]),
        (["--own"], 1, ["cgroup_sock_addr"]),
        ([], 2, ["required"]),
    ],
)
def test_attach_says_what_is_wrong(
    cli: Command, pinned: Path, options: list[str], status: int, parts: list[str]
) -> None:
    """A place that is not there, or not for this program, and options that do not go together."""
    cli("attach", pinned / "refuse", "--pin", pinned / "link", *options).failed(status, *parts)
    assert not (pinned / "link").exists()


# --- prog, map, link --------------------------------------------------------------------------------------------------


def _bpftool(*arguments: object) -> dict[str, Any]:
    command = ["bpftool", "-j", *map(str, arguments)]
    return json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)  # type: ignore[no-any-return]  # JSON


def test_prog_show_is_as_bpftool_says(cli: Command, pinned: Path) -> None:
    """The same facts by the same names, from the same kernel."""
    ours = json.loads(cli("prog", "show", pinned / "refuse", "--json").out)
    theirs = _bpftool("prog", "show", "pinned", pinned / "refuse")
    for name in (
        "id",
        "type",
        "name",
        "tag",
        "gpl_compatible",
        "uid",
        "bytes_xlated",
        "jited",
        "bytes_jited",
        "btf_id",
    ):
        assert ours[name] == theirs[name], name
    assert sorted(ours["map_ids"]) == sorted(theirs["map_ids"])
    assert ours["pinned"] == [str(pinned / "refuse")]
    assert abs(ours["loaded_at"] - theirs["loaded_at"]) <= 1


def test_map_show_is_as_bpftool_says(cli: Command, pinned: Path) -> None:
    """The same facts by the same names, and the types' names."""
    ours = json.loads(cli("map", "show", pinned / "stats", "--json").out)
    theirs = _bpftool("map", "show", "pinned", pinned / "stats")
    for name in ("id", "type", "name", "flags", "bytes_key", "bytes_value", "max_entries"):
        assert ours[name] == theirs[name], name
    assert (ours["value"], ours["pinned"]) == ("Stat", [str(pinned / "stats")])


@pytest.mark.parametrize(("command", "name"), [("prog", "refuse"), ("map", "stats")])
def test_lists_have_what_is_pinned_by_id(cli: Command, pinned: Path, command: str, name: str) -> None:
    """In the list with its pin, as JSON and in the table; and shown by that id as by its pin."""
    row = next(each for each in json.loads(cli(command, "list", "--json").out) if str(pinned / name) in each["pinned"])
    line = next(line for line in cli(command, "list").text.splitlines() if line.endswith(str(pinned / name)))
    assert line.split()[0] == str(row["id"])
    by_id = cli(command, "show", f"id:{row['id']}")
    assert by_id.text == cli(command, "show", row["id"]).text == cli(command, "show", pinned / name).text
    assert str(pinned / name) in by_id.text


def test_prog_dump_shows_instructions(cli: Command, pinned: Path) -> None:
    """A line an instruction, with the map's id; the last one is an exit."""
    with Map.open(pinned / "stats") as stats:
        number = stats.info().id
    lines = cli("prog", "dump", pinned / "refuse").text.splitlines()
    assert any(f"map[id:{number}]" in line for line in lines)
    assert lines[-1].endswith("exit")
    assert json.loads(cli("prog", "dump", pinned / "refuse", "--json").out) == lines


def test_map_dump_reads_per_cpu_values(cli: Command, pinned: Path) -> None:
    """A value for each CPU, by their types."""
    with Map.open(pinned / "runs") as runs:
        count = len(runs.lookup_per_cpu(bytes(4)) or [])
    assert json.loads(cli("map", "dump", pinned / "runs", "--json").out) == [
        {"key": 0, "value": [{"count": 0}] * count}
    ]
    assert cli("map", "dump", pinned / "runs").text.startswith('0: [{"count": 0}')


def test_link_list_and_show(cli: Command, pinned: Path, bpf_cgroup: Cgroup) -> None:
    """Which program is where: the cgroup by its id, which is its directory's inode."""
    place = ["--cgroup", bpf_cgroup.path, "--hook", "cgroup_inet4_connect"]
    cli("attach", pinned / "refuse", *place, "--pin", pinned / "link")
    shown = json.loads(cli("link", "show", pinned / "link", "--json").out)
    assert (shown["type"], shown["prog"], shown["attach_type"]) == ("cgroup", "refuse", "cgroup_inet4_connect")
    assert shown["target"] == bpf_cgroup.path.stat().st_ino
    assert shown in json.loads(cli("link", "list", "--json").out)
    assert str(pinned / "link") in cli("link", "list").text


@pytest.mark.parametrize(
    ("arguments", "status", "parts"),
    [
        (["prog", "show", "4000000000"], 1, ["no program with id 4000000000"]),
        (["map", "show", "id:x"], 1, ["id:x", "an id is a number"]),
        (["link", "show", "{pins}/refuse"], 1, ["refuse", "another kind of object"]),
        (["prog", "show", "{pins}/stats"], 1, ["stats", "another kind of object"]),
        (["map", "dump", "{pins}/nothing"], 1, ["nothing", "ENOENT"]),
        (["prog"], 2, ["ACTION"]),
    ],
)
def test_what_is_not_there(cli: Command, pinned: Path, arguments: list[str], status: int, parts: list[str]) -> None:
    """An id or a pin that is none, or another kind's."""
    cli(*(each.format(pins=pinned) for each in arguments)).failed(status, *parts)


# --- probe ------------------------------------------------------------------------------------------------------------


def test_probe_as_json(cli: Command) -> None:
    """All tables, with answers that agree with what the other tests have used."""
    report = json.loads(cli("probe", "--json", "--helpers", "xdp").out)
    assert report["tables"]["program types"]["cgroup_sock_addr"]["supported"] is True
    assert report["tables"]["map types"]["hash"]["feature"] == "maps of type hash"
    assert report["isa"] >= 3
    assert "bpf_xdp_adjust_head" in report["helpers"]["xdp"]


def test_probe_as_text(cli: Command) -> None:
    """A table a kind, and helpers by their names."""
    text = cli("probe").text
    assert text.startswith("Linux ")
    assert any(line.split()[:3] == ["xdp", "yes", "4.8"] for line in text.splitlines())
    assert "bpf_map_lookup_elem" in cli("probe", "--helpers", "sk_msg").text.splitlines()
    cli("probe", "--helpers", "nothing").failed(2, "--helpers nothing", "xdp")


def test_probe_without_privilege_says_so_row_by_row() -> None:
    """A question mark is neither yes nor no; what needs no privilege is answered."""
    # Modules are imported before, and then the answers are forgotten: another user may not read root's files.
    code = (
        "import os, sys; from pybpfasm.cli import main; from pybpfasm.kernel import features\n"
        "main(['probe', '-o', os.devnull]); features._answers.clear(); os.seteuid(65534); sys.exit(main(['probe']))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    rows = [line.split() for line in done.stdout.splitlines()]
    assert any(row[:2] == ["xdp", "?"] and "CAP_BPF" in row for row in rows)
    assert any(row[:4] == ["the", "kernel's", "own", "BTF"] and "yes" in row for row in rows)


def _arrives(network: Network) -> bool:
    """Whether a datagram from left reaches right."""
    with network.right.socket(socket.SOCK_DGRAM) as receiver, network.left.socket(socket.SOCK_DGRAM) as sender:
        receiver.bind((network.right.ip4, 0))
        receiver.settimeout(0.5)
        sender.sendto(b"hello", receiver.getsockname())
        try:
            return receiver.recv(16) == b"hello"
        except TimeoutError:
            return False
