"""Public names that are loaded when they are first used (PEP 562), so that importing one costs little."""

from collections.abc import Callable, Mapping
from importlib import import_module
from sys import modules


def lazy_attributes(package: str, names_by_module: Mapping[str, str]) -> Callable[[str], object]:
    """The `__getattr__` of a package whose modules hold these names, given as words: `{"module": "name other"}`."""
    module_of = {name: module for module, names in names_by_module.items() for name in names.split()}

    def get(name: str) -> object:
        if name not in module_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = import_module(f"{package}.{module_of[name]}")
        # A name may be a module itself, of a package in between.
        found = getattr(module, name) if hasattr(module, name) else import_module(f"{module.__name__}.{name}")
        setattr(modules[package], name, found)
        return found

    return get
