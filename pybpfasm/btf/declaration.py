"""A type as C text: the declaration of a name that has it, and the bodies of structs, unions and enums."""

from __future__ import annotations

from pybpfasm.btf import kinds
from pybpfasm.btf.error import BtfError
from pybpfasm.btf.fields import integer_bits
from pybpfasm.btf.kinds import Record
from pybpfasm.btf.padding import padding
from pybpfasm.btf.pool import Pool
from pybpfasm.btf.sizes import MAX_DEPTH, described, too_deep

Composite = kinds.Struct | kinds.Union
AnyEnum = kinds.Enum | kinds.Enum64

_QUALIFIERS: dict[type[Record], str] = {
    kinds.Const: "const",
    kinds.Volatile: "volatile",
    kinds.Restrict: "restrict",
}
_INDIRECT = (kinds.Ptr, kinds.Const, kinds.Volatile, kinds.Restrict, kinds.TypeTag, kinds.Array)


class _Names:
    """Names in one of C's namespaces: the second of the same is called name___2, and so on."""

    def __init__(self) -> None:
        self._uses: dict[str, int] = {}
        self._chosen: dict[int, str] = {}

    def next(self, name: str) -> str:
        """The name for one more thing of that name."""
        count = self._uses[name] = self._uses.get(name, 0) + 1
        return name if count == 1 else f"{name}___{count}"

    def of(self, type_id: int, name: str) -> str:
        """The name of a type, the same each time."""
        if type_id not in self._chosen:
            self._chosen[type_id] = self.next(name)
        return self._chosen[type_id]


