"""CO-RE without a compiler: types of an object and of a target built here, each kind of relocation resolved."""

import pytest

from pybpfasm import btf
from pybpfasm.btf import Btf, BtfBuilder, CoreRelocation, kinds
from pybpfasm.btf import CoreRelocationKind as K
from pybpfasm.interop import ElfError
from pybpfasm.interop.core import Resolver
from pybpfasm.interop.externs import essential_name
from pybpfasm.isa import Alu, ByteOrder, Instruction, alu, load, load_imm64, load_signed, mov_imm, store, store_imm

U8, U16, U32, U64 = (btf.Int(f"u{size * 8}", size) for size in (1, 2, 4, 8))
S32 = btf.Int("int", 4, signed=True)
POISON = Instruction(0x85, imm=0xBAD2310)


def struct(name: str, size: int, *members: tuple[str, btf.Type, int]) -> btf.Struct:
    """A struct; offsets in bytes."""
    return btf.Struct(name, size, tuple(btf.Member(*each) for each in members))


class Case:
    """A type of an object and types of a target, with the relocations of instructions between them."""

    def __init__(self, local: btf.Type, *target: btf.Type, byteorder: ByteOrder = "little") -> None:
        self._local = BtfBuilder()
        self._type_id = self._local.type_id(local)
        builder = BtfBuilder()
        builder.type_id(btf.Int("filler", 8))
        self.target_ids = [builder.type_id(each) for each in target]
        self._target: Btf | None = Btf.parse(builder.encode(byteorder))
        self._byteorder: ByteOrder = byteorder

    def without_target(self) -> "Case":
        """The same, with no target."""
        self._target = None
        return self

    def resolve(self, kind: K, access: str, instruction: Instruction) -> tuple[Instruction, ...]:
        """The instruction, relocated."""
        relocation = CoreRelocation(0, self._type_id, self._local.string_offset(access), kind)
        resolver = Resolver(Btf.parse(self._local.encode(self._byteorder)), self._target)
        return resolver.resolve(instruction, relocation)

    def number(self, kind: K, access: str, local: int) -> int:
        """What the relocation makes of `local`, in a move."""
        (instruction,) = self.resolve(kind, access, mov_imm(1, local))
        assert instruction.opcode == mov_imm(1, 0).opcode
        return instruction.imm


LOCAL = struct("s", 16, ("a", U32, 0), ("b", U64, 8))
MOVED = struct("s", 40, ("b", U64, 16), ("x", U64, 0), ("a", U32, 32))


def test_offsets_by_the_instructions_form() -> None:
    """An offset goes into an immediate, into loads and stores, and into ld_imm64."""
    case = Case(LOCAL, MOVED)
    offset = K.FIELD_BYTE_OFFSET
    assert case.resolve(offset, "0:1", mov_imm(1, 8)) == (mov_imm(1, 16),)
    assert case.resolve(offset, "0:1", load(8, 1, 2, 8)) == (load(8, 1, 2, 16),)
    assert case.resolve(offset, "0:1", store(8, 1, 8, 2)) == (store(8, 1, 16, 2),)
    assert case.resolve(offset, "0:1", store_imm(8, 1, 8, 5)) == (store_imm(8, 1, 16, 5),)
    assert case.resolve(offset, "0:1", load_imm64(1, 8)) == (load_imm64(1, 16),)
    assert case.resolve(offset, "1:1", mov_imm(1, 24)) == (mov_imm(1, 56),)


def test_questions_about_a_field() -> None:
    """Size, existence, sign and shifts are the target's."""
    local = struct("s", 8, ("a", U32, 0), ("b", S32, 4))
    target = struct("s", 32, ("b", btf.Int("s16", 2, signed=True), 0), ("a", U64, 24))
    case = Case(local, target)
    assert case.number(K.FIELD_BYTE_SIZE, "0:0", 4) == 8
    assert case.number(K.FIELD_EXISTS, "0:0", 1) == 1
    assert case.number(K.FIELD_SIGNED, "0:1", 1) == 1
    assert case.number(K.FIELD_SIGNED, "0:0", 0) == 0
    assert case.number(K.FIELD_LSHIFT_U64, "0:1", 32) == 48
    assert case.number(K.FIELD_RSHIFT_U64, "0:1", 32) == 48


