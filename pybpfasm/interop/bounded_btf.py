"""An object's types, asked in bounded time.

An object may refer to one long record or string over and over: what was asked for is kept.
"""

from pybpfasm.btf import Btf, Type, kinds
from pybpfasm.btf.kinds import Record
from pybpfasm.btf.section import TypeSection
from pybpfasm.interop.error import ElfError

# Strings may end alike; all that are read together are at most so many times as long as the blob.
_STRINGS_PER_BYTE = 64
# Members of all keys' and values' types together, each counted wherever it comes up.
_MOST_NODES = 200_000
_MOST_DEPTH = 64


class BoundedBtf(Btf):
    """A `Btf` that keeps what it was asked for. Raises `ElfError` where an object asks for more than compilers do."""

    def __init__(self, section: TypeSection, base: Btf | None, pointer_size: int) -> None:
        super().__init__(section, base, pointer_size)
        self._records: dict[int, Record] = {}
        self._strings: dict[int, str] = {}
        self._values: dict[int, Type] = {}
        self._weights: dict[int, int] = {}
        self._characters_left = _STRINGS_PER_BYTE * len(self.encode()) + 4096
        self._nodes_left = _MOST_NODES

    def type(self, type_id: int) -> Record:
        """The record of an id; `Void` for 0."""
        if type_id not in self._records:
            self._records[type_id] = super().type(type_id)
        return self._records[type_id]

    def string(self, offset: int) -> str:
        """The string at an offset of the string section."""
        if offset not in self._strings:
            found = self._strings[offset] = super().string(offset)
            self._characters_left -= len(found)
            if self._characters_left < 0:
                raise ElfError("section '.BTF': its strings overlap over and over: this is not made by a compiler")
        return self._strings[offset]

    def value_type(self, type_id: int) -> Type:
        """The type as a tree."""
        if type_id not in self._values:
            self._nodes_left -= self._weight(type_id, 0)
            if self._nodes_left < 0:
                raise ElfError(f"the types of maps have more than {_MOST_NODES} members together")
            self._values[type_id] = super().value_type(type_id)
        return self._values[type_id]

    def _weight(self, type_id: int, depth: int) -> int:
        """How many nodes the tree has at most."""
        if depth > _MOST_DEPTH:
            raise ElfError(f"type {type_id}: more than {_MOST_DEPTH} types one in another")
        if type_id not in self._weights:
            record = self.type(type_id)
            inner: list[int] = []
            if isinstance(record, kinds.Struct | kinds.Union):
                inner = [member.type_id for member in record.members]
            elif isinstance(record, _CONTAINING):
                inner = [record.type_id]
            found = 1 + sum(self._weight(each, depth + 1) for each in inner)
            if isinstance(record, kinds.Enum | kinds.Enum64):
                found += len(record.enumerators)
            self._weights[type_id] = min(found, _MOST_NODES + 1)
        return self._weights[type_id]


# What is behind a pointer is known by name only.
_CONTAINING = kinds.Typedef | kinds.Const | kinds.Volatile | kinds.Restrict | kinds.TypeTag | kinds.Array
