"""A coverage-guided fuzzer of everything that reads foreign bytes: it must end in a result or in a `BpfError`.

    pip install '.[fuzz]'
    python -m tools.fuzz decode|parse|btf|ext|elf --runs 200000 [--corpus FOLDER] [--seconds N]

Seeds are real objects (all ELF files below the folder; without one, objects that are made here). Inputs are mutated
with their structure in mind: a field of a header or a table, a whole section, an instruction, a type, a line. An input
that breaks the rule is written to crash-… in the folder `build/fuzz`, and the exit status is 1.
"""

import argparse
import random
import struct
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import atheris

from pybpfasm.errors import BpfError

with atheris.instrument_imports():
    from pybpfasm import btf, interop, isa
    from pybpfasm.btf import ext  # noqa: F401 - instrumented
    from pybpfasm.isa import text  # noqa: F401 - instrumented
    from pybpfasm.isa.text import kernel, llvm, ubpf  # noqa: F401 - instrumented

# An input may take so long for each of its bytes, and a little besides: what grows faster than its input shows here.
SECONDS_BYTE = 0.0004
SECONDS_BESIDES = 2.0
CRASHES = Path("build", "fuzz")

# Short inputs are tried quickly; a fault that takes a long one is seldom.
LONGEST_INPUT = 8192
SEED_CODE_BYTES = 8 * 48

Mutate = Callable[[bytes, random.Random], bytes]


SYNTAXES: tuple[isa.Syntax, ...] = ("kernel", "llvm")


class BrokenRuleError(Exception):
    """Something of ours is wrong."""


def check_decode(data: bytes) -> None:
    """Decoded instructions encode to the same bytes, and print in both syntaxes as what parses to the same."""
    for byteorder in ("little", "big"):
        try:
            instructions = isa.decode(data, byteorder)
        except BpfError:
            continue
        if isa.encode(instructions, byteorder) != data:
            raise BrokenRuleError("encode(decode(b)) is not b")
        for syntax in SYNTAXES:
            if isa.parse(isa.format(instructions, syntax), syntax) != instructions:
                raise BrokenRuleError(f"parse(format(x)) is not x in the syntax {syntax}")


def check_parse(data: bytes) -> None:
    """Any text is parsed or refused in each syntax."""
    source = data.decode("utf-8", "replace")
    for syntax in (*SYNTAXES, "ubpf"):
        try:
            instructions = isa.parse(source, syntax)
        except BpfError:
            continue
        for each in instructions:
            isa.format_instruction(each)


def check_btf(data: bytes) -> None:
    """Types are read, looked at in each way, and written."""
    try:
        types = btf.Btf.parse(data)
        _look_at(types)
        types.encode()
    except BpfError:
        return


def _look_at(types: btf.Btf) -> None:
    for number in range(min(len(types), 200)):
        for look in (types.type, types.size_of, types.alignment_of, types.strip, types.value_type):
            try:
                look(number)
            except BpfError:
                continue
    for path in ("task_struct.mm", "a.b[1].c", "x"):
        try:
            types.field(path)
        except BpfError:
            continue
    try:
        types.dump_c()
    except BpfError:
        return


def check_ext(data: bytes) -> None:
    """.BTF.ext is read and written."""
    try:
        btf.Ext.parse(data).encode()
    except BpfError:
        return


def check_elf(data: bytes) -> None:
    """An object is read; what is read can be written, and read again."""
    try:
        collection = interop.read_elf(data)
    except BpfError:
        return
    try:
        written = interop.write_elf(collection)
    except BpfError:
        return
    interop.read_elf(written)


CHECKS: dict[str, Callable[[bytes], None]] = {
    "decode": check_decode,
    "parse": check_parse,
    "btf": check_btf,
    "ext": check_ext,
    "elf": check_elf,
}


# --- mutations --------------------------------------------------------------------------------------------------------

_EDGES = (
    0,
    1,
    2,
    3,
    4,
    7,
    8,
    15,
    16,
    24,
    127,
    128,
    255,
    256,
    0x7FFF,
    0x8000,
    0xFFFF,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFF,
)