@pytest.mark.parametrize(("byteorder", "left"), [("little", 64 - 5 - 4), ("big", 32 + 5)])
def test_bit_fields(byteorder: ByteOrder, left: int) -> None:
    """A bit field's shifts count from the integer that it is loaded by; the object's own numbers are not compared."""
    member = btf.Member("f", U32, 0, 1, 3)
    local = btf.Struct("s", 4, (member,))
    target = btf.Struct("s", 12, (btf.Member("f", U32, 8, 5, 4),))
    case = Case(local, target, byteorder=byteorder)
    assert case.number(K.FIELD_BYTE_OFFSET, "0:0", 77) == 8
    assert case.number(K.FIELD_BYTE_SIZE, "0:0", 77) == 4
    assert case.number(K.FIELD_LSHIFT_U64, "0:0", 77) == left
    assert case.number(K.FIELD_RSHIFT_U64, "0:0", 61) == 60


def test_a_bit_field_that_crosses_its_integer_is_loaded_by_a_wider_one() -> None:
    """Bits 30 to 33 of 32-bit integers are in 8 bytes; what crosses 8 bytes cannot be loaded."""
    local = btf.Struct("s", 4, (btf.Member("f", U32, 0, 0, 4),))
    crossing = btf.Struct("s", 8, (btf.Member("f", U32, 3, 6, 4),))
    assert Case(local, crossing).number(K.FIELD_BYTE_SIZE, "0:0", 4) == 8
    far = btf.Struct("s", 16, (btf.Member("f", U64, 7, 6, 4),))
    with pytest.raises(ElfError, match="bit field 'f' crosses what 8 bytes can hold"):
        Case(local, far).number(K.FIELD_BYTE_SIZE, "0:0", 4)


def test_fields_are_found_by_name_at_any_depth() -> None:
    """Anonymous structs and unions of either side do not matter, arrays and nested structs do."""
    inner = struct("", 16, ("a", btf.Array(U16, 4), 8))
    local = struct("s", 24, ("n", struct("n", 24, ("a", btf.Array(U16, 3), 0)), 0))
    target = struct(
        "s", 64, ("pad", U64, 0), ("", btf.Union("", 32, (btf.Member("n", struct("m", 32, ("", inner, 16)), 0),)), 32)
    )
    case = Case(local, target)
    assert case.number(K.FIELD_BYTE_OFFSET, "0:0:0:2", 4) == 32 + 16 + 8 + 4
    assert case.resolve(K.FIELD_BYTE_OFFSET, "0:0:0:2", load(2, 1, 2, 4)) == (load(2, 1, 2, 60),)


def test_an_index_has_to_be_in_the_targets_array() -> None:
    """Past the end there is no such field, but in an array that ends its struct without a size."""
    local = struct("s", 16, ("a", btf.Array(U32, 4), 0))
    short = struct("s", 8, ("a", btf.Array(U32, 2), 0))
    assert Case(local, short).number(K.FIELD_EXISTS, "0:0:3", 1) == 0
    open_end = struct("s", 8, ("x", U64, 0), ("a", btf.Array(U32, 0), 8))
    assert Case(local, open_end).number(K.FIELD_BYTE_OFFSET, "0:0:3", 12) == 20


