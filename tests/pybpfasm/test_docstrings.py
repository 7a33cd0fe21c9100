"""Docstrings of what users import: there is one, and it tells the errors that are raised there."""

import ast
import importlib
import inspect
import textwrap
from collections.abc import Iterator
from types import FunctionType
from typing import Any

import pytest

PACKAGES = (
    "pybpfasm",
    "pybpfasm.btf",
    "pybpfasm.compiler",
    "pybpfasm.errors",
    "pybpfasm.explain",
    "pybpfasm.interop",
    "pybpfasm.isa",
    "pybpfasm.kernel",
    "pybpfasm.kernel.events",
    "pybpfasm.kernel.links",
    "pybpfasm.kernel.maps",
    "pybpfasm.records",
    "pybpfasm.scripts",
    "pybpfasm.sim",
    "pybpfasm.spec",
    "pybpfasm.testing",
)


def public() -> Iterator[tuple[str, Any, Any]]:
    """Each public function, class and method: its name, itself, and the class that it is of."""
    seen: set[int] = set()
    for package in PACKAGES:
        module = importlib.import_module(package)
        for name in getattr(module, "__all__", [each for each in vars(module) if not each.startswith("_")]):
            found = getattr(module, name)
            if id(found) in seen or not str(getattr(found, "__module__", "")).startswith("pybpfasm"):
                continue
            seen.add(id(found))
            if isinstance(found, FunctionType):
                yield f"{package}.{name}", found, None
            elif inspect.isclass(found):
                yield f"{package}.{name}", found, None
                for member, value in vars(found).items():
                    plain = getattr(value, "__func__", getattr(value, "fget", value))
                    if not member.startswith("_") and isinstance(plain, FunctionType):
                        yield f"{package}.{name}.{member}", plain, found


PUBLIC = list(public())


@pytest.mark.parametrize(("name", "found", "owner"), PUBLIC, ids=[each[0] for each in PUBLIC])
def test_it_has_a_docstring_with_its_errors(name: str, found: Any, owner: Any) -> None:
    """A method may inherit its text; what a function itself raises is named, there or in its class's text."""
    member = name.rpartition(".")[2]
    text = inspect.getdoc(getattr(owner, member) if owner is not None else found) or ""
    assert text, f"{name} has no docstring"
    if isinstance(found, FunctionType) and raised(found):
        whole = text + (inspect.getdoc(owner) or "" if owner is not None else "")
        assert any(word in whole for word in ("aise", "Error", " see `", "as `")), (
            f"{name} raises {sorted(raised(found))}, which its docstring does not tell"
        )


def raised(function: FunctionType) -> set[str]:
    """The errors that a function raises by itself, but for those of wrong types, which type checkers tell."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError):
        return set()
    calls = [each.exc.func for each in ast.walk(tree) if isinstance(each, ast.Raise) and isinstance(each.exc, ast.Call)]
    names = {each.id for each in calls if isinstance(each, ast.Name)}
    return {each for each in names if each.endswith("Error")} - {"TypeError", "AssertionError", "NotImplementedError"}