def set_word(data: bytes, rng: random.Random) -> bytes:
    """Set an aligned field of 1, 2, 4 or 8 bytes to a number at an edge, or near what it is."""
    width = rng.choice((1, 2, 4, 4, 4, 8))
    if len(data) < width:
        return data
    at = rng.randrange(0, len(data) - width + 1, min(width, 4))
    old = int.from_bytes(data[at : at + width], "little")
    new = rng.choice((rng.choice(_EDGES), old + rng.choice((-8, -1, 1, 4, 8)), len(data), rng.getrandbits(width * 8)))
    return data[:at] + (new % (1 << width * 8)).to_bytes(width, "little") + data[at + width :]


def move_block(data: bytes, rng: random.Random) -> bytes:
    """Copy, drop or double a run of slots."""
    if len(data) < 16:
        return data + bytes(8)
    start = rng.randrange(0, len(data), 8)
    block = data[start : start + rng.choice((8, 8, 16, 64, 256))]
    where = rng.randrange(0, len(data), 8)
    return rng.choice(
        (
            data[:start] + data[start + len(block) :],
            data[:where] + block + data[where:],
            data[:where] + block + data[where + len(block) :],
        )
    )


def cut(data: bytes, rng: random.Random) -> bytes:
    """Cut the end off."""
    return data[: rng.randrange(len(data) + 1)]


def in_section(data: bytes, rng: random.Random) -> bytes:
    """Mutate one section of an ELF object, or one field of its headers."""
    if len(data) < 64 or data[:4] != b"\x7fELF":
        return set_word(data, rng)
    order = "<" if data[5] == 1 else ">"
    (table,) = struct.unpack_from(f"{order}Q", data, 40)
    (count,) = struct.unpack_from(f"{order}H", data, 60)
    if not count or table + count * 64 > len(data):
        return set_word(data, rng)
    header = table + rng.randrange(count) * 64
    if rng.random() < 0.4:
        part = set_word(data[header : header + 64], rng)
        return data[:header] + part + data[header + 64 :]
    offset, size = struct.unpack_from(f"{order}QQ", data, header + 24)
    if not 0 < size <= 1 << 20 or offset + size > len(data):
        return set_word(data, rng)
    part = rng.choice((set_word, set_word, instruction))(data[offset : offset + size], rng)
    return data[:offset] + part[:size].ljust(size, b"\0") + data[offset + size :]


def instruction(data: bytes, rng: random.Random) -> bytes:
    """Put an instruction of some kind into a slot."""
    if len(data) < 8:
        return bytes(8)
    at = rng.randrange(0, len(data) - 7, 8)
    opcode = rng.randrange(256)
    slot = struct.pack(
        "<BBhi", opcode, rng.getrandbits(8), rng.choice((0, 1, -1, 8, 16, 32)), rng.choice((0, 1, 16, 0x50))
    )
    return data[:at] + slot + data[at + 8 :]


_TOKENS = (
    "r0", "r10", "r11", "w3", "=", "+=", "s>>=", "*(u32 *)(r1 +4)", "*(u64 *)(r10 - 8)", "if", "goto", "pc+1", "+1",
    "exit", "call", "lock", "0x", "-", "0xffffffffffffffff", "ll", "map[", "]", "[0]+8", ":", "label:", "12:",
    "(b7)", ";", "#", "%r1", ",", "[%r1+2]", "<", ">", "atomic_fetch_add(", "bpf_map_lookup_elem#1", "\n", "\r\n",
    "\t", "\0", "ldxw", "mov32",
)  # fmt: skip


def token(data: bytes, rng: random.Random) -> bytes:
    """Put a word of the languages somewhere, or take a line out or twice."""
    lines = data.split(b"\n")
    line = rng.randrange(len(lines))
    if rng.random() < 0.2:
        lines[line : line + 1] = [] if rng.random() < 0.5 else [lines[line]] * 2
    else:
        at = rng.randrange(len(lines[line]) + 1)
        lines[line] = lines[line][:at] + rng.choice(_TOKENS).encode() + lines[line][at + rng.choice((0, 0, 1, 3)) :]
    return b"\n".join(lines)


MUTATIONS: dict[str, Sequence[Mutate]] = {
    "decode": (instruction, instruction, set_word, move_block),
    "parse": (token, token, token, cut),
    "btf": (set_word, set_word, move_block, cut),
    "ext": (set_word, set_word, move_block, cut),
    "elf": (in_section, in_section, in_section, set_word, move_block, cut),
}


# --- seeds ------------------------------------------------------------------------------------------------------------