def test_a_missing_field_must_not_be_used() -> None:
    """A question after its existence is answered; other instructions become ones that no verifier lets run."""
    case = Case(LOCAL, struct("s", 8, ("c", U32, 0)))
    assert case.number(K.FIELD_EXISTS, "0:1", 1) == 0
    assert case.resolve(K.FIELD_BYTE_OFFSET, "0:1", load(8, 1, 2, 8)) == (POISON,)
    assert case.resolve(K.FIELD_BYTE_OFFSET, "0:1", load_imm64(1, 8)) == (POISON, POISON)
    incompatible = Case(LOCAL, struct("s", 8, ("b", btf.Pointer(U32), 0)))
    assert incompatible.resolve(K.FIELD_BYTE_OFFSET, "0:1", load(8, 1, 2, 8)) == (POISON,)


def test_widths_follow_the_target_if_that_keeps_the_value() -> None:
    """Unsigned integers and pointers may be of another size there; a signed integer must not be loaded so."""
    local = struct("s", 32, ("u", U32, 0), ("i", S32, 4), ("p", btf.Pointer(U8), 8))
    target = struct("s", 32, ("u", U16, 8), ("i", btf.Int("long", 8, signed=True), 16), ("p", btf.Pointer(U8, 4), 24))
    case = Case(local, target)
    offset = K.FIELD_BYTE_OFFSET
    assert case.resolve(offset, "0:0", load(4, 1, 2, 0)) == (load(2, 1, 2, 8),)
    assert case.resolve(offset, "0:1", load(4, 1, 2, 4)) == (POISON,)
    assert case.resolve(offset, "0:1", mov_imm(1, 4)) == (mov_imm(1, 16),)
    with pytest.raises(ElfError, match="a field of 4 bytes has 2 in the target"):
        case.resolve(offset, "0:0", load(8, 1, 2, 0))


def test_types() -> None:
    """Existence, size, identity and layout of a type as a whole."""
    local = struct("s", 16, ("a", U32, 0))
    case = Case(local, struct("s", 40, ("z", U64, 0), ("a", U32, 8)))
    assert case.number(K.TYPE_EXISTS, "0", 1) == 1
    assert case.number(K.TYPE_SIZE, "0", 16) == 40
    assert case.number(K.TYPE_ID_TARGET, "0", 5) == case.target_ids[0]
    assert case.number(K.TYPE_MATCHES, "0", 1) == 1
    missing = Case(local, struct("other", 40))
    for kind in (K.TYPE_EXISTS, K.TYPE_MATCHES):
        assert missing.number(kind, "0", 1) == 0
    assert missing.number(K.TYPE_SIZE, "0", 16) == 0
    assert Case(local, struct("s", 8, ("a", U64, 0))).number(K.TYPE_MATCHES, "0", 1) == 0
    assert Case(local, struct("s", 8, ("a", U64, 0))).number(K.TYPE_EXISTS, "0", 1) == 1


@pytest.mark.parametrize(
    ("local", "target", "matches"),
    [
        (U32, btf.Int("u32", 4, signed=True), 0),
        (btf.Typedef("t", U32), btf.Typedef("t", U32), 1),
        (btf.Array(U32, 2), btf.Array(U32, 3), 0),
        (btf.Pointer(struct("n", 8, ("q", U64, 0))), btf.Pointer(struct("n", 4)), 1),
        (btf.Pointer(btf.Forward("n")), btf.Pointer(struct("n", 4)), 1),
        (btf.Pointer(btf.Forward("n", union=True)), btf.Pointer(struct("n", 4)), 0),
        (btf.Pointer(struct("n", 4)), btf.Pointer(btf.Forward("n")), 1),
        (btf.Pointer(struct("n", 4)), btf.Pointer(btf.Union("n", 4)), 0),
        (struct("n", 4), struct("n___2", 8), 1),
        (struct("n", 4, ("a", U32, 0)), struct("n", 8), 0),
        (
            btf.Enum("e", 4, (btf.Enumerator("A", 1),)),
            btf.Enum("e", 4, (btf.Enumerator("B", 1), btf.Enumerator("A", 2))),
            1,
        ),
        (btf.Enum("e", 4, (btf.Enumerator("A", 1),)), btf.Enum("e", 4, (btf.Enumerator("B", 1),)), 0),
        (btf.Enum("e", 4, (btf.Enumerator("A", 1),)), btf.Enum("e", 8, (btf.Enumerator("A", 1),)), 0),
        (btf.Pointer(btf.Void()), btf.Pointer(btf.Void()), 1),
        (btf.Float("f", 4), btf.Float("f", 4), 0),
    ],
)
def test_layouts_match_by_names(local: btf.Type, target: btf.Type, matches: int) -> None:
    """What libbpf's rules say of a member's type: names and kinds count, and less behind a pointer."""
    case = Case(struct("s", 32, ("m", local, 0)), struct("s", 64, ("k", U8, 8), ("m", target, 0)))
    assert case.number(K.TYPE_MATCHES, "0", 1) == matches


