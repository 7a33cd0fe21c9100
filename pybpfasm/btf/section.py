"""The section of types, read as far as a question needs: where an id's record stands, what a name's offset means.

A record's place is known only after those before it, so records are counted from the front up to the one asked for; the
place of each 16th is kept.
"""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_right
from collections.abc import Collection, Iterator

from pybpfasm.btf.error import BtfError
from pybpfasm.btf.header import ByteOrder, Header
from pybpfasm.btf.kinds import Kind

HEADER_WORDS = 3

# Longer than any name that a kernel takes (KSYM_NAME_LEN is 512), and short enough that a blob's names stay in
# proportion to the blob where many share one long string.
MAX_NAME = 4096

# Words that follow the first three, and words of each counted element.
_LAYOUT: dict[int, tuple[int, int]] = {
    Kind.INT: (1, 0),
    Kind.PTR: (0, 0),
    Kind.ARRAY: (3, 0),
    Kind.STRUCT: (0, 3),
    Kind.UNION: (0, 3),
    Kind.ENUM: (0, 2),
    Kind.FWD: (0, 0),
    Kind.TYPEDEF: (0, 0),
    Kind.VOLATILE: (0, 0),
    Kind.CONST: (0, 0),
    Kind.RESTRICT: (0, 0),
    Kind.FUNC: (0, 0),
    Kind.FUNC_PROTO: (0, 2),
    Kind.VAR: (1, 0),
    Kind.DATASEC: (0, 3),
    Kind.FLOAT: (0, 0),
    Kind.DECL_TAG: (1, 0),
    Kind.TYPE_TAG: (0, 0),
    Kind.ENUM64: (0, 3),
}


_STRIDE = 16


def native_words(data: memoryview, byteorder: ByteOrder) -> memoryview:
    """The 32-bit words of data whose size is a multiple of 4; no copy if they are in the machine's byte order."""
    if byteorder == sys.byteorder:
        return data.cast("I")
    words = array("I")
    words.frombytes(data)
    words.byteswap()
    return memoryview(words)


class _Lengths(dict[int, int]):
    """From a record's info word to the number of its words; KeyError if the kind is not known."""

    def __init__(self, further: dict[int, tuple[int, int]]) -> None:
        super().__init__()
        self._layout: dict[int, tuple[int, int]] = further | _LAYOUT

    def __missing__(self, info: int) -> int:
        fixed, element = self._layout[info >> 24 & 0x7F]
        length = HEADER_WORDS + fixed + element * (info & 0xFFFFFF)
        self[info] = length
        return length


