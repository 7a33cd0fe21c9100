"""C declarations: what they look like, that they compile, and that the compiler's layout is the blob's."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from pybpfasm import btf
from pybpfasm.btf import Btf, BtfBuilder, BtfError, kinds

M, P = kinds.Member, kinds.Parameter
INT = kinds.Int("int", 4, 32, signed=True)
CHAR = kinds.Int("char", 1, 8)


def dumped(*records: kinds.Record, ids: list[int] | None = None) -> str:
    """The C text of these records."""
    builder = BtfBuilder()
    for record in records:
        builder.add(record)
    return Btf.parse(builder.encode()).dump_c(ids)


# A type behind the id 4 (after int, char and a pointer to int), and how a typedef of it reads.
DECLARATIONS: list[tuple[list[kinds.Record], str]] = [
    ([kinds.Ptr(3)], "int **t"),
    ([kinds.Const(3)], "int * const t"),
    ([kinds.Const(1)], "const int t"),
    ([kinds.Ptr(5), kinds.Const(6), kinds.Volatile(1)], "volatile const int *t"),
    ([kinds.Ptr(5), kinds.Const(3)], "int * const *t"),
    ([kinds.Array(1, 1, 3)], "int t[3]"),
    ([kinds.Array(5, 1, 2), kinds.Array(1, 1, 3)], "int t[2][3]"),
    ([kinds.Array(3, 1, 3)], "int *t[3]"),
    ([kinds.Ptr(5), kinds.Array(1, 1, 3)], "int (*t)[3]"),
    ([kinds.Array(5, 1, 0), kinds.Const(1)], "const int t[0]"),
    ([kinds.FuncProto(0)], "void t(void)"),
    ([kinds.Ptr(5), kinds.FuncProto(1, (P("a", 1), P("b", 3)))], "int (*t)(int a, int *b)"),
    ([kinds.Ptr(5), kinds.FuncProto(3, (P("", 1), P("", 0)))], "int * (*t)(int, ...)"),
    ([kinds.Ptr(5), kinds.FuncProto(6, (P("", 0),)), kinds.Ptr(7), kinds.FuncProto(0)], "void (* (*t)(void))(void)"),
    ([kinds.Array(5, 1, 4), kinds.Ptr(6), kinds.FuncProto(0)], "void (*t[4])(void)"),
    ([kinds.Restrict(3)], "int * restrict t"),
    ([kinds.Ptr(5), kinds.TypeTag("user", 1)], 'int __attribute__((btf_type_tag("user"))) *t'),
    ([kinds.Ptr(5), kinds.TypeTag("noderef", 1, attribute=True)], "int __attribute__((noderef)) *t"),
    ([kinds.Float("double", 8)], "double t"),
    ([kinds.Ptr(0)], "void *t"),
]


@pytest.mark.parametrize(("records", "text"), DECLARATIONS, ids=[text for _, text in DECLARATIONS])
def test_a_declaration_reads_as_in_c(records: list[kinds.Record], text: str, compiled: Callable[[str], str]) -> None:
    """Pointers, arrays and functions, in the order that C has them; clang takes it."""
    typedef = 4 + len(records)
    found = dumped(INT, CHAR, kinds.Ptr(1), *records, kinds.Typedef("t", 4), ids=[typedef])
    assert found == f"typedef {text};\n\n"
    assert compiled(found) == ""


STRUCTS: list[tuple[str, list[kinds.Record], str]] = [
    ("nothing", [kinds.Struct("s", 0)], "struct s {};\n\n"),
    ("padding", [kinds.Struct("s", 8)], "struct s {\n\tlong: 64;\n};\n\n"),
    (
        "natural",
        [kinds.Struct("s", 8, (M("c", 2, 0), M("i", 1, 32)))],
        "struct s {\n\tchar c;\n\tint i;\n};\n\n",
    ),
    (
        "packed",
        [kinds.Struct("s", 5, (M("c", 2, 0), M("i", 1, 8)))],
        "struct s {\n\tchar c;\n\tint i;\n} __attribute__((packed));\n\n",
    ),
    (
        "bit fields",
        [kinds.Struct("s", 8, (M("a", 1, 0, 3), M("b", 1, 5, 4), M("c", 1, 32, 1)), kind_flag=True)],
        "struct s {\n\tint a: 3;\n\tchar: 2;\n\tint b: 4;\n\tint: 23;\n\tint c: 1;\n};\n\n",
    ),
    (
        "anonymous",
        [
            kinds.Union("", 4, (M("i", 1, 0), M("", 5, 0))),
            kinds.Struct("", 4, (M("c", 2, 0), M("d", 2, 24))),
            kinds.Struct("s", 8, (M("", 4, 0), M("named", 5, 32))),
        ],
        (
            "struct s {\n\tunion {\n\t\tint i;\n"
            "\t\tstruct {\n\t\t\tchar c;\n\t\t\tshort: 0;\n\t\t\tchar: 8;\n\t\t\tchar d;\n\t\t};\n\t};\n"
            "\tstruct {\n\t\tchar c;\n\t\tshort: 0;\n\t\tchar: 8;\n\t\tchar d;\n\t} named;\n};\n\n"
        ),
    ),
    (
        "each in need of the other",
        [kinds.Struct("a", 8, (M("b", 5, 0),)), kinds.Ptr(6), kinds.Struct("b", 8, (M("a", 7, 0),)), kinds.Ptr(4)],
        "struct b;\n\nstruct a {\n\tstruct b *b;\n};\n\nstruct b {\n\tstruct a *a;\n};\n\n",
    ),
    (
        "itself",
        [kinds.Struct("list", 8, (M("next", 5, 0),)), kinds.Ptr(4)],
        "struct list {\n\tstruct list *next;\n};\n\n",
    ),
    (
        "what it embeds",
        [kinds.Struct("outer", 4, (M("inner", 5, 0),)), kinds.Struct("inner", 4, (M("i", 1, 0),))],
        "struct inner {\n\tint i;\n};\n\nstruct outer {\n\tstruct inner inner;\n};\n\n",
    ),
    (
        "a function that takes itself",
        [
            kinds.Typedef("f", 5),
            kinds.Ptr(6),
            kinds.FuncProto(0, (P("", 7),)),
            kinds.Ptr(8),
            kinds.Struct("s", 8, (M("f", 4, 0),)),
        ],
        "struct s;\n\ntypedef void (*f)(struct s *);\n\nstruct s {\n\tf f;\n};\n\n",
    ),
    ("a declaration", [kinds.Fwd("f"), kinds.Fwd("g", union=True)], "struct f;\n\nunion g;\n\n"),
    (
        "enums",
        [
            kinds.Enum("e", 4, (kinds.Enumerator("A", -1),), signed=True),
            kinds.Enum64("w", 8, (kinds.Enumerator("B", 1 << 63),)),
            kinds.Enum64("n", 8, (kinds.Enumerator("C", 1),)),
            kinds.Enum("b", 1, (kinds.Enumerator("D", 1),)),
        ],
        (
            "enum e {\n\tA = -1,\n};\n\nenum w {\n\tB = 9223372036854775808ULL,\n};\n\n"
            "enum n {\n\tC = 1ULL,\n} __attribute__((mode(word)));\n\n"
            "enum b {\n\tD = 1,\n} __attribute__((mode(byte)));\n\n"
        ),
    ),
    (
        "an enum within",
        [kinds.Enum("", 4, (kinds.Enumerator("A", 0),)), kinds.Struct("s", 4, (M("e", 4, 0),))],
        "struct s {\n\tenum {\n\t\tA = 0,\n\t} e;\n};\n\n",
    ),
    (
        "names that clash",
        [
            kinds.Struct("s", 0),
            kinds.Struct("s", 4),
            kinds.Typedef("s", 5),
            kinds.Enum("e", 4, (kinds.Enumerator("s", 1),)),
            kinds.Fwd("s"),
        ],
        (
            "struct s {};\n\nstruct s___2 {\n\tint: 32;\n};\n\n"
            "typedef struct s___2 s;\n\nenum e {\n\ts___2 = 1,\n};\n\nstruct s;\n\n"
        ),
    ),
    (
        "what the compiler has",
        [kinds.Struct("__va_list_tag", 4), kinds.Array(4, 1, 1), kinds.Typedef("__builtin_va_list", 5)],
        "struct __va_list_tag {\n\tint: 32;\n};\n\n",
    ),
    ("an old list", [kinds.Typedef("__gnuc_va_list", 0)], "typedef __builtin_va_list __gnuc_va_list;\n\n"),
    (
        "Arm's integers",
        [kinds.Int("__Poly8_t", 1, 8), kinds.Typedef("poly8_t", 4)],
        "typedef unsigned char __Poly8_t;\n\ntypedef __Poly8_t poly8_t;\n\n",
    ),
    (
        "old bit fields",
        [kinds.Int("int", 4, 3), kinds.Struct("s", 4, (M("a", 4, 0),))],
        "struct s {\n\tint a: 3;\n};\n\n",
    ),
]


@pytest.mark.parametrize(("records", "text"), [each[1:] for each in STRUCTS], ids=[each[0] for each in STRUCTS])
def test_a_definition_reads_as_in_c(records: list[kinds.Record], text: str, compiled: Callable[[str], str]) -> None:
    """Structs, unions and enums with what they need before them; clang takes it."""
    found = dumped(INT, CHAR, kinds.Ptr(1), *records)
    assert found == text
    assert compiled(found) == ""


@pytest.mark.parametrize(
    ("records", "text"),
    [
        ([kinds.Struct("s", 4, (M("s", 1, 0),))], "type 1 contains itself"),
        ([kinds.Typedef("t", 1)], "more than 64 types refer one to another"),
        ([kinds.Const(1)], "more than 64 types refer one to another"),
        ([kinds.Struct("s", 4, (M("f", 2, 0),)), kinds.Func("f", 0)], "type 2 has no alignment: it is FUNC f"),
    ],
)
def test_what_has_no_text_is_refused(records: list[kinds.Record], text: str) -> None:
    """What C cannot say is an error."""
    with pytest.raises(BtfError, match=text):
        dumped(*records)


def assertions(read: Btf) -> list[str]:
    """For each struct and union whose name is its only: what clang is to find for its size and its fields' offsets."""
    tags = (kinds.Struct, kinds.Union, kinds.Enum, kinds.Enum64)
    named: dict[str, list[kinds.Record]] = {}
    for _, record in read:
        if isinstance(record, tags) and record.name:
            named.setdefault(record.name, []).append(record)
    lines = []
    for record, *others in named.values():
        if others or not isinstance(record, kinds.Struct | kinds.Union):
            continue
        tag = f"{'struct' if isinstance(record, kinds.Struct) else 'union'} {record.name}"
        lines.append(f'_Static_assert(sizeof({tag}) == {record.size}, "");')
        lines += [
            f'_Static_assert(__builtin_offsetof({tag}, {member.name}) * 8 == {member.bit_offset}, "");'
            for member in record.members
            if member.name and member.bit_size is None
        ]
    return lines


