"""Classes of fields, as attrs has them, which cost nothing until one is made.

What a program imports before it can load its BPF programs has about a hundred such classes. attrs writes and compiles
five methods for each: 0.7 to 1.0 ms a class, and 50 ms for its own import, beside 0.03 ms a class here (2026-11-26,
medians of 200). Here `__init__` is written when the first instance is made; what else there is goes by the fields'
names. Where time does not count this library uses attrs.

    @frozen
    class Range:
        start: int
        end: int = field(default=0, eq=False)

The names and their meanings are those of attrs: `define`, `frozen`, `field`, `evolve`, `fields`; a field `_x` is given
as `x`; `__post_init__` is called behind the fields. There are no slots, validators, converters and orders.
"""

import operator
from collections.abc import Callable
from typing import Any, TypeVar, dataclass_transform, overload

__all__ = ["Field", "define", "evolve", "field", "fields", "frozen"]

T = TypeVar("T")

NOTHING: Any = object()


class Field:
    """A field: its name, how it is given, and what it is used for."""

    __slots__ = ("alias", "default", "eq", "factory", "init", "name", "repr")

    def __init__(self, default: Any, factory: Callable[[], Any] | None, init: bool, repr_: bool, eq: bool) -> None:
        self.name = self.alias = ""
        self.default = default
        self.factory = factory
        self.init = init
        self.repr = repr_
        self.eq = eq


def field(
    *,
    default: Any = NOTHING,
    factory: Callable[[], Any] | None = None,
    init: bool = True,
    repr: bool = True,  # noqa: A002 - attrs' name
    eq: bool = True,
) -> Any:
    """A field that is more than a name and a default."""
    return Field(default, factory, init, repr, eq)


@overload
def define(cls: type[T]) -> type[T]: ...
@overload
def define(*, eq: bool = True, repr: bool = True) -> Callable[[type[T]], type[T]]: ...
@dataclass_transform(field_specifiers=(field,))
def define(cls: Any = None, *, eq: bool = True, repr: bool = True) -> Any:  # noqa: A002 - attrs' name
    """A class of fields. With `eq`, instances are compared by them, and cannot be keys."""

    def decorate(decorated: type[T]) -> type[T]:
        return _record(decorated, eq, repr, is_frozen=False)

    return decorate if cls is None else decorate(cls)


@overload
def frozen(cls: type[T]) -> type[T]: ...
@overload
def frozen(*, eq: bool = True, repr: bool = True) -> Callable[[type[T]], type[T]]: ...
@dataclass_transform(field_specifiers=(field,), frozen_default=True)
def frozen(cls: Any = None, *, eq: bool = True, repr: bool = True) -> Any:  # noqa: A002 - attrs' name
    """A class of fields that cannot be assigned. With `eq`, instances are compared by them, and can be keys."""

    def decorate(decorated: type[T]) -> type[T]:
        return _record(decorated, eq, repr, is_frozen=True)

    return decorate if cls is None else decorate(cls)


def fields(cls: type[Any]) -> tuple[Field, ...]:
    """The fields of a class in their order, inherited ones first. Raises `TypeError` if it has none."""
    found: tuple[Field, ...] | None = getattr(cls, "__attrs_attrs__", None)
    if found is None:
        raise TypeError(f"{cls.__name__} is not a class of fields")
    return found


def evolve(instance: T, **changes: Any) -> T:
    """Another instance with some fields changed. Raises `TypeError` for a field that there is not."""
    for each in fields(type(instance)):
        if each.init and each.alias not in changes:
            changes[each.alias] = getattr(instance, each.name)
    return type(instance)(**changes)


