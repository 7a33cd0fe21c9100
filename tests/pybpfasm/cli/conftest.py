"""Commands as a user gives them."""

import io
import sys
from pathlib import Path

import pytest
from cli_outcome import Command, Outcome

from pybpfasm.cli import main
from pybpfasm.interop import write_elf
from pybpfasm.isa import parse
from pybpfasm.spec import CollectionSpec, MapSpec, ProgramSpec, SourceLine, Untyped
from pybpfasm.uapi import AttachType, MapType, ProgramType


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]) -> Command:
    """Run `python -m pybpfasm` with these arguments and standard input, in this process."""

    def run(*arguments: object, stdin: bytes | str = b"") -> Outcome:
        data = stdin.encode() if isinstance(stdin, str) else stdin
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
        try:
            status = main([str(each) for each in arguments])
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 1
        captured = capsysbinary.readouterr()
        return Outcome(status, captured.out, captured.err.decode())

    return run


# What is looked up is counted, and gives the new port; both programs of the object below.
_REDIRECT = """
    r6 = r1
    r1 = *(u32 *)(r6 +24)
    *(u32 *)(r10 -4) = r1
    r2 = r10
    r2 += -4
    r1 = map[ports]
    call bpf_map_lookup_elem
    if r0 == 0 goto out
    r1 = *(u32 *)(r0 +0)
    *(u32 *)(r6 +24) = r1
    *(u32 *)(r0 +4) = 1
out:
    r0 = 1
    exit
"""
_DROP = """
    call verdict
    exit
verdict:
    r0 = 1
    exit
"""


def collection() -> CollectionSpec:
    """Two programs and a map: `redirect` for connect4, with source lines, and `drop` for XDP."""
    ports = MapSpec("ports", MapType.HASH, Untyped(4), Untyped(8), 16)
    redirect = ProgramSpec(
        "redirect",
        ProgramType.CGROUP_SOCK_ADDR,
        AttachType.CGROUP_INET4_CONNECT,
        "bpf_sock_addr",
        tuple(parse(_REDIRECT)),
        {"ports": ports},
        lines=(SourceLine(0, "redirect.py", 10, 5, "ctx = ..."), SourceLine(8, "redirect.py", 14, 5, "st = ...")),
    )
    drop = ProgramSpec("drop", ProgramType.XDP, AttachType.XDP, "xdp_md", tuple(parse(_DROP)), {})
    return CollectionSpec({"redirect": redirect, "drop": drop}, {"ports": ports})


@pytest.fixture(scope="session")
def object_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That collection as an ELF object."""
    path = tmp_path_factory.mktemp("objects") / "two.o"
    path.write_bytes(write_elf(collection()))
    return path
