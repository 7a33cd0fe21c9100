"""Which argument goes to which parameter, as Python has it.

By the function's code object: `inspect` costs as much to import as a third of this compiler (it is used for what is no
plain function).
"""

import types
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from pybpfasm.records import frozen

T = TypeVar("T")

NO_DEFAULT: Any = object()

_VARIADIC = 0x04 | 0x08  # CO_VARARGS, CO_VARKEYWORDS


@frozen
class Parameter:
    """A parameter's name, what it is without an argument, and how it may be given."""

    name: str
    default: Any
    by_place: bool
    by_name: bool


def parameters_of(function: Any) -> tuple[Parameter, ...]:
    """The parameters of a function, or of a method without its first one, but for `*args` and `**kwargs`."""
    bound = isinstance(function, types.MethodType)
    plain = function.__func__ if bound else function
    if not isinstance(plain, types.FunctionType) or hasattr(plain, "__wrapped__"):
        return _by_inspect(function)
    code = plain.__code__
    defaults = plain.__defaults__ or ()
    named = plain.__kwdefaults__ or {}
    found: list[Parameter] = []
    for at, name in enumerate(code.co_varnames[: code.co_argcount]):
        back = code.co_argcount - at
        default = defaults[-back] if back <= len(defaults) else NO_DEFAULT
        found.append(Parameter(name, default, True, at >= code.co_posonlyargcount))
    for name in code.co_varnames[code.co_argcount : code.co_argcount + code.co_kwonlyargcount]:
        found.append(Parameter(name, named.get(name, NO_DEFAULT), False, True))
    return tuple(found[bound:])


def bind(function: Any, arguments: Sequence[T], keywords: Mapping[str, T]) -> dict[str, T]:
    """The arguments by the names of the parameters, in the parameters' order. Raises `TypeError` as a call would."""
    plain = getattr(function, "__func__", function)
    if not isinstance(plain, types.FunctionType) or plain.__code__.co_flags & _VARIADIC:
        from inspect import signature

        return dict(signature(function).bind(*arguments, **keywords).arguments)
    parameters = parameters_of(function)
    by_place = [each for each in parameters if each.by_place]
    if len(arguments) > len(by_place):
        raise TypeError("too many positional arguments")
    given = {parameter.name: argument for parameter, argument in zip(by_place, arguments, strict=False)}
    for parameter in parameters:
        name = parameter.name
        if name in keywords and parameter.by_name:
            if name in given:
                raise TypeError(f"multiple values for argument {name!r}")
            given[name] = keywords[name]
        elif name not in given and parameter.default is NO_DEFAULT:
            kind = "" if parameter.by_place else "keyword-only "
            raise TypeError(f"missing a required {kind}argument: {name!r}")
    unexpected = keywords.keys() - {each.name for each in parameters if each.by_name}
    if unexpected:
        raise TypeError(f"got an unexpected keyword argument {min(unexpected)!r}")
    return {each.name: given[each.name] for each in parameters if each.name in given}


def _by_inspect(function: Any) -> tuple[Parameter, ...]:
    from inspect import Parameter as Inspected
    from inspect import signature

    by_place = (Inspected.POSITIONAL_ONLY, Inspected.POSITIONAL_OR_KEYWORD)
    by_name = (Inspected.POSITIONAL_OR_KEYWORD, Inspected.KEYWORD_ONLY)
    return tuple(
        Parameter(
            each.name,
            NO_DEFAULT if each.default is each.empty else each.default,
            each.kind in by_place,
            each.kind in by_name,
        )
        for each in signature(function).parameters.values()
        if each.kind in (*by_place, *by_name)
    )
