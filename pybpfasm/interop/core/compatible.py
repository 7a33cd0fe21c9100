"""When a type of the object and one of the target count as the same: in three degrees, as relo_core.c has them."""

from pybpfasm.btf import Btf, kinds
from pybpfasm.interop.error import ElfError
from pybpfasm.interop.externs import essential_name

# How deep types are followed, and prototypes within prototypes.
_MOST_DEPTH = 32

_Composite = kinds.Struct | kinds.Union
_AnyEnum = kinds.Enum | kinds.Enum64


def kinds_agree(local: kinds.Record, target: kinds.Record) -> bool:
    """The same kind; the two kinds of enum are one."""
    return type(local) is type(target) or (isinstance(local, _AnyEnum) and isinstance(target, _AnyEnum))


def fields_compatible(local_btf: Btf, local_id: int, target_btf: Btf, target_id: int) -> bool:
    """The field of one may stand for the other's: sizes do not matter (bpf_core_fields_are_compat)."""
    for _ in range(_MOST_DEPTH):
        local, target = local_btf.type(local_btf.strip(local_id)), target_btf.type(target_btf.strip(target_id))
        if isinstance(local, _Composite) and isinstance(target, _Composite):
            return True
        if not kinds_agree(local, target):
            return False
        match local, target:
            case kinds.Ptr() | kinds.Float(), _:
                return True
            case kinds.Fwd() | kinds.Enum() | kinds.Enum64(), kinds.Fwd() | kinds.Enum() | kinds.Enum64():
                names = essential_name(local.name), essential_name(target.name)
                return "" in names or names[0] == names[1]
            case kinds.Int(), kinds.Int():
                return local.offset == 0 and target.offset == 0
            case kinds.Array(), kinds.Array():
                local_id, target_id = local.type_id, target.type_id
            case _:
                return False
    raise too_deep(local_id)


class TypeComparison:
    """Compares types of an object with the target's; pairs that were compared are kept, for types share others."""

    def __init__(self, local: Btf, target: Btf) -> None:
        self._local, self._target = local, target
        self._compatible: dict[tuple[int, int], bool] = {}
        self._matching: dict[tuple[int, int, bool], bool] = {}

    def compatible(self, local_id: int, target_id: int, *, levels: int = _MOST_DEPTH) -> bool:
        """The type exists in the target (bpf_core_types_are_compat): names below the first are not compared."""
        key = (local_id, target_id)
        if key not in self._compatible:
            if levels <= 0:
                raise too_deep(local_id)
            agree = kinds_agree(self._local.type(local_id), self._target.type(target_id))
            self._compatible[key] = agree and self._is_compatible(local_id, target_id, levels)
        return self._compatible[key]

    def _is_compatible(self, local_id: int, target_id: int, levels: int) -> bool:
        for _ in range(_MOST_DEPTH):
            local = self._local.type(self._local.strip(local_id))
            target = self._target.type(self._target.strip(target_id))
            if not kinds_agree(local, target):
                return False
            match local, target:
                case kinds.Int(), kinds.Int():
                    return local.offset == 0 and target.offset == 0
                case (kinds.Ptr(), kinds.Ptr()) | (kinds.Array(), kinds.Array()):
                    local_id, target_id = _target_id(local), _target_id(target)
                case kinds.FuncProto(), kinds.FuncProto():
                    if not self._parameters_compatible(local, target, levels):
                        return False
                    local_id, target_id = local.return_type_id, target.return_type_id
                case _:
                    return isinstance(local, kinds.Void | kinds.Fwd | _Composite | _AnyEnum)
        raise too_deep(local_id)

    def _parameters_compatible(self, local: kinds.FuncProto, target: kinds.FuncProto, levels: int) -> bool:
        if len(local.parameters) != len(target.parameters):
            return False
        strip, strip_target = self._local.strip, self._target.strip
        return all(
            self.compatible(strip(mine.type_id), strip_target(theirs.type_id), levels=levels - 1)
            for mine, theirs in zip(local.parameters, target.parameters, strict=True)
        )

    def match(self, local_id: int, target_id: int, *, behind_pointer: bool = False, levels: int = _MOST_DEPTH) -> bool:
        """The object's type has nothing that the target's has not, by names (bpf_core_types_match)."""
        key = (local_id, target_id, behind_pointer)
        if key not in self._matching:
            if levels <= 0:
                raise too_deep(local_id)
            self._matching[key] = self._is_match(local_id, target_id, behind_pointer, levels)
        return self._matching[key]

    def _is_match(self, local_id: int, target_id: int, behind_pointer: bool, levels: int) -> bool:
        for _ in range(_MOST_DEPTH):
            local = self._local.type(self._local.strip(local_id))
            target = self._target.type(self._target.strip(target_id))
            if not names_match(_name(local), _name(target)):
                return False
            match local, target:
                case kinds.Ptr(), kinds.Ptr():
                    behind_pointer = True
                    local_id, target_id = local.type_id, target.type_id
                case kinds.Array(), kinds.Array() if local.count == target.count:
                    local_id, target_id = local.type_id, target.type_id
                case kinds.FuncProto(), kinds.FuncProto():
                    if not self._parameters_match(local, target, behind_pointer, levels):
                        return False
                    local_id, target_id = local.return_type_id, target.return_type_id
                case (kinds.Struct(), kinds.Struct()) | (kinds.Union(), kinds.Union()) if not behind_pointer:
                    return self._members_match(local, target, levels)
                case _:
                    return _leaves_match(local, target, behind_pointer)
        raise too_deep(local_id)

    def _parameters_match(
        self, local: kinds.FuncProto, target: kinds.FuncProto, behind_pointer: bool, levels: int
    ) -> bool:
        if len(local.parameters) != len(target.parameters):
            return False
        return all(
            self.match(mine.type_id, theirs.type_id, behind_pointer=behind_pointer, levels=levels - 1)
            for mine, theirs in zip(local.parameters, target.parameters, strict=True)
        )

    def _members_match(self, local: kinds.Record, target: kinds.Record, levels: int) -> bool:
        """Each member of the object's struct has one of its name and type in the target's, in any place."""
        assert isinstance(local, _Composite)  # noqa: S101 - for the type checker: the caller has matched it
        assert isinstance(target, _Composite)  # noqa: S101 - likewise
        if len(local.members) > len(target.members):
            return False
        theirs: dict[str, list[int]] = {}
        for member in target.members:
            theirs.setdefault(essential_name(member.name), []).append(member.type_id)
        return all(
            any(
                self.match(member.type_id, type_id, levels=levels - 1)
                for type_id in theirs.get(essential_name(member.name), ())
            )
            for member in local.members
        )