def test_the_whole_kernel_compiles_to_its_layout(
    kernel: Btf, kernel_header: str, compiled: Callable[[str], str]
) -> None:
    """clang takes the kernel's types, and agrees on each size and offset."""
    lines = assertions(kernel)
    assert len(lines) > 1000
    assert compiled("\n".join([kernel_header, *lines])) == ""


def test_the_whole_kernel_reads_as_bpftool_writes_it(bpftool: str, kernel_header: str) -> None:
    """Line by line, but for what docs/btf.md says: one-byte enums' attribute, sorting and kfuncs of later versions."""
    command = [bpftool, "btf", "dump", "file", "/sys/kernel/btf/vmlinux", "format", "c"]
    # Later versions sort, unless told this word, which 7.1 does not know.
    sorting = subprocess.run([*command, "unsorted"], capture_output=True, text=True, check=False)
    other = sorting if sorting.returncode == 0 else subprocess.run(command, capture_output=True, text=True, check=True)
    theirs = other.stdout.partition("#endif\n\n")[2].partition("#ifndef BPF_NO_PRESERVE_ACCESS_INDEX")[0]
    theirs = theirs.partition("/* BPF kfunc")[0]
    mode = " __attribute__((mode(byte)))"
    ours = kernel_header.replace(mode, "").splitlines()
    differing = [pair for pair in zip(ours, theirs.replace(mode, "").splitlines(), strict=False) if pair[0] != pair[1]]
    assert differing[:10] == []
    assert kernel_header.replace(mode, "").strip() == theirs.replace(mode, "").strip()


