"""Whatever the bytes, the answer is a result or a BtfError, soon."""

import contextlib
import time
from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_btf_records import TABLE, blob

from pybpfasm.btf import (
    Btf,
    BtfBuilder,
    BtfError,
    CoreRelocation,
    CoreRelocationKind,
    Ext,
    FuncInfo,
    LineInfo,
    NotFoundError,
    SectionFuncInfo,
    SectionLineInfo,
    SectionRelocations,
    kinds,
)
from pybpfasm.btf import blob as blob_module
from pybpfasm.btf.section import TypeSection
from pybpfasm.btf.words import decode

M, P = kinds.Member, kinds.Parameter


def ask_everything(data: bytes, base: Btf | None = None) -> None:
    """Each method of a blob, for a few arguments."""
    with contextlib.suppress(BtfError):
        read = Btf.parse(data, base)
        for byteorder in ("little", "big"):
            with contextlib.suppress(BtfError):
                read.encode(byteorder)
        for ask in (
            lambda: len(read),
            lambda: list(read),
            read.dump_c,
            lambda: read.find("s"),
            lambda: read.find_all("a"),
        ):
            with contextlib.suppress(BtfError):
                ask()
        for number in range(60):
            for method in (
                read.type,
                read.name,
                read.kind,
                read.size_of,
                read.alignment_of,
                read.strip,
                read.value_type,
                read.string,
            ):
                with contextlib.suppress(BtfError):
                    method(number)
            for path in ("a", "a[1]", "a.b", "[3]"):
                with contextlib.suppress(BtfError):
                    read.field(path, within=number)
            with contextlib.suppress(BtfError):
                read.dump_c([number])


def one_of_each() -> bytes:
    """A blob with every kind, whose ids lead somewhere."""
    builder = BtfBuilder()
    for record, _, _ in TABLE:
        builder.add(record)
    return builder.encode()


def mutated(data: bytes) -> st.SearchStrategy[bytes]:
    """The data with a few bytes changed, and perhaps cut."""
    change = st.tuples(st.integers(0, len(data) - 1), st.integers(0, 255))

    def apply(changes: list[tuple[int, int]], end: int) -> bytes:
        held = bytearray(data)
        for at, value in changes:
            held[at] = value
        return bytes(held[:end])

    return st.builds(
        apply, st.lists(change, min_size=1, max_size=8), st.one_of(st.just(len(data)), st.integers(0, len(data)))
    )


BLOB = one_of_each()
SPLIT = BtfBuilder(Btf.parse(BLOB))
for each, _, _ in TABLE:
    SPLIT.add(each)
EXT = Ext(
    (SectionFuncInfo(1, (FuncInfo(0, 1),)),),
    (SectionLineInfo(1, (LineInfo(0, 1, 1, 1, 1), LineInfo(8, 1, 1, 2, 1))),),
    (SectionRelocations(1, (CoreRelocation(0, 1, 1, CoreRelocationKind.TYPE_SIZE),)),),
).encode()

FEW = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@FEW
@given(mutated(BLOB))
def test_a_changed_blob(data: bytes) -> None:
    """Bytes of a good blob changed: no other error, no endless loop."""
    ask_everything(data)


@FEW
@given(mutated(SPLIT.encode()))
def test_a_changed_split_blob(data: bytes) -> None:
    """Likewise on a base."""
    ask_everything(data, Btf.parse(BLOB))


@FEW
@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    """Any bytes behind a good header's start, and without one."""
    ask_everything(data)
    ask_everything(b"\x9f\xeb\x01\x00" + data)


@FEW
@given(st.lists(st.integers(0, 40) | st.integers(0, 20).map(lambda kind: kind << 24 | 1), max_size=80))
def test_any_words(words: list[int]) -> None:
    """Any words as types: ids and kinds in all places."""
    ask_everything(blob(words, b"\0a\0s\0b\0", "little"))


@FEW
@given(mutated(EXT) | st.binary(max_size=100))
def test_a_changed_ext_section(data: bytes) -> None:
    """What is read of .BTF.ext can be written; all else is a BtfError."""
    with contextlib.suppress(BtfError):
        Ext.parse(data).encode()


