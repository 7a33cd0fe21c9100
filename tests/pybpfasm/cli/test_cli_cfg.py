"""`cfg`: graphs from the command line."""

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from cli_outcome import Command

LOOP = "again:\nr0 += 1\nif r0 < 10 goto again\nexit\n"


@pytest.fixture
def raw(cli: Command) -> bytes:
    """A loop as bytes."""
    return cli("asm", stdin=LOOP).out


def test_svg_is_the_default(cli: Command, raw: bytes, tmp_path: Path) -> None:
    """A picture on standard output, or in a file."""
    done = cli("cfg", "--raw", "-", stdin=raw)
    assert ET.fromstring(done.text).tag.endswith("svg")  # noqa: S314 - our own document
    assert "id=&quot;" not in done.text
    assert done.text.count('class="block"') == 2
    assert cli("cfg", "--svg", "--raw", "-", "-o", tmp_path / "x.svg", stdin=raw).out == b""
    assert (tmp_path / "x.svg").read_bytes() == done.out


def test_dot(cli: Command, raw: bytes) -> None:
    """Text for Graphviz, in the syntax asked for."""
    done = cli("cfg", "--dot", "--syntax", "llvm", "--raw", "-", stdin=raw)
    assert done.text.startswith("digraph ")
    assert "r0 += 0x1" in done.text


def test_a_jump_out_of_the_program(cli: Command) -> None:
    """What cannot be followed is a complaint with the slot."""
    data = cli("asm", stdin="goto pc+9\nexit\n").out
    cli("cfg", "--raw", "-", stdin=data).failed(1, "standard input: slot 0: it jumps to slot 10")


def test_options_that_do_not_go_together(cli: Command, raw: bytes) -> None:
    """One form at a time."""
    cli("cfg", "--svg", "--dot", "--raw", "-", stdin=raw).failed(2, "--dot")