def seeds(target: str, corpus: Path | None) -> list[bytes]:
    """Small real inputs of a target."""
    objects = [path.read_bytes() for path in _objects(corpus)] if corpus else []
    objects = [each for each in objects if len(each) <= 64 * 1024] or [_own_object()]
    if target == "elf":
        return [each for each in objects if len(each) <= LONGEST_INPUT] or objects[:1]
    found: list[bytes] = []
    for each in objects:
        found += _parts(target, each)
    return [each for each in found if each] or [bytes(64)]


def _objects(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix in (".o", ".elf") and path.is_file())


def _own_object() -> bytes:
    from merbridge.datapath.collection import DatapathSettings, collection

    return interop.write_elf(collection(DatapathSettings()))


def _parts(target: str, data: bytes) -> list[bytes]:
    try:
        found = interop.ElfObject.parse(data)
    except BpfError:
        return []
    sections = {each.name: each for each in found.sections}
    if target in ("btf", "ext"):
        name = {"btf": ".BTF", "ext": ".BTF.ext"}[target]
        return [sections[name].data] if name in sections and len(sections[name].data) <= LONGEST_INPUT else []
    code = [each.data for each in found.sections if each.executable and each.data]
    if target == "decode":
        return [each[:SEED_CODE_BYTES] for each in code]
    texts: list[bytes] = []
    for each in code:
        try:
            instructions = isa.decode(each[: SEED_CODE_BYTES // 2])
        except BpfError:
            continue
        texts += [isa.format(instructions, syntax).encode() for syntax in SYNTAXES]
    return texts


# --- running ----------------------------------------------------------------------------------------------------------


class Fuzzer:
    """Runs one target's check on inputs, and keeps the first that breaks the rule."""

    def __init__(self, target: str, runs: int) -> None:
        self._check = CHECKS[target]
        self._mutations = MUTATIONS[target]
        self._target = target
        self._runs = runs
        self.count = 0

    def one(self, data: bytes) -> None:
        """Check one input."""
        self.count += 1
        started = time.process_time()
        try:
            self._check(data)
        except BaseException:
            self._keep(data)
            raise
        taken = time.process_time() - started
        if taken > SECONDS_BESIDES + SECONDS_BYTE * len(data):
            self._keep(data)
            raise TimeoutError(f"{len(data)} bytes took {taken:.1f} s")
        if self.count % 50_000 == 0 or self.count == self._runs:
            print(f"{self._target}: {self.count} inputs, each a result or an error of ours", flush=True)

    def mutate(self, data: bytes, max_size: int, seed: int) -> bytes:
        """An input made of another; a few changes at once."""
        rng = random.Random(seed)  # noqa: S311 - reproducible numbers are wanted
        if rng.random() < 0.1:
            return bytes(atheris.Mutate(data, max_size))
        for _ in range(rng.choice((1, 1, 2, 4))):
            data = rng.choice(self._mutations)(data, rng)
        return data[:max_size]

    def _keep(self, data: bytes) -> None:
        CRASHES.mkdir(parents=True, exist_ok=True)
        path = CRASHES / f"crash-{self._target}-{self.count}"
        path.write_bytes(data)
        print(f"{self._target}: input {self.count} breaks the rule, see {path}", flush=True)


def main(arguments: Sequence[str]) -> None:
    """Fuzz one target."""
    parser = argparse.ArgumentParser(prog="python -m tools.fuzz", description=__doc__.splitlines()[0])
    parser.add_argument("target", choices=sorted(CHECKS))
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--seconds", type=int, default=3600, help="end after so long (default 3600)")
    parser.add_argument("--corpus", type=Path, help="folder with ELF objects to begin with")
    options = parser.parse_args(arguments)
    fuzzer = Fuzzer(options.target, options.runs)
    folder = CRASHES / f"seeds-{options.target}"
    folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds(options.target, options.corpus)):
        (folder / f"{number:05}").write_bytes(seed)
    limits = [f"-runs={options.runs}", f"-max_total_time={options.seconds}", f"-max_len={LONGEST_INPUT}"]
    settings = [sys.argv[0], "-verbosity=0", f"-artifact_prefix={CRASHES}/", *limits, str(folder)]
    atheris.Setup(settings, fuzzer.one, custom_mutator=fuzzer.mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1:])