class Declarations:
    """Writes declarations. Indentation is by tabs, `level` of them."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._tags = _Names()  # of structs, unions and enums
        self._identifiers = _Names()  # of typedefs and enumerators

    def typedef(self, type_id: int, record: kinds.Typedef) -> str:
        """A typedef's declaration."""
        if not record.type_id and record.name == "__gnuc_va_list":  # so described by old GCC
            return "typedef __builtin_va_list __gnuc_va_list"
        return f"typedef {self.declaration(record.type_id, self._identifiers.of(type_id, record.name))}"

    def declaration(self, type_id: int, name: str, level: int = 0, depth: int = 0) -> str:
        """`name` declared to be of a type."""
        links: list[tuple[int, Record]] = []
        while True:
            if len(links) > MAX_DEPTH or depth > MAX_DEPTH:
                raise too_deep(type_id)
            record = self._pool.type(type_id)
            links.append((type_id, record))
            if isinstance(record, _INDIRECT):
                type_id = record.type_id
            elif isinstance(record, kinds.FuncProto):
                type_id = record.return_type_id
            else:
                break
        self._pool.spend(len(links) + len(name) // 16)
        return self._chain(links, name, level, depth)

    def _chain(self, links: list[tuple[int, Record]], name: str, level: int, depth: int) -> str:
        """The text of links from the name's type to a named type, which C writes first; takes them off the list."""
        text, glued = "", True  # glued: no blank before what follows
        while links:
            type_id, record = links.pop()
            match record:
                case kinds.Ptr():
                    text += "*" if glued else " *"
                    glued = True
                    continue
                case kinds.Const() | kinds.Volatile() | kinds.Restrict():
                    text += f" {_QUALIFIERS[type(record)]}"
                case kinds.TypeTag():
                    text += f" {_qualifiers(links)}{_type_tag(record)}"
                case kinds.Array():
                    return text + self._array(record, links, name, glued, level, depth)
                case kinds.FuncProto():
                    return text + self._function(record, links, name, glued, level, depth)
                case _:
                    text += _qualifiers(links) + self._named(type_id, record, level, depth)
            glued = False
        return text + _spaced(name, glued)

    def _array(
        self, record: kinds.Array, links: list[tuple[int, Record]], name: str, glued: bool, level: int, depth: int
    ) -> str:
        _qualifiers(links)  # an array has none of its own: GCC repeats those of its elements
        subscript = f"[{record.count}]"
        if not links:
            return _spaced(name, glued) + subscript
        blank = " " if name and not glued else ""
        nested = isinstance(links[-1][1], kinds.Array)
        inner = self._chain(links, name, level, depth + 1)
        return blank + (inner if nested else f"({inner})") + subscript

    def _function(
        self, record: kinds.FuncProto, links: list[tuple[int, Record]], name: str, glued: bool, level: int, depth: int
    ) -> str:
        _qualifiers(links)  # GCC writes noreturn as volatile
        start = f" ({self._chain(links, name, level, depth + 1)})" if links else _spaced(name, glued)
        return f"{start}({self._parameters(record, level, depth)})"

    def _parameters(self, record: kinds.FuncProto, level: int, depth: int) -> str:
        parameters = record.parameters
        if not parameters or (len(parameters) == 1 and not parameters[0].type_id):
            return "void"
        variadic = not parameters[-1].type_id
        named = parameters[:-1] if variadic else parameters
        texts = [self.declaration(each.type_id, each.name, level, depth + 1) for each in named]
        return ", ".join([*texts, "..."] if variadic else texts)

    def _named(self, type_id: int, record: Record, level: int, depth: int) -> str:
        """A type that ends a chain."""
        match record:
            case kinds.Void():
                return "void"
            case kinds.Int() | kinds.Float():
                return record.name
            case kinds.Typedef():
                return self._identifiers.of(type_id, record.name)
            case kinds.Struct() | kinds.Union():
                return self.tag(type_id, record) if record.name else self.body(type_id, record, level, depth + 1)
            case kinds.Enum() | kinds.Enum64():
                return self.tag(type_id, record) if record.name else self.enum(type_id, record, level)
            case kinds.Fwd():
                return self.tag(type_id, record)
        raise BtfError(f"type {type_id} cannot be declared in C: it is {described(self._pool, type_id)}")

    def tag(self, type_id: int, record: Composite | AnyEnum | kinds.Fwd) -> str:
        """`struct name`, `union name` or `enum name`; the keyword alone for what has no name."""
        if not record.name:
            return _keyword(record)
        if isinstance(record, kinds.Fwd) or (isinstance(record, AnyEnum) and not record.enumerators):
            return f"{_keyword(record)} {record.name}"  # a declaration only, which does not take the name
        self._pool.spend(len(record.name) // 16)
        return f"{_keyword(record)} {self._tags.of(type_id, record.name)}"

    def enum(self, type_id: int, record: AnyEnum, level: int = 0) -> str:
        """An enum with its enumerators."""
        head = self.tag(type_id, record)
        if not record.enumerators:
            return head
        wide = isinstance(record, kinds.Enum64)
        suffix = ("LL" if record.signed else "ULL") if wide else ""
        indent = "\t" * (level + 1)
        lines = [f"{indent}{self._identifiers.next(each.name)} = {each.value}{suffix}," for each in record.enumerators]
        self._pool.spend(sum(map(len, lines)) // 16)
        return "\n".join([f"{head} {{", *lines, "\t" * level + "}"]) + self._enum_mode(record)

    def _enum_mode(self, record: AnyEnum) -> str:
        """The attribute that gives an enum a size that its values do not."""
        if record.size == 1:
            return " __attribute__((mode(byte)))"
        narrow = isinstance(record, kinds.Enum) or all(0 <= each.value < 1 << 32 for each in record.enumerators)
        if record.size == 8 and self._pool.pointer_size == 8 and narrow:
            return " __attribute__((mode(word)))"
        return ""

    def body(self, type_id: int, record: Composite, level: int = 0, depth: int = 0) -> str:
        """A struct or union with its members."""
        head = f"{self.tag(type_id, record)} {{"
        packed = isinstance(record, kinds.Struct) and self._is_packed(record)
        lines = self._members(type_id, record, packed, level + 1, depth)
        indent = "\t" * (level + 1)
        text = "\n".join([head, *(f"{indent}{line};" for line in lines)])
        end = "\n" + "\t" * level + "}" if record.members or record.size else "}"
        return text + end + (" __attribute__((packed))" if packed else "")

    def _members(self, type_id: int, record: Composite, packed: bool, level: int, depth: int) -> list[str]:
        pool, at, after_bit_field = self._pool, 0, False
        lines: list[str] = []
        for member in record.members:
            start, bits = _bits(pool, member)
            alignment = 1 if packed else pool.alignment_of(member.type_id)
            lines += self._padding(at, start, alignment, after_bit_field and bits is not None)
            text = self.declaration(member.type_id, member.name, level, depth)
            lines.append(text if bits is None else f"{text}: {bits}")
            at = start + (pool.size_of(member.type_id) * 8 if bits is None else bits)
            after_bit_field = bits is not None
        if isinstance(record, kinds.Struct):
            lines += self._padding(at, record.size * 8, pool.alignment_of(type_id), False)
        return lines

    def _padding(self, start: int, end: int, alignment: int, after_bit_field: bool) -> list[str]:
        long_bits = self._pool.pointer_size * 8
        if end > start:
            self._pool.spend((end - start) // long_bits)
        return list(padding(start, end, alignment, after_bit_field=after_bit_field, long_bits=long_bits))

    def _is_packed(self, record: kinds.Struct) -> bool:
        """Whether a member lies where its alignment forbids, or the size is no multiple of the greatest one."""
        greatest = 1
        for member in record.members:
            alignment = self._pool.alignment_of(member.type_id)
            if _bits(self._pool, member)[1] is None and member.bit_offset % (8 * alignment):
                return True
            greatest = max(greatest, alignment)
        return bool(record.size % greatest)


def _bits(pool: Pool, member: kinds.Member) -> tuple[int, int | None]:
    """Where a member starts, in bits, and its size if it is a bit field."""
    if member.bit_size is not None:
        return member.bit_offset, member.bit_size
    offset, size = integer_bits(pool, member.type_id)
    return member.bit_offset + offset, size


def _keyword(record: Composite | AnyEnum | kinds.Fwd) -> str:
    match record:
        case kinds.Struct():
            return "struct"
        case kinds.Union():
            return "union"
        case kinds.Fwd():
            return "union" if record.union else "struct"
    return "enum"


def _qualifiers(links: list[tuple[int, Record]]) -> str:
    """The qualifiers at the end of a chain, each with a blank behind it; takes them off."""
    text = ""
    while links and (word := _QUALIFIERS.get(type(links[-1][1]))):
        text += f"{word} "
        links.pop()
    return text


def _type_tag(record: kinds.TypeTag) -> str:
    return f"__attribute__(({record.name}))" if record.attribute else f'__attribute__((btf_type_tag("{record.name}")))'


def _spaced(name: str, glued: bool) -> str:
    return f" {name}" if name and not glued else name
