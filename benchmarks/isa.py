"""How many instructions a second pybpfasm.isa builds, encodes, decodes, prints and reads.

python benchmarks/isa.py [--objects FOLDER] [--rounds 9]

The stream is the mesh's programs, or the code of the BPF objects in a folder, repeated. Numbers are medians of several
rounds, in CPU time, so that other work on the machine counts little. Beside them: ebpfcat's DSL, if it can be imported,
and llvm-objdump, if it is on PATH, less its start.
"""

import argparse
import importlib.util
import random
import re
import resource
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parent.parent))

from pybpfasm import isa
from pybpfasm.isa import Alu, Instruction, Jump, Label

AT_LEAST = 30_000


class Row(NamedTuple):
    """One line of the table: what was done, how often a second, and what is wanted (both in millions)."""

    name: str
    rate: float
    goal: float | None = None


# --- what is measured -------------------------------------------------------------------------------------------------


def build() -> list[Instruction]:
    """A program as people write it: 24 instructions, five labels' uses, four labels."""
    return isa.resolve_labels([
        isa.mov(6, 1),
        isa.load(4, 7, 6, 24),
        isa.jump_if_imm(Jump.JNE, 7, 6, "pass"),
        isa.load(4, 8, 6, 4),
        isa.to_big_endian(8, 32),
        isa.mov(1, 8),
        isa.alu_imm(Alu.AND, 1, -16777216, bits=32),
        isa.jump_if_imm(Jump.JEQ, 1, 0x7F000000, "pass", bits=32),
        isa.store(4, 10, -8, 8),
        isa.store_imm(4, 10, -4, 0),
        isa.load_map(1, "pods"),
        isa.mov(2, 10),
        isa.alu_imm(Alu.ADD, 2, -8),
        isa.call(1),
        isa.jump_if_imm(Jump.JEQ, 0, 0, "refuse"),
        isa.load(8, 3, 0, 8),
        isa.alu_imm(Alu.ADD, 3, 1),
        isa.store(8, 0, 8, 3),
        isa.jump("pass"),
        Label("refuse"),
        isa.mov_imm(0, 0),
        isa.jump("out"),
        Label("pass"),
        isa.mov_imm(0, 1),
        Label("out"),
        isa.exit_program(),
        Label("end"),
    ])  # fmt: skip


def mesh() -> list[Instruction]:
    """The mesh's programs, one after the other; what is not resolved becomes 0."""
    from programs import connect, getsockopt, redirect, sockops
    from pybpfasm.compiler import compile_program
    from pybpfasm.kernel import named_target

    stream: list[Instruction] = []
    for module in (connect, getsockopt, redirect, sockops):
        program: Any = next(each for each in vars(module).values() if type(each).__name__ == "Program")
        stream += [
            each._replace(symbol=None) for each in compile_program(program, target=named_target("6.1")).instructions
        ]
    return stream


def objects(folder: Path) -> list[Instruction]:
    """The code of all BPF objects in a folder."""
    from elftools.elf.elffile import ELFFile

    stream: list[Instruction] = []
    for path in sorted(folder.rglob("*.o")):
        with path.open("rb") as file:
            elf = ELFFile(file)
            if elf["e_machine"] == "EM_BPF":
                code = (
                    each.data()
                    for each in elf.iter_sections()
                    if each["sh_type"] == "SHT_PROGBITS" and each["sh_flags"] & 4
                )
                order: isa.ByteOrder = "little" if elf.little_endian else "big"
                stream += [each for data in code for each in isa.decode(data, order)]
    return stream


def different_lines() -> list[Instruction]:
    """Instructions of the common kinds with random operands: hardly a line of their text comes twice."""
    pick = random.Random(1).randrange  # noqa: S311 - numbers to measure with
    kinds: list[Callable[[], Instruction]] = [
        lambda: isa.mov(pick(10), pick(10)),
        lambda: isa.load((1, 2, 4, 8)[pick(4)], pick(10), pick(11), pick(-512, 512)),
        lambda: isa.alu_imm(Alu.ADD, pick(10), pick(-(1 << 20), 1 << 20)),
        lambda: isa.store(8, 10, pick(-512, 0), pick(10)),
        lambda: isa.call(pick(1, 200)),
        lambda: Instruction(0x15, pick(10), 0, pick(-512, 512), pick(1 << 20)),
        lambda: isa.load_imm64(pick(10), pick(1 << 64)),
        lambda: Instruction(0x05, 0, 0, pick(-512, 512)),
    ]
    return [kinds[number % len(kinds)]() for number in range(AT_LEAST)]


# --- measuring --------------------------------------------------------------------------------------------------------


def rate(work: Callable[[], object], count: int, rounds: int) -> float:
    """Millions a second, the median of the rounds."""
    work()
    took = []
    for _ in range(rounds):
        start = time.process_time()
        work()
        took.append(time.process_time() - start)
    return count / statistics.median(took) / 1e6


def again(work: Callable[[], object], times: int) -> None:
    """Do something several times."""
    for _ in range(times):
        work()


def our_rows(stream: list[Instruction], rounds: int) -> list[Row]:
    """All that the package does."""
    many = AT_LEAST // len(build())
    rows = [Row("build with labels", rate(lambda: again(build, many), many * len(build()), rounds), 1.0)]
    count = len(stream)
    code, big = isa.encode(stream), isa.encode(stream, "big")
    rows += [
        Row("encode", rate(lambda: isa.encode(stream), count, rounds), 2.0),
        Row("encode, big endian", rate(lambda: isa.encode(stream, "big"), count, rounds), 2.0),
        Row("decode", rate(lambda: isa.decode(code), count, rounds), 1.0),
        Row("decode, big endian", rate(lambda: isa.decode(big, "big"), count, rounds), 1.0),
    ]
    return rows + [row for syntax in ("kernel", "llvm") for row in text_rows(stream, syntax, rounds)]