def test_a_few_types_come_with_what_they_need(kernel: Btf, compiled: Callable[[str], str]) -> None:
    """Asked for one type, the text stands alone, and is small."""
    text = kernel.dump_c([kernel.find("bpf_sock_addr", btf.Kind.STRUCT)])
    assert text.startswith("typedef unsigned char __u8;") or "struct bpf_sock_addr {" in text
    assert len(text) < 10_000
    assert compiled(text + '_Static_assert(__builtin_offsetof(struct bpf_sock_addr, user_port) == 24, "");') == ""


C_SAMPLE = """
typedef unsigned int u32;
struct odd { char a; int b : 3; unsigned long c : 40; short d; } __attribute__((packed));
struct wide { _Alignas(64) int x; char tail[]; };
struct fields { u32 a : 1, b : 7, : 0, c : 9; unsigned char d; _Bool e : 1; long f; int g : 31; };
union mix { struct fields f; struct odd o[3]; __int128 i; };
struct all { struct { int p; union { long q; void (*call)(struct all *, ...); }; }; union mix m; struct wide w; };
struct all all;
enum named { ONE = 1, BIG = 0x100000000 } named;
struct odd *odd;
int run(void *ctx) { return all.p + named + odd->a; }
"""


def places(read: Btf, name: str) -> list[tuple[str, int, int | None]]:
    """The members of a struct: name, offset and size in bits."""
    record = read.type(read.find(name, btf.Kind.STRUCT))
    assert isinstance(record, kinds.Struct)
    return [(member.name, member.bit_offset, member.bit_size) for member in record.members]