def _record(cls: type[T], eq: bool, with_repr: bool, *, is_frozen: bool) -> type[T]:
    found = _collect(cls)
    made: Any = cls
    made.__attrs_attrs__ = tuple(found.values())  # attrs' own evolve() and fields() go by this
    made.__match_args__ = tuple([each.name for each in found.values() if each.init])  # type: ignore[misc]
    own = cls.__dict__
    if "__init__" not in own:
        made.__init__ = _first_init(cls, is_frozen)
    if with_repr and "__repr__" not in own:
        made.__repr__ = _repr
    if eq and "__eq__" not in own:
        _add_equality(made, [each.name for each in found.values() if each.eq], is_frozen)
    if is_frozen:
        made.__setattr__ = made.__delattr__ = _refuse
    return cls


def _collect(cls: type[Any]) -> dict[str, Field]:
    """The fields by name: those of base classes, then the annotations of this one."""
    found: dict[str, Field] = {}
    for base in reversed(cls.__mro__[1:]):
        found.update({each.name: each for each in base.__dict__.get("__attrs_attrs__", ())})
    for name, annotation in cls.__dict__.get("__annotations__", {}).items():  # noqa: RUF063 - inspect is slow to import
        # Not str() of what is no text: it is slow for types in brackets.
        if "ClassVar" in (annotation if isinstance(annotation, str) else str(getattr(annotation, "__origin__", ""))):
            continue
        default = cls.__dict__.get(name, NOTHING)
        each = default if isinstance(default, Field) else Field(default, None, True, True, True)
        each.name, each.alias = name, name.lstrip("_")
        if name in cls.__dict__:
            delattr(cls, name)
        found.pop(name, None)
        found[name] = each
    return found


def _first_init(cls: Any, is_frozen: bool) -> Callable[..., None]:
    """An `__init__` that puts the real one in its place."""

    def first(self: Any, *arguments: Any, **named: Any) -> None:
        cls.__init__ = _write_init(cls, is_frozen)
        cls.__init__(self, *arguments, **named)

    return first


def _write_init(cls: Any, is_frozen: bool) -> Callable[..., None]:
    parameters: list[str] = []
    lines: list[str] = ["__record = self.__dict__"] if is_frozen else []
    scope: dict[str, Any] = {"NOTHING": NOTHING}
    for each in fields(cls):
        value = each.alias if each.init else f"default_{each.alias}"
        scope[f"default_{each.alias}"] = each.default
        if each.factory is not None:
            scope[f"make_{each.alias}"] = each.factory
            made = f"make_{each.alias}()"
            value = f"{made} if {each.alias} is NOTHING else {each.alias}" if each.init else made
        elif not each.init and each.default is NOTHING:
            continue
        if each.init:
            optional = each.factory is not None or each.default is not NOTHING
            parameters.append(f"{each.alias}=default_{each.alias}" if optional else each.alias)
        lines.append(f"__record[{each.name!r}] = {value}" if is_frozen else f"self.{each.name} = {value}")
    if hasattr(cls, "__post_init__"):
        lines.append("self.__post_init__()")
    body = "\n    ".join(lines or ["pass"])
    exec(f"def __init__({', '.join(['self', *parameters])}):\n    {body}", scope)  # noqa: S102 - as attrs does
    init: Callable[..., None] = scope["__init__"]
    init.__qualname__ = f"{cls.__qualname__}.__init__"
    return init


def _repr(self: Any) -> str:
    shown = ", ".join(f"{each.name}={getattr(self, each.name)!r}" for each in fields(type(self)) if each.repr)
    return f"{type(self).__qualname__}({shown})"


def _add_equality(cls: Any, names: list[str], is_frozen: bool) -> None:
    get: Callable[[Any], Any] = operator.attrgetter(*names) if names else lambda _: ()

    def equal(self: Any, other: object) -> Any:
        if other is self:
            return True
        return get(self) == get(other) if other.__class__ is self.__class__ else NotImplemented

    def hash_(self: Any) -> int:
        return hash((self.__class__, get(self)))

    cls.__eq__ = equal
    cls.__hash__ = hash_ if is_frozen else None


def _refuse(self: Any, name: str, *_: Any) -> None:
    raise AttributeError(f"{type(self).__name__} cannot be changed: its {name!r} neither; evolve() makes another")