def deep() -> Iterator[tuple[str, list[kinds.Record]]]:
    """Types that are small as a blob and would be endless, or too deep, as a text or a tree."""
    yield "a struct in itself", [kinds.Struct("a", 4, (M("a", 1, 0), M("b", 1, 0)))]
    yield "an array of itself", [kinds.Array(1, 1, 1 << 31)]
    yield "a typedef of itself", [kinds.Typedef("a", 2), kinds.Const(1)]
    yield "a pointer to itself", [kinds.Ptr(1)]
    yield "a function of itself", [kinds.FuncProto(1, (P("a", 1), P("b", 1)))]
    yield "a long chain", [kinds.Const(number + 2) for number in range(5000)]
    yield "arrays of arrays", [kinds.Array(number + 2, 1, 0xFFFFFFFF) for number in range(5000)]
    yield "structs in structs", [kinds.Struct(f"a{n}", 4, (M("a", n + 2, 0), M("b", n + 2, 0))) for n in range(5000)]
    yield "nameless structs", [kinds.Struct("", 4, (M("", n + 2, 0), M("", n + 2, 0))) for n in range(60)]
    yield (
        "nameless pointers",
        [
            each
            for n in range(0, 60, 2)
            for each in (kinds.Struct("", 8, (M("", n + 2, 0), M("", n + 2, 0))), kinds.Ptr(n + 3))
        ],
    )
    yield "functions of functions", [kinds.FuncProto(n + 2, (P("a", n + 2), P("b", n + 2))) for n in range(60)]
    yield (
        "arrays and functions",
        [kinds.Array(n + 2, 1, 2) if n % 2 else kinds.FuncProto(n + 2, (P("a", n + 2),)) for n in range(500)],
    )
    yield (
        "typedefs of functions",
        [
            each
            for n in range(0, 60, 2)
            for each in (kinds.Typedef("a", n + 2), kinds.FuncProto(0, (P("", n + 3), P("", n + 3))))
        ],
    )
    yield "a hole of 4 GiB", [kinds.Struct("a", 0xFFFFFFFF)]
    yield "a long name", [kinds.Struct("a" * 4000, 4, tuple(M(f"m{n}", 2, 0) for n in range(1000))), kinds.Ptr(1)]


@pytest.mark.parametrize("records", [each[1] for each in deep()], ids=[each[0] for each in deep()])
def test_types_without_an_end(records: list[kinds.Record]) -> None:
    """Cycles, chains and sharing end soon, in a result or a BtfError."""
    builder = BtfBuilder()
    for record in records:
        builder.add(record)
    builder.add(kinds.Int("int", 4, 32))
    start = time.process_time()
    ask_everything(builder.encode())
    assert time.process_time() - start < 15


def test_names_are_not_read_again_and_again() -> None:
    """Many types whose names are the ends of one huge string: refused, not copied a million times."""
    words = [word for number in range(20_000) for word in (number + 1, 7 << 24, 0)]
    read = Btf.parse(blob(words, b"\0" + b"a" * 1_000_000 + b"\0", "little"))
    with pytest.raises(BtfError, match="is longer than 4096 bytes"):
        list(read)


def test_a_name_may_be_longer_than_any_kernel_takes() -> None:
    """Up to 4096 bytes are read."""
    builder = BtfBuilder()
    builder.add(kinds.Fwd("a" * 4096))
    builder.add(kinds.Fwd("a" * 4097))
    read = Btf.parse(builder.encode())
    assert len(read.name(1)) == 4096
    with pytest.raises(BtfError, match="BTF, byte 36: no name: BTF: string 4098 is longer than 4096 bytes"):
        read.name(2)


@pytest.mark.parametrize("ask", [lambda read: read.field("a.none"), lambda read: read.value_type(read.find("a"))])
def test_many_members_of_one_long_type(ask: Callable[[Btf], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """However many members a struct has, the long type that they share is decoded a few times only."""
    builder = BtfBuilder()
    number = builder.add(kinds.Int("int", 4, 32))
    inner = builder.add(kinds.Struct("b", 4, tuple(M(f"m{each}", number, 0) for each in range(300))))
    builder.add(kinds.Struct("a", 4, tuple(M("", inner, 0) for _ in range(300))))
    decoded: list[int] = []

    def counted(section: TypeSection, start: int) -> kinds.Record:
        record = decode(section, start)
        if isinstance(record, kinds.Struct):
            decoded.append(start)
        return record

    monkeypatch.setattr(blob_module, "decode", counted)
    with contextlib.suppress(NotFoundError):
        ask(Btf.parse(builder.encode()))
    assert max(decoded.count(start) for start in set(decoded)) < 20


def test_a_name_that_all_members_share_is_held_once() -> None:
    """A long name that a thousand members have costs memory once."""
    builder = BtfBuilder()
    number = builder.add(kinds.Int("int", 4, 32))
    struct = builder.add(kinds.Struct("s", 4, tuple(M("x" * 4000, number, 0) for _ in range(1000))))
    record = Btf.parse(builder.encode()).type(struct)
    assert isinstance(record, kinds.Struct)
    assert len({id(member.name) for member in record.members}) == 1
