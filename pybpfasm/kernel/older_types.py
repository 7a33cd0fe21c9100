"""A program's types in forms that older kernels take: what they do not know is replaced by what they know.

Ids stay as they are, so that func_info goes on to refer to the right types. libbpf does the same
(bpf_object__sanitize_btf in tools/lib/bpf/libbpf.c). A program needs neither sections nor variables: these go first, as
compilers leave sizes and linkages in them that no kernel takes.

    form   kind                              known since   becomes
    1      DATASEC, VAR, FUNC that is extern -             an empty struct without a name
    2      ENUM64                            6.0           a struct of its size
    2      tags with other attributes        6.15          const, or an empty struct
    3      TYPE_TAG                          5.17          const
    3      DECL_TAG                          5.16          an empty struct
    3      FLOAT                             5.13          a struct of its size
"""

from collections.abc import Iterator
from functools import lru_cache

from pybpfasm.btf import Btf, BtfBuilder, Linkage, kinds
from pybpfasm.btf.kinds import Record

_NOTHING = kinds.Struct("", 0)
_FORMS = (1, 2, 3)


def older_forms(types: bytes) -> Iterator[bytes]:
    """The blob as it is, then for ever older kernels; a form that changes nothing is left out. Raises `BtfError`."""
    last = types
    yield types
    for form in _FORMS:
        changed = _rewritten(types, form)
        if changed != last:
            last = changed
            yield changed


@lru_cache(maxsize=8)  # the programs of one object share their types
def _rewritten(types: bytes, form: int) -> bytes:
    builder = BtfBuilder()
    changed = False
    for _, record in Btf.parse(types):
        replacement = _replaced(record, form)
        changed = changed or replacement is not record
        builder.add(replacement)
    return builder.encode() if changed else types


def _replaced(record: Record, form: int) -> Record:
    """The record as that form has it."""
    match record:
        case kinds.DataSec() | kinds.Var():
            return _NOTHING
        case kinds.Func(linkage=Linkage.EXTERN):
            return _NOTHING
        case kinds.Enum64() if form >= 2:
            return kinds.Struct("", record.size)
        case kinds.TypeTag() if form >= 3 or (form == 2 and record.attribute):
            return kinds.Const(record.type_id)
        case kinds.DeclTag() if form >= 3 or (form == 2 and record.attribute):
            return _NOTHING
        case kinds.Float() if form >= 3:
            return kinds.Struct("", record.size)
        case _:
            return record