def test_what_clang_describes_comes_back_with_its_layout(
    sections: Callable[[str], tuple[bytes, bytes]], compiled: Callable[[str], str]
) -> None:
    """From C to BTF by clang, from BTF to C here, and back by clang: bit fields, packed, anonymous, aligned."""
    read = Btf.parse(sections(C_SAMPLE)[0])
    assert compiled("\n".join([read.dump_c(), *assertions(read)])) == ""
    assert read.field("fields.c").bit_size == 9
    assert read.field("all.q").byte_offset == 8
    assert read.field("all.m.o[2].d").byte_offset == 16 + 2 * 9 + 7
    again = Btf.parse(sections(read.dump_c() + "struct all all;\nint run(void *ctx) { return all.p; }\n")[0])
    for name in ("odd", "fields", "wide"):
        assert places(again, name) == places(read, name)


def test_bpftool_reads_what_is_built(bpftool: str, tmp_path: Path) -> None:
    """bpftool finds a built blob's types as they were meant."""
    builder = BtfBuilder()
    number = builder.type_id(btf.Struct("pair", 8, (btf.Member("x", btf.Int("int", 4, signed=True), 0),)))
    file = tmp_path / "raw"
    file.write_bytes(builder.encode())
    command = [bpftool, "btf", "dump", "file", str(file)]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert f"[{number}] STRUCT 'pair' size=8 vlen=1\n\t'x' type_id=1 bits_offset=0" in shown
