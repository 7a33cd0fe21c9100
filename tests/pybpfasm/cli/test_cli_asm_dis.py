"""`asm` and `dis`: text to instructions and back."""

from pathlib import Path

import pytest
from cli_outcome import Command

TEXT = """\
   0: (b7) r0 = 1
   1: (18) r1 = 0x123456789abcdef0
   3: (15) if r1 == 0x5 goto pc+1
   4: (b7) r0 = 2
   5: (95) exit
"""
RAW = bytes.fromhex(
    "b700000001000000 18010000f0debc9a 0000000078563412 1501010005000000 b700000002000000 9500000000000000"
)


def test_text_becomes_bytes_and_text_again(cli: Command) -> None:
    """From standard input to standard output, both ways."""
    assert cli("asm", stdin=TEXT).out == RAW
    assert cli("dis", "--raw", "-", stdin=RAW).text == TEXT


def test_files(cli: Command, tmp_path: Path) -> None:
    """From a file to a file, and nothing on standard output."""
    (tmp_path / "in.s").write_text(TEXT)
    done = cli("asm", tmp_path / "in.s", "-o", tmp_path / "out.bin")
    assert (done.status, done.out, done.err) == (0, b"", "")
    assert (tmp_path / "out.bin").read_bytes() == RAW
    assert cli("dis", "--raw", tmp_path / "out.bin", "-o", tmp_path / "out.s").status == 0
    assert (tmp_path / "out.s").read_text() == TEXT


def test_hex_text(cli: Command) -> None:
    """A slot a line; `dis --hex` reads it, with spaces anywhere."""
    done = cli("asm", "--as", "hex", stdin="r0 = 1\nexit\n")
    assert done.text == "b7 00 00 00 01 00 00 00\n95 00 00 00 00 00 00 00\n"
    assert cli("dis", "--hex", "-", stdin=done.out).text == "   0: (b7) r0 = 1\n   1: (95) exit\n"
    assert cli("dis", "--hex", "-", stdin="95000000 00\n000000").text == "   0: (95) exit\n"


def test_byte_orders(cli: Command) -> None:
    """Big endian differs in the bytes, not in the text."""
    big = cli("asm", "--byteorder", "big", stdin=TEXT).out
    assert big != RAW
    assert cli("dis", "--raw", "--byteorder", "big", "-", stdin=big).text == TEXT


def test_syntaxes(cli: Command) -> None:
    """LLVM's syntax is printed and read, uBPF's read."""
    text = cli("dis", "--raw", "--syntax", "llvm", "-", stdin=RAW).text
    assert "r1 = 0x123456789abcdef0 ll" in text
    assert cli("asm", "--syntax", "llvm", stdin=text).out == RAW
    assert cli("asm", "--syntax", "ubpf", "--as", "hex", stdin="mov %r0, 1\nexit\n").text.startswith("b7 00")


def test_an_error_shows_the_line_with_a_caret(cli: Command) -> None:
    """What stands where, and what was expected."""
    cli("asm", stdin="r0 = 1\nr1 += r77\n").failed(1, "standard input: line 2, column ", "\n    r1 += r77\n", "^")


@pytest.mark.parametrize(
    ("stdin", "message"),
    [
        (b"", "standard input: it is empty"),
        (b"\n; nothing\n", "standard input: there is no instruction in it"),
        (b"r0 = 1\n\xff\xfe\n", "standard input: line 2: this is no text in UTF-8"),
        (b"goto nowhere\nexit\n", "nowhere"),
        (b"r1 = map[counts]\nexit\n", "symbol 'counts' is not resolved: bytes have no names, write map[id:N]"),
    ],
)
def test_bad_text(cli: Command, stdin: bytes, message: str) -> None:
    """Each is one complaint with status 1."""
    cli("asm", stdin=stdin).failed(1, message)


@pytest.mark.parametrize(
    ("arguments", "stdin", "message"),
    [
        (["--raw", "-"], b"12345", "standard input: slot 0: 5 bytes left over"),
        (["--raw", "-"], b"\xff" * 8, "standard input: slot 0: opcode 0xff is not known"),
        (["--hex", "-"], b"b7 00\nzz", "line 2, column 1: 'z' is no hex digit"),
        (["--hex", "-"], b"b70", "odd number of hex digits"),
        (["-"], b"neither", "this is no ELF object: for instructions say --raw"),
        (["-"], b"", "standard input: it is empty"),
        (["-"], b"\x7fELF", "ELF"),
        (["-"], b"\x7fELF" + bytes(range(256)) * 8, "ELF"),
        (["no/such"], b"", "no/such: there is no such file"),
        (["/"], b"", "/: this is a directory"),
        (["\0"], b"", "cannot be read"),
        (["/proc/self/mem"], b"", "/proc/self/mem cannot be read: Input/output error"),
        (["id:x"], b"", "id:x: an id is a number"),
        (["--raw", "--source", "-"], RAW, "--source: the input has no source lines"),
        (["--raw", "--program", "p", "-"], RAW, "there is no program 'p' in it"),
        (["--raw", "--section", "xdp", "-"], RAW, "there is no program in a section 'xdp': it has none"),
        (["--raw", "-", "-o", "/no/such/folder/x"], RAW, "/no/such/folder/x cannot be written: No such file"),
    ],
)
def test_bad_input(cli: Command, arguments: list[str], stdin: bytes, message: str) -> None:
    """What is wrong with it and what to do, in one complaint with status 1."""
    cli("dis", *arguments, stdin=stdin).failed(1, message)


@pytest.mark.parametrize(
    "arguments",
    [
        ["asm", "--section", "xdp"],
        ["asm", "--license", "GPL", "--as", "hex"],
        ["asm", "--as", "jpeg"],
        ["dis"],
        ["dis", "--raw", "--hex", "-"],
        ["dis", "--byteorder", "big", "-"],
        ["dis", "--syntax", "ubpf", "-"],
        ["dis", "--section", "a", "--program", "b", "-"],
    ],
)
def test_bad_usage(cli: Command, arguments: list[str]) -> None:
    """Options that do not go together end with status 2 and say where help is."""
    cli(*arguments, stdin=RAW).failed(2, "--help")