def test_enumerators() -> None:
    """Existence and value of a name, of 32 or 64 bits, whichever the object has."""
    values = (btf.Enumerator("A", 1), btf.Enumerator("B___old", 2), btf.Enumerator("C", 3))
    local = btf.Enum("e", 4, values)
    target = btf.Enum("e", 8, (btf.Enumerator("B", 1 << 40), btf.Enumerator("A", 7)))
    case = Case(local, target)
    assert case.number(K.ENUMVAL_EXISTS, "0", 1) == 1
    assert case.number(K.ENUMVAL_EXISTS, "2", 1) == 0
    assert case.number(K.ENUMVAL_VALUE, "0", 1) == 7
    assert case.resolve(K.ENUMVAL_VALUE, "1", load_imm64(1, 2)) == (load_imm64(1, 1 << 40),)
    assert case.resolve(K.ENUMVAL_VALUE, "2", load_imm64(1, 3)) == (POISON, POISON)
    negative = Case(
        btf.Enum("e", 4, (btf.Enumerator("A", -2),), signed=True),
        btf.Enum("e", 4, (btf.Enumerator("A", -3),), signed=True),
    )
    assert negative.resolve(K.ENUMVAL_VALUE, "0", load_imm64(1, -2)) == (load_imm64(1, -3),)
    large = Case(
        btf.Enum("e", 4, (btf.Enumerator("A", 0xFFFFFFF0),)), btf.Enum("e", 4, (btf.Enumerator("A", 0xFFFFFFF1),))
    )
    assert large.resolve(K.ENUMVAL_VALUE, "0", load_imm64(1, 0xFFFFFFF0)) == (load_imm64(1, 0xFFFFFFF1),)


def test_candidates_have_to_agree() -> None:
    """Types of one name are fine as long as they answer alike; a flavour of the target counts as well."""
    local = struct("s___mine", 8, ("a", U32, 0))
    same = struct("s", 16, ("x", U32, 0), ("a", U32, 4)), struct("s___2", 24, ("a", U32, 4))
    assert Case(local, *same).number(K.FIELD_BYTE_OFFSET, "0:0", 0) == 4
    other = struct("s", 16, ("a", U32, 8)), same[1]
    with pytest.raises(ElfError, match="are both 's___mine' and answer a relocation differently"):
        Case(local, *other).number(K.FIELD_BYTE_OFFSET, "0:0", 0)
    without = struct("s", 16), same[1]
    assert Case(local, *without).number(K.FIELD_BYTE_OFFSET, "0:0", 0) == 4


def test_the_objects_own_id_needs_no_target() -> None:
    """It is known as it is; anything else asks for the kernel's types."""
    case = Case(LOCAL).without_target()
    assert case.number(K.TYPE_ID_LOCAL, "0", 99) > 0
    with pytest.raises(ElfError, match=r"depends on the kernel's s \(CO-RE\)"):
        case.number(K.TYPE_EXISTS, "0", 1)


