"""The helpers' prototypes, as the header's documentation declares them.

Types are C's, with one space between words and before the stars: "u64", "const void *". A helper whose argument is of
another type from program type to program type, such as get_socket_cookie, has a prototype for each.
"""

import re
from functools import cache
from typing import NamedTuple

from pybpfasm.uapi.declarations import DECLARATIONS
from pybpfasm.uapi.helpers import Helper


class Parameter(NamedTuple):
    """A parameter: its C type and its name."""

    type: str
    name: str


class Prototype(NamedTuple):
    """A helper's prototype; after the parameters of a `variadic` one come others as wanted."""

    name: str
    returns: str
    parameters: tuple[Parameter, ...]
    variadic: bool = False

    def __str__(self) -> str:
        """The declaration in C."""
        listed = [_declare(*parameter) for parameter in self.parameters] + ["..."] * self.variadic
        return f"{_declare(self.returns, self.name)}({', '.join(listed) or 'void'})"


def prototype(helper: Helper) -> Prototype:
    """A helper's first prototype; raises ValueError for UNSPEC, which is no function."""
    return overloads(helper)[0]


def overloads(helper: Helper) -> tuple[Prototype, ...]:
    """All prototypes of a helper, one for each type of context; raises ValueError for UNSPEC, which is no function."""
    name = f"bpf_{helper.name.lower()}"
    if name not in _table():
        raise ValueError(f"{name} is not a function: it has no prototype")
    return _table()[name]


@cache
def _table() -> dict[str, tuple[Prototype, ...]]:
    found: dict[str, tuple[Prototype, ...]] = {}
    for declaration in DECLARATIONS.strip().splitlines():
        read = _read(declaration)
        found[read.name] = (*found.get(read.name, ()), read)
    return found


def _read(declaration: str) -> Prototype:
    """Read a line such as "void *bpf_map_lookup_elem(struct bpf_map *map, const void *key)"."""
    head, _, tail = declaration.removesuffix(")").partition("(")
    returns, name = _split(head)
    listed = [] if tail == "void" else tail.split(", ")
    variadic = listed[-1:] == ["..."]
    parameters = tuple(Parameter(*_split(each)) for each in listed[: len(listed) - variadic])
    return Prototype(name, returns, parameters, variadic)


def _split(declarator: str) -> tuple[str, str]:
    """Type and name of "const void *key"."""
    found = re.fullmatch(r"(.*?) ?(\**)(\w+)", declarator)
    if found is None:
        raise AssertionError(f"declarations.py: {declarator!r} is no declarator")
    return f"{found[1]} {found[2]}".rstrip(), found[3]


def _declare(type_: str, name: str) -> str:
    return f"{type_}{'' if type_.endswith('*') else ' '}{name}"
