"""Modules written on the fly: the compiler reads a program's source in its file."""

import importlib.util
import itertools
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

PRELUDE = """
import functools
from typing import TYPE_CHECKING, Annotated

import pybpfasm as bpf
from pybpfasm import *
from pybpfasm import helpers as h
"""

_numbers = itertools.count()

MakeModule = Callable[[str], ModuleType]


def import_source(source: str, folder: Path) -> ModuleType:
    """Import `source`, kept in a file: the compiler reads it there."""
    path = folder / f"written_{next(_numbers)}.py"
    path.write_text(source)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module
