"""`btf`: types from the command line."""

import json
import os
from pathlib import Path

import pytest
from cli_outcome import Command

from pybpfasm.btf import BtfBuilder, Int, Member, Pointer, Struct

needs_kernel_btf = pytest.mark.skipif(not os.path.exists("/sys/kernel/btf/vmlinux"), reason="the kernel shows no BTF")


@pytest.fixture
def blob() -> bytes:
    """Raw BTF: struct pair with a pointer to another, and a number that nothing refers to."""
    builder = BtfBuilder()
    number = Int("int", 4, signed=True)
    other = Struct("other", 4, (Member("x", number, 0),))
    builder.type_id(Struct("pair", 16, (Member("left", number, 0), Member("right", Pointer(other), 8))))
    builder.type_id(Int("lonely", 8))
    return builder.encode()


def test_a_line_a_type(cli: Command, blob: bytes, tmp_path: Path) -> None:
    """`raw` has each type with its id and its members; a file and standard input give the same."""
    done = cli("btf", "dump", "-", stdin=blob)
    assert "STRUCT 'pair' size=16 members=2\n\t'left' type_id=" in done.text
    assert "INT 'lonely' size=8 bits=64" in done.text
    (tmp_path / "types.btf").write_bytes(blob)
    assert cli("btf", "dump", tmp_path / "types.btf").out == done.out


def test_c(cli: Command, blob: bytes) -> None:
    """`c` has declarations."""
    assert "struct pair {\n\tint left;\n" in cli("btf", "dump", "--format", "c", "-", stdin=blob).text


def test_json(cli: Command, blob: bytes) -> None:
    """`json` has the same as values."""
    types = json.loads(cli("btf", "dump", "--format", "json", "-", stdin=blob).text)["types"]
    pair = next(each for each in types if each.get("name") == "pair")
    assert (pair["kind"], pair["size"]) == ("STRUCT", 16)
    assert [member["name"] for member in pair["members"]] == ["left", "right"]


@pytest.mark.parametrize("form", ["raw", "c", "json"])
def test_roots(cli: Command, blob: bytes, form: str) -> None:
    """Only what the named type needs."""
    text = cli("btf", "dump", "--format", form, "--root", "pair", "-", stdin=blob).text
    assert "left" in text
    assert "lonely" not in text


def test_a_field(cli: Command, blob: bytes) -> None:
    """Offset and size in bytes, and what it is."""
    assert cli("btf", "field", "pair.right", "-", stdin=blob).text == "pair.right: offset 8, size 8, PTR\n"
    assert cli("btf", "field", "pair.left", "-", stdin=blob).text == "pair.left: offset 0, size 4, INT int\n"
    facts = json.loads(cli("btf", "field", "--json", "pair.right", "-", stdin=blob).text)
    assert (facts["offset"], facts["size"], facts["kind"]) == (8, 8, "PTR")


@needs_kernel_btf
def test_the_running_kernel(cli: Command) -> None:
    """Without an input it is the kernel that runs."""
    assert cli("btf", "field", "task_struct.mm").text.startswith("task_struct.mm: offset ")
    assert "struct list_head *next;" in cli("btf", "dump", "--kernel", "--root", "list_head", "--format", "c").text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["dump", "--root", "nobody", "-"], "nobody"),
        (["field", "pair.middle", "-"], "has no member 'middle'"),
        (["field", "pair..", "-"], "is no path of names"),
        (["dump", "/"], "directory"),
        (["dump", "no/such"], "there is no such file"),
    ],
)
def test_bad_input(cli: Command, blob: bytes, arguments: list[str], message: str) -> None:
    """Names that there are not, files that there are not."""
    cli("btf", *arguments, stdin=blob).failed(1, message)


@pytest.mark.parametrize("form", ["raw", "c", "json"])
@pytest.mark.parametrize("junk", [b"junk", b"\x9f\xeb\x01\x00", b"\x7fELF junk"])
def test_junk(cli: Command, junk: bytes, form: str) -> None:
    """What is no BTF is a complaint."""
    cli("btf", "dump", "--format", form, "-", stdin=junk).failed(1, "standard input")


def test_bad_usage(cli: Command, blob: bytes) -> None:
    """The kernel's types or an input's, not both."""
    cli("btf", "dump", "--kernel", "-", stdin=blob).failed(2, "--kernel")
    cli("btf").failed(2, "dump|field")