def _leaves_match(local: kinds.Record, target: kinds.Record, behind_pointer: bool) -> bool:
    """Types that refer to no others, or whose others do not matter behind a pointer."""
    match local, target:
        case kinds.Void(), kinds.Void():
            return True
        case kinds.Fwd(), _:
            return _forward_matches(local, target, behind_pointer)
        case kinds.Enum() | kinds.Enum64(), kinds.Enum() | kinds.Enum64():
            return _enums_match(local, target)
        case kinds.Struct() | kinds.Union(), _ if behind_pointer:
            return type(local) is type(target) or _forward_matches(target, local, behind_pointer)
        case kinds.Int(), kinds.Int():
            return (local.size, local.signed) == (target.size, target.signed)
    return False


def _target_id(record: kinds.Record) -> int:
    assert isinstance(record, kinds.Ptr | kinds.Array)  # noqa: S101 - for the type checker
    return record.type_id


def _forward_matches(forward: kinds.Record, other: kinds.Record, behind_pointer: bool) -> bool:
    """A declaration stands for a definition only where a pointer is between."""
    if not isinstance(forward, kinds.Fwd):
        return False
    if isinstance(other, kinds.Fwd):
        return forward.union == other.union
    return behind_pointer and isinstance(other, kinds.Union if forward.union else kinds.Struct)


def _enums_match(local: _AnyEnum, target: _AnyEnum) -> bool:
    """Each name of the object's enum is in the target's; values do not matter."""
    if local.size != target.size or len(local.enumerators) > len(target.enumerators):
        return False
    theirs = {essential_name(each.name) for each in target.enumerators}
    return all(essential_name(each.name) in theirs for each in local.enumerators)


def names_match(local: str, target: str) -> bool:
    """The names are the same but for a flavour."""
    return essential_name(local) == essential_name(target)


def _name(record: kinds.Record) -> str:
    return getattr(record, "name", "")


def too_deep(type_id: int) -> ElfError:
    """The error for types that refer to each other without an end."""
    return ElfError(f"a relocation follows type {type_id} through more than {_MOST_DEPTH} others")
