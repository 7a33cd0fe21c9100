"""`run`: programs in the interpreter from the command line."""

import json
from pathlib import Path

import pytest
from cli_outcome import Command

SUM = "r0 = *(u8 *)(r1 +0)\nr2 = *(u8 *)(r1 +1)\nr0 += r2\n*(u8 *)(r1 +2) = r0\nexit\n"
LOOP = "again:\ngoto again\n"


@pytest.fixture
def raw(cli: Command) -> bytes:
    """A program that adds two bytes of its memory."""
    return cli("asm", stdin=SUM).out


def test_memory(cli: Command, raw: bytes) -> None:
    """r0 in hex and decimal, how long it took, and what has changed."""
    done = cli("run", "--raw", "-", "--mem", "28 02 00", stdin=raw)
    assert done.status == 0
    assert done.text == "r0 = 0x2a (42), 5 steps\nmem: 280200 -> 28022a\n"


def test_memory_of_a_file(cli: Command, raw: bytes, tmp_path: Path) -> None:
    """`@FILE` is the file's bytes."""
    (tmp_path / "mem").write_bytes(bytes((1, 2, 3)))
    assert cli("run", "--raw", "-", "--mem", f"@{tmp_path / 'mem'}", stdin=raw).text.startswith("r0 = 0x3 (3)")


def test_a_negative_result(cli: Command) -> None:
    """A result that can be read as a negative number is shown so, too."""
    data = cli("asm", stdin="r0 = -1\nexit\n").out
    text = cli("run", "--raw", "-", stdin=data).text
    assert text == "r0 = 0xffffffffffffffff (18446744073709551615, -1), 2 steps\n"


def test_trace(cli: Command, raw: bytes) -> None:
    """Each instruction as it runs, with what it changes."""
    lines = cli("run", "--raw", "-", "--mem", "010203", "--trace", stdin=raw).text.splitlines()
    assert lines[0] == "   0: (71) r0 = *(u8 *)(r1 +0)  ; r0 = 0x1"
    assert len(lines) == 5 + 1


def test_coverage(cli: Command) -> None:
    """What did not run, and which way of a jump was not taken."""
    data = cli("asm", stdin="r0 = 0\nif r1 == 0 goto end\nr0 = 1\nend:\nexit\n").out
    text = cli("run", "--raw", "-", "--coverage", stdin=data).text
    assert "coverage: program: 3 of 4 instructions" in text
    assert "slot 2, (b7) r0 = 1: never ran" in text


def test_json(cli: Command, raw: bytes) -> None:
    """The result as values; a trace is a list in it."""
    report = json.loads(cli("run", "--raw", "-", "--mem", "010203", "--json", "--trace", stdin=raw).text)
    assert (report["ret"], report["steps"], report["mem"]) == (3, 5, None)
    assert len(report["trace"]) == 5


def test_a_context_with_a_map(cli: Command, object_file: Path) -> None:
    """Fields that were set, entries that were given, and what the program made of both."""
    options = ["--set", "user_ip4=10.0.0.1", "--set", "user_port=80", "--map", "ports:00500000=3a99000000000000"]
    done = cli("run", object_file, "--program", "redirect", *options)
    assert done.status == 0
    assert "ctx.user_port: 80 -> 15001\n" in done.text
    assert "map ports[00500000]: 3a99000000000000 -> 3a99000001000000\n" in done.text
    assert "user_ip4" not in done.text


def test_a_context_without_an_object(cli: Command) -> None:
    """`--ctx` names the struct; `--packet` is what data points to."""
    text = "r2 = *(u32 *)(r1 +0)\nr3 = *(u32 *)(r1 +4)\nr0 = r3\nr0 -= r2\nexit\n"
    data = cli("asm", stdin=text).out
    options = ["--ctx", "xdp_md", "--packet", "00" * 60]
    assert cli("run", "--raw", "-", *options, stdin=data).text.startswith("r0 = 0x3c (60)")


def test_the_world(cli: Command) -> None:
    """`--world` sets what helpers answer with."""
    data = cli("asm", stdin="call bpf_get_current_uid_gid\nexit\n").out
    done = cli("run", "--raw", "-", "--world", "uid=7", "--world", "gid=0", stdin=data)
    assert done.text.startswith("r0 = 0x7 ")


@pytest.mark.parametrize(
    ("text", "options", "parts"),
    [
        (SUM, [], ["slot 0", "NULL"]),
        (SUM, ["--mem", "01"], ["slot 1", "mem+1"]),
        (LOOP, ["--steps", "1000"], ["1000"]),
        ("r0 = r3\nexit\n", [], ["slot 0", "r3"]),
        ("call unknown#9999\nexit\n", [], ["helper 9999"]),
        ("r1 = map[id:5]\nexit\n", [], ["slot 0"]),
    ],
)
def test_a_fault(cli: Command, text: str, options: list[str], parts: list[str]) -> None:
    """One line with the slot and what was wrong there, and status 1."""
    done = cli("run", "--raw", "-", *options, stdin=cli("asm", stdin=text).out)
    done.failed(1, "standard input: ", *parts)
    assert len(done.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--mem", "0"], "--mem '0' is no hex text"),
        (["--steps", "many"], "'many' is no number"),
        (["--steps", "0"], "--steps"),
        (["--ctx", "nothing"], "--ctx 'nothing' is not known: __sk_buff"),
        (["--ctx", "xdp_md", "--mem", "00"], "--mem is for programs without a context"),
        (["--set", "mark=1"], "say --ctx TYPE"),
        (["--ctx", "xdp_md", "--set", "mark=1"], "xdp_md has no field 'mark'"),
        (["--ctx", "xdp_md", "--set", "mark"], "field=value"),
        (["--ctx", "bpf_sock_addr", "--set", "user_ip4=1.2"], "user_ip4"),
        (["--ctx", "bpf_sock_addr", "--set", "user_port=x"], "'x' is no number"),
        (["--ctx", "bpf_sock_addr", "--packet", "00"], "struct bpf_sock_addr has none"),
        (["--packet", "00"], "there is no context"),
        (["--map", "m:00=00"], "there is no map 'm'"),
        (["--map", "m"], "name:keyhex=valuehex"),
        (["--world", "weather=1"], "clock_ns"),
    ],
)
def test_bad_usage(cli: Command, raw: bytes, options: list[str], message: str) -> None:
    """An option that cannot be meant says why, and what could be."""
    cli("run", "--raw", "-", *options, stdin=raw).failed(2, message)


def test_a_key_of_the_wrong_size(cli: Command, object_file: Path) -> None:
    """A map's key has its size."""
    cli("run", object_file, "--program", "redirect", "--map", "ports:01=02").failed(2, "a key has 4 bytes, not 1")


def test_a_section_that_says_no_type(cli: Command) -> None:
    """A program of unknown type needs `--ctx`, and runs with it."""
    data = cli("asm", "--as", "elf", "--section", "mine", stdin="r0 = *(u32 *)(r1 +12)\nexit\n").out
    cli("run", "-", stdin=data).failed(1, "section 'mine'", "say --ctx TYPE")
    done = cli("run", "-", "--ctx", "xdp_md", "--set", "ingress_ifindex=9", stdin=data)
    assert done.text.startswith("r0 = 0x9 ")
