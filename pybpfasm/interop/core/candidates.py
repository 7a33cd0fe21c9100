"""The target's types that a type of the object may stand for: those of its name and kind, in any flavour."""

from functools import cached_property

from pybpfasm.btf import Btf, Kind
from pybpfasm.interop.error import ElfError
from pybpfasm.interop.externs import essential_name

_ENUMS = (Kind.ENUM, Kind.ENUM64)

# Up to so many names are looked up one by one; then all names of the target are read once, which costs as much.
_FEW = 8


class Candidates:
    """Looks for them, once for each name."""

    def __init__(self, target: Btf) -> None:
        self._target = target
        self._known: dict[tuple[str, Kind], list[int]] = {}
        self._blobs = [blob.encode() for blob in (target, target.base) if blob is not None]

    def of(self, local: Btf, type_id: int) -> list[int]:
        """The ids of the candidates, in their order. Raises `ElfError` for a type without a name."""
        name, kind = local.name(type_id), local.kind(type_id)
        if not name or kind is None:
            raise ElfError(f"a relocation refers to type {type_id}, which has no name to look for in the target")
        key = (essential_name(name), kind)
        if key not in self._known:
            self._known[key] = self._find(key[0], _ENUMS if kind in _ENUMS else (kind,))
        return self._known[key]

    def _find(self, name: str, wanted: tuple[Kind, ...]) -> list[int]:
        if len(self._known) >= _FEW:
            return [each for each in self._index.get(name, ()) if self._target.kind(each) in wanted]
        names = [name, *self._flavours(name)]
        return sorted({each for one in names for each in self._target.find_all(one, *wanted)})

    @cached_property
    def _index(self) -> dict[str, list[int]]:
        """All ids of the target, its base's included, by essential name."""
        found: dict[str, list[int]] = {}
        for type_id in range(1, self._target.first_id + len(self._target)):
            found.setdefault(essential_name(self._target.name(type_id)), []).append(type_id)
        return found

    def _flavours(self, name: str) -> set[str]:
        """The names `name___…` among the target's strings; a kernel has hardly any."""
        prefix = b"\0" + name.encode(errors="surrogateescape") + b"___"
        found: set[str] = set()
        for blob in self._blobs:
            at = blob.find(prefix)
            while at >= 0:
                end = blob.find(b"\0", at + 1)
                text = blob[at + 1 : end if end >= 0 else len(blob)].decode(errors="surrogateescape")
                if essential_name(text) == name:
                    found.add(text)
                at = blob.find(prefix, end) if end >= 0 else -1
        return found