def text_rows(stream: list[Instruction], syntax: isa.Syntax, rounds: int) -> list[Row]:
    """Printing and reading in one syntax."""
    text, listing = isa.format(stream, syntax), "\n".join(isa.listing(stream, syntax))
    different = isa.format(different_lines(), syntax)
    count = len(stream)
    return [
        Row(f"print, {syntax}", rate(lambda: isa.format(stream, syntax), count, rounds), 0.2),
        Row(f"read, {syntax}", rate(lambda: isa.parse(text, syntax), count, rounds), 0.2),
        Row(f"read, {syntax}, numbered", rate(lambda: isa.parse(listing, syntax), count, rounds), 0.2),
        Row(f"read, {syntax}, no line twice", rate(lambda: isa.parse(different, syntax), AT_LEAST, rounds), 0.2),
    ]


def ebpfcat_row(rounds: int) -> Row | None:
    """The same kind of program with ebpfcat's DSL, assembled."""
    if importlib.util.find_spec("ebpfcat") is None:
        return None
    from ebpfcat.bpf import ProgType  # type: ignore[import-not-found]  # not a dependency
    from ebpfcat.ebpf import EBPF, FuncId  # type: ignore[import-not-found]  # not a dependency

    def once() -> int:
        e = EBPF(ProgType.XDP, "GPL")
        e.owners = set(range(11))
        e.r6 = e.r1
        e.r7 = e.mI[e.r6 + 24]
        with e.r7 == 6:
            e.r8 = e.mI[e.r6 + 4]
            e.mI[e.r10 - 8] = e.r8
            e.mI[e.r10 - 4] = 0
            e.r2 = e.r10 - 8
            e.call(FuncId.get_prandom_u32)
            with e.r0 != 0:
                e.r3 = e.mQ[e.r0 + 8]
                e.r3 += 1
                e.mQ[e.r0 + 8] = e.r3
        e.r0 = 1
        e.exit()
        e.assemble()
        return len(e.opcodes)

    many = max(1, AT_LEAST // 10 // once())
    return Row("ebpfcat: build and assemble", rate(lambda: again(once, many), many * once(), rounds))


def objdump_row(stream: list[Instruction], rounds: int) -> Row | None:
    """llvm-objdump printing the same stream."""
    tool = next((name for name in ("llvm-objdump-19", "llvm-objdump") if shutil.which(name)), None)
    if tool is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        one, all_ = Path(folder, "one.o"), Path(folder, "all.o")
        one.write_bytes(relocatable(isa.encode(stream[-1:])))
        all_.write_bytes(relocatable(isa.encode(stream)))
        start = statistics.median(child_seconds(tool, one) for _ in range(rounds))
        took = statistics.median(child_seconds(tool, all_) for _ in range(rounds))
    return Row(f"{tool}: print", len(stream) / max(took - start, 1e-6) / 1e6)


def child_seconds(tool: str, path: Path) -> float:
    """CPU seconds that a run of the tool takes."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([tool, "-d", "--mcpu=v4", "--no-show-raw-insn", str(path)], stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def relocatable(code: bytes) -> bytes:
    """An ELF object for BPF with one section of code."""
    names = b"\0.text\0.shstrtab\0"
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    header = struct.pack("<HHIQQQIHHHHHH", 1, 247, 1, 0, 0, 64 + len(code) + len(names), 0, 64, 0, 0, 64, 3, 2)
    text = struct.pack("<IIQQQQIIQQ", 1, 1, 6, 0, 64, len(code), 0, 0, 8, 0)
    strings = struct.pack("<IIQQQQIIQQ", 7, 3, 0, 0, 64 + len(code), len(names), 0, 0, 1, 0)
    return ident + header + code + names + bytes(64) + text + strings


# --- the table --------------------------------------------------------------------------------------------------------


def show(rows: list[Row]) -> None:
    """Print them, with what is wanted."""
    print(f"{'million instructions a second':32} {'is':>8} {'wanted':>8}")
    for row in rows:
        goal = f"{row.goal:8.1f}{'' if row.rate >= row.goal else '  missed'}" if row.goal is not None else ""
        print(f"{row.name:32} {row.rate:8.2f} {goal}")


def ratio(what: str, ours: list[Row], names: list[str], other: Row | None, missing: str) -> None:
    """How many times as fast as the other the named rows are, one after the other."""
    if other is None:
        print(f"{what}: {missing}")
        return
    together = 1 / sum(1 / row.rate for row in ours if row.name in names)
    print(f"{what}: {together / other.rate:.2f} times {other.name} ({other.rate:.2f} million a second)")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=re.split(r"\n\n", __doc__ or "")[0])
    parser.add_argument("--objects", type=Path, help="a folder with BPF objects, whose code is the stream")
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    code = objects(options.objects) if options.objects else mesh()
    if not code:
        parser.error(f"no BPF objects in {options.objects}")
    stream = code * -(-AT_LEAST // len(code))
    print(f"{len(code)} instructions, {len(stream)} when repeated; Python {sys.version.split()[0]}")
    rows = our_rows(stream, options.rounds)
    show(rows)
    ratio(
        "build and encode",
        rows,
        ["build with labels", "encode"],
        ebpfcat_row(options.rounds),
        "ebpfcat cannot be imported",
    )
    ratio("print, llvm", rows, ["print, llvm"], objdump_row(stream, options.rounds), "llvm-objdump is not on PATH")


if __name__ == "__main__":
    main()