class TypeSection:
    """The types and strings of one blob; a split one continues the ids and string offsets of its base."""

    def __init__(self, data: bytes, header: Header, base: TypeSection | None) -> None:
        self.data = data
        self.header = header
        self.base = base
        self.words = native_words(memoryview(data)[header.types.start : header.types.stop], header.byteorder)
        self._marks = array("I")  # the word where the record of each 16th id starts
        self._next = 0  # the word behind the records counted
        self._counted = 0
        self._lengths = _Lengths(_further_layout(data, header))
        self._first_id: int | None = None
        self._names: dict[int, str] = {}  # many members may have one long name
        self._string_base: int = base.string_end if base else 0

    @property
    def first_id(self) -> int:
        """The id of the first type of this blob: 1, or what follows the base's."""
        if self._first_id is None:
            self._first_id = self.base.first_id + self.base.count if self.base else 1
        return self._first_id

    @property
    def count(self) -> int:
        """How many types the blob has."""
        self._count_until(word=len(self.words))
        return self._counted

    @property
    def string_end(self) -> int:
        """The string offset after the last string."""
        return self._string_base + len(self.header.strings)

    def error(self, word: int, text: str) -> BtfError:
        """An error at a word of the types."""
        return BtfError(text, self.header.types.start + word * 4)

    def record_start(self, type_id: int) -> int:
        """The word where the record of an id of this blob starts."""
        index = type_id - self.first_id
        if index >= self._counted:
            self._count_until(index=index)
        if not 0 <= index < self._counted:
            raise BtfError(f"there is no type {type_id}, the last is {self.first_id + self.count - 1}")
        mark, steps = divmod(index, _STRIDE)
        at, words, lengths = self._marks[mark], self.words, self._lengths
        for _ in range(steps):
            at += lengths[words[at + 1]]
        return at

    def id_at(self, word: int) -> int | None:
        """The id of the record that starts at a word, None if none does."""
        if word >= self._next:
            self._count_until(word=word)
        mark = bisect_right(self._marks, word) - 1
        if mark < 0:
            return None
        at, index = self._marks[mark], mark * _STRIDE
        while at < word:
            at += self.length_at(at)
            index += 1
        return self.first_id + index if at == word and index < self._counted else None

    def starts(self) -> Iterator[int]:
        """The word where each record starts, in the order of ids."""
        at = 0
        for _ in range(self.count):
            yield at
            at += self.length_at(at)

    def length_at(self, word: int) -> int:
        """How many words the record has that starts at a word."""
        return self._lengths[self.words[word + 1]]

    def _count_until(self, *, index: int = 1 << 32, word: int = 1 << 32) -> None:
        """Count records, by 16 at a time, until one of an index and one behind a word are reached, or the end."""
        words, lengths, chunk = self.words, self._lengths, range(_STRIDE)
        while self._next < len(words) and self._counted <= index and self._next <= word:
            at = self._next
            try:
                for _ in chunk:
                    at += lengths[words[at + 1]]
            except (IndexError, KeyError):
                self._count_last()
                return
            if at > len(words):
                self._count_last()
            self._marks.append(self._next)
            self._next = at
            self._counted += _STRIDE

    def _count_last(self) -> None:
        """Count what is left of less than 16 records, and find out what is wrong with them if something is."""
        at, count, end = self._next, 0, len(self.words)
        while at < end:
            try:
                length = self.length_at(at)
            except IndexError:
                length = HEADER_WORDS
            except KeyError:
                kind = self.words[at + 1] >> 24 & 0x7F
                text = f"kind {kind} is not known, and no layout section tells how to skip it"
                raise self.error(at, text) from None
            if at + length > end:
                raise self.error(at, f"type {self.first_id + self._counted + count} goes past the end of the types")
            at += length
            count += 1
        self._marks.append(self._next)
        self._next = at
        self._counted += count

    def name_at(self, word: int) -> str:
        """The name whose string offset stands at a word."""
        offset = self.words[word]
        name = self._names.get(offset)
        if name is None:
            try:
                name = self._names[offset] = self.string(offset, MAX_NAME)
            except BtfError as error:
                raise self.error(word, f"no name: {error}") from None
        return name

    def string(self, offset: int, limit: int | None = None) -> str:
        """The string at an offset, of up to `limit` bytes; bytes that are no UTF-8 come as surrogates."""
        if self.base is not None and offset < self._string_base:
            return self.base.string(offset, limit)
        strings = self.header.strings
        start = strings.start + offset - self._string_base
        if not strings.start <= start < strings.stop:
            if offset == 0:  # a split blob has no empty string of its own, and a blob without names may have none
                return ""
            raise BtfError(f"string {offset} is outside of the strings, which end at {self.string_end}")
        stop = strings.stop if limit is None else min(strings.stop, start + limit + 1)
        end = self.data.find(0, start, stop)
        if end < 0:
            raise BtfError(f"string {offset} is longer than {limit} bytes")
        return self.data[start:end].decode(errors="surrogateescape")

    def string_offsets(self, name: bytes, *, whole: bool) -> list[int]:
        """The offsets at which a string is found: `whole` ones, or also the ends of longer strings."""
        found = self.base.string_offsets(name, whole=whole) if self.base else []
        strings, wanted = self.header.strings, name + b"\0"
        at = self.data.find(wanted, strings.start, strings.stop)
        while at >= 0:
            if not whole or at == strings.start or not self.data[at - 1]:
                found.append(at - strings.start + self._string_base)
            at = self.data.find(wanted, at + 1, strings.stop)
        return found

    def ids_named(self, offset: int, kinds: Collection[int]) -> Iterator[int]:
        """The ids of the types of these kinds (none given: of all) whose name stands at a string offset, in order."""
        types = self.header.types
        wanted = offset.to_bytes(4, self.header.byteorder) if offset <= 0xFFFFFFFF else b""
        at = self.data.find(wanted, types.start, types.stop) if wanted else -1
        while at >= 0:
            word, rest = divmod(at - types.start, 4)
            if not rest and word + 1 < len(self.words) and _is_kind(self.words[word + 1], kinds):
                # A member or parameter may look the same: only the numbering tells where a record starts.
                type_id = self.id_at(word)
                if type_id is not None:
                    yield type_id
            at = self.data.find(wanted, at + 1, types.stop)

    def ids_named_any(self, offsets: Collection[int], kinds: Collection[int]) -> Iterator[int]:
        """Like `ids_named` for many string offsets at once, in one pass over all types."""
        wanted, words = frozenset(offsets), self.words
        for type_id, start in enumerate(self.starts(), self.first_id):
            if words[start] in wanted and _is_kind(words[start + 1], kinds):
                yield type_id


def _is_kind(info: int, kinds: Collection[int]) -> bool:
    return not kinds or info >> 24 & 0x7F in kinds


def _further_layout(data: bytes, header: Header) -> dict[int, tuple[int, int]]:
    """What the layout section says of kinds that this library does not know, in words."""
    entries: dict[int, tuple[int, int]] = {}
    for kind, at in enumerate(header.layout[::4]):
        fixed, element = data[at], data[at + 1]
        if kind > max(Kind) and not fixed % 4 and not element % 4:
            entries[kind] = (fixed // 4, element // 4)
    return entries
