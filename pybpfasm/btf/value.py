"""Frozen values: named fields, equal when class and fields are.

attrs and dataclasses write code at import, which takes longer than to look a field up in the kernel's BTF.
"""

from __future__ import annotations

from typing import Any, NoReturn, dataclass_transform


@dataclass_transform(frozen_default=True)
class ValueType(type):
    """Makes slots of the annotated names of a class, in their order; what is assigned to them are defaults.

    A module with such classes starts with `from __future__ import annotations`: on every Python the names are then
    in the class's namespace.
    """

    __match_args__: tuple[str, ...]
    _defaults: dict[str, Any]

    def __new__(mcls, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> ValueType:
        """The class, with its slots in place of its annotations."""
        fields = tuple(namespace.get("__annotations__", ()))
        namespace["_defaults"] = {field: namespace.pop(field) for field in fields if field in namespace}
        namespace["__match_args__"] = fields
        namespace.setdefault("__slots__", fields)
        return super().__new__(mcls, name, bases, namespace)


class Value(metaclass=ValueType):
    """Base of all values: frozen, hashable, comparable with `==`, usable in `match`."""

    # The hash is kept: a tree may share its branches, and would else be walked once a reference.
    __slots__ = ("_hash",)

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        fields = type(self).__match_args__
        if keywords or len(arguments) != len(fields):
            arguments = _bound(type(self), arguments, keywords)
        set_field = object.__setattr__
        for field, value in zip(fields, arguments, strict=True):
            set_field(self, field, value)

    def _fields(self) -> tuple[Any, ...]:
        return tuple([getattr(self, field) for field in type(self).__match_args__])

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, Value) or type(self) is not type(other):
            return NotImplemented
        return self._fields() == other._fields()

    def __hash__(self) -> int:
        try:
            return self._hash  # type: ignore[attr-defined, no-any-return]  # a slot, set below
        except AttributeError:
            number = hash((type(self), self._fields()))
            object.__setattr__(self, "_hash", number)
            return number

    def __repr__(self) -> str:
        fields = ", ".join(f"{field}={getattr(self, field)!r}" for field in type(self).__match_args__)
        return f"{type(self).__name__}({fields})"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self._fields()

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} is frozen: {name} cannot be set, make another value")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} is frozen: {name} cannot be deleted")


def _bound(made: ValueType, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> tuple[Any, ...]:
    """The value of each field, from arguments, keywords and defaults."""
    fields = made.__match_args__
    if len(arguments) > len(fields):
        raise TypeError(f"{made.__name__} has {len(fields)} fields, {len(arguments)} were given")
    given = dict(zip(fields, arguments, strict=False))
    for name in keywords:
        if name not in fields or name in given:
            raise TypeError(f"{made.__name__}: {name} is {'given twice' if name in given else 'not a field'}")
    merged = {**made._defaults, **given, **keywords}
    missing = [field for field in fields if field not in merged]
    if missing:
        raise TypeError(f"{made.__name__} lacks {', '.join(missing)}")
    return tuple(merged[field] for field in fields)
