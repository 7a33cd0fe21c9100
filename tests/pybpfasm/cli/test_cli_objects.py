"""Objects on the command line: `elf`, `dis`, `cfg` and `asm --as elf`."""

import json
from pathlib import Path

import pytest
from cli_outcome import Command

from pybpfasm.interop import read_elf
from pybpfasm.uapi import AttachType, ProgramType


def test_elf_shows_programs_and_maps(cli: Command, object_file: Path) -> None:
    """A table of each, with types, sizes and relocations."""
    lines = [line.split() for line in cli("elf", object_file).text.splitlines()]
    assert lines[0] == ["ELF", "64", "bit,", "little", "endian,", "license", "GPL"]
    redirect = "redirect cgroup/connect4 CGROUP_SOCK_ADDR CGROUP_INET4_CONNECT - 14 1"
    assert redirect.split() in lines
    assert ["drop", "xdp", "XDP", "XDP", "-", "2", "1"] in lines
    assert ["ports", "HASH", "4", "-", "8", "-", "16", "0", "-"] in lines


def test_elf_as_json(cli: Command, object_file: Path) -> None:
    """The same as values, from standard input too."""
    facts = json.loads(cli("elf", "--json", "-", stdin=object_file.read_bytes()).text)
    assert (facts["class"], facts["byteorder"], facts["license"]) == (64, "little", "GPL")
    assert [(each["name"], each["type"]) for each in facts["programs"]] == [
        ("redirect", "CGROUP_SOCK_ADDR"),
        ("drop", "XDP"),
    ]
    assert [(each["name"], each["max_entries"]) for each in facts["maps"]] == [("ports", 16)]
    assert facts["btf"]["size"] > 0
    assert facts["core_relocations"] == 0


def test_dis_names_programs_maps_and_functions(cli: Command, object_file: Path) -> None:
    """Each program has a heading; maps stand by name; what it calls follows it."""
    text = cli("dis", object_file).text
    assert "; redirect, section cgroup/connect4\n   0: (bf) r6 = r1\n" in text
    assert "(18) r1 = map[ports]" in text
    assert "; drop, section xdp\n   0: (85) call pc+1\n" in text


def test_dis_of_one_program_can_be_assembled(cli: Command, object_file: Path) -> None:
    """What `dis --program` prints, `asm` reads."""
    text = cli("dis", "--program", "drop", object_file).text
    assert cli("asm", "--as", "hex", stdin=text).text.splitlines()[0] == "85 10 00 00 01 00 00 00"
    assert cli("dis", "--section", "xdp", object_file).text == text


def test_dis_shows_source_lines(cli: Command, object_file: Path) -> None:
    """`--source` puts each line before its instructions, as a comment."""
    lines = cli("dis", "--source", "--program", "redirect", object_file).text.splitlines()
    assert lines[1:3] == ["; redirect.py:10: ctx = ...", "   0: (bf) r6 = r1"]
    assert lines[lines.index("; redirect.py:14: st = ...") + 1].startswith("   8: ")


def test_cfg_of_one_program(cli: Command, object_file: Path) -> None:
    """`--program` picks one; the heading has its name."""
    text = cli("cfg", "--program", "drop", object_file).text
    assert "drop · slot 0" in text
    assert text.count('class="block"') == 2


def test_asm_makes_an_object(cli: Command, tmp_path: Path) -> None:
    """Section, name and licence are as asked for, and the section says what kind of program it is."""
    path = tmp_path / "drop.o"
    options = ["--section", "xdp", "--name", "drop", "--license", "Dual MIT/GPL"]
    assert cli("asm", "--as", "elf", *options, "-o", path, stdin="r0 = 1\nexit\n").status == 0
    spec = read_elf(path.read_bytes()).programs["drop"]
    assert (spec.type, spec.attach_type, spec.license) == (ProgramType.XDP, AttachType.XDP, "Dual MIT/GPL")
    assert cli("dis", path).text == "; drop, section xdp\n   0: (b7) r0 = 1\n   1: (95) exit\n"


def test_asm_makes_an_object_for_big_endian_machines(cli: Command) -> None:
    """The byte order goes into the object, and comes back out of it."""
    data = cli("asm", "--as", "elf", "--byteorder", "big", stdin="r0 = 1\nexit\n").out
    assert json.loads(cli("elf", "--json", "-", stdin=data).text)["byteorder"] == "big"
    assert "(b7) r0 = 1" in cli("dis", "-", stdin=data).text


def test_an_object_has_no_maps_that_text_cannot_declare(cli: Command) -> None:
    """A map in the text is refused: which, and what makes such an object."""
    cli("asm", "--as", "elf", stdin="r1 = map[counts]\nexit\n").failed(1, "map 'counts'", "write_elf")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["dis", "--section", "xpd"], "there is no program in a section 'xpd': it has cgroup/connect4, xdp"),
        (["dis", "--program", "dorp"], "there is no program 'dorp' in it: it has redirect, drop"),
        (["cfg"], "it has 2 programs: say --program with one of redirect, drop"),
        (["cfg", "--program", "x"], "there is no program 'x' in it"),
        (["run"], "it has 2 programs"),
    ],
)
def test_wrong_names(cli: Command, object_file: Path, arguments: list[str], message: str) -> None:
    """What there is instead is said, with the input's name."""
    cli(*arguments, object_file).failed(1, f"{object_file}: {message}")


@pytest.mark.parametrize("command", ["elf", "dis", "cfg", "run"])
def test_damaged_objects(cli: Command, object_file: Path, command: str) -> None:
    """Cut off anywhere, or with bytes changed, an object gives a result or a complaint, never a traceback."""
    whole = object_file.read_bytes()
    damaged = [whole[:size] for size in range(1, len(whole), 97)]
    damaged += [whole[:at] + b"\xff" * 8 + whole[at + 8 :] for at in range(4, len(whole), 61)]
    for data in damaged:
        done = cli(command, "-", stdin=data)
        assert done.status in (0, 1)
        assert "Traceback" not in done.err
        assert done.status == 0 or done.err.startswith("pybpfasm: ")