@pytest.mark.parametrize(
    ("kind", "access", "instruction", "text"),
    [
        (K.FIELD_BYTE_OFFSET, "0:1", mov_imm(1, 9), "an instruction holds 9 where the object's types say 8"),
        (K.FIELD_BYTE_OFFSET, "0:1", load(8, 1, 2, 0), "an instruction holds 0 where the object's types say 8"),
        (K.FIELD_BYTE_OFFSET, "0:1", alu(Alu.ADD, 1, 2), "has no place for a relocation"),
        (K.FIELD_BYTE_OFFSET, "0:7", mov_imm(1, 0), "access '0:7', which type"),
        (K.FIELD_BYTE_OFFSET, "0:1:0", mov_imm(1, 0), "access '0:1:0', which type"),
        (K.FIELD_BYTE_OFFSET, "0::1", mov_imm(1, 0), "up to 64 numbers with colons"),
        (K.FIELD_BYTE_OFFSET, "-1", mov_imm(1, 0), "up to 64 numbers with colons"),
        (K.FIELD_BYTE_OFFSET, ":".join("0" * 80), mov_imm(1, 0), "up to 64 numbers with colons"),
        (K.TYPE_SIZE, "0:1", mov_imm(1, 0), "a type as a whole has '0'"),
        (K.ENUMVAL_VALUE, "0", mov_imm(1, 0), "access '0', which type"),
    ],
)
def test_what_does_not_fit_is_refused(kind: K, access: str, instruction: Instruction, text: str) -> None:
    """Object and relocation have to go together; the error says what does not."""
    with pytest.raises(ElfError) as refused:
        Case(LOCAL, MOVED).resolve(kind, access, instruction)
    assert text in str(refused.value)


def test_a_far_field_does_not_fit_an_offset() -> None:
    """An instruction's offset has 15 bits and a sign; an immediate has room."""
    case = Case(LOCAL, struct("s", 1 << 20, ("a", U32, 0x8000)))
    assert case.number(K.FIELD_BYTE_OFFSET, "0:0", 0) == 0x8000
    with pytest.raises(ElfError, match="32768 bytes into the target's type: 32767 are possible"):
        case.resolve(K.FIELD_BYTE_OFFSET, "0:0", load(4, 1, 2, 0))


def test_signed_loads_keep_their_sign() -> None:
    """Only the width of an instruction is changed, not what it does besides."""
    local = struct("s", 8, ("a", S32, 0))
    case = Case(local, struct("s", 8, ("x", U32, 0), ("a", S32, 4)))
    assert case.resolve(K.FIELD_BYTE_OFFSET, "0:0", load_signed(4, 1, 2, 0)) == (load_signed(4, 1, 2, 4),)


def test_types_that_contain_themselves_are_refused() -> None:
    """A prototype with itself as a parameter has no end: an error, not a recursion without one."""
    builders = BtfBuilder(), BtfBuilder()
    for builder in builders:
        builder.add(kinds.Typedef("t", 2))
        builder.add(kinds.Ptr(3))
        builder.add(kinds.FuncProto(0, (kinds.Parameter("a", 2), kinds.Parameter("b", 2))))
    access = builders[0].string_offset("0")
    local, target = (Btf.parse(builder.encode()) for builder in builders)
    for kind in (K.TYPE_EXISTS, K.TYPE_MATCHES):
        with pytest.raises(ElfError, match="a relocation follows type"):
            Resolver(local, target).resolve(mov_imm(1, 1), CoreRelocation(0, 1, access, kind))


@pytest.mark.parametrize(
    ("name", "essential"),
    [
        ("task_struct", "task_struct"),
        ("task_struct___old", "task_struct"),
        ("a___b___c", "a___b"),
        ("a____b", "a____b"),
        ("___a", "___a"),
        ("a___", "a___"),
        ("", ""),
    ],
)
def test_flavours(name: str, essential: str) -> None:
    """Three underscores between other characters part a name from its flavour, as bpf_core_is_flavor_sep has it."""
    assert essential_name(name) == essential
