"""The programs of a Python file, compiled."""

import importlib.util
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

from pybpfasm.cli.errors import InputError
from pybpfasm.compiler import compile_collection
from pybpfasm.lang.programs import Program
from pybpfasm.spec import CollectionSpec


def compiled(path: Path) -> CollectionSpec:
    """All programs that the file has by name, with the maps that they share; the file is run, as by `import`.

    Files beside it can be imported from it. Raises `InputError` if it cannot be run or has no program, `CompileError`
    with the place of what cannot be compiled.
    """
    return compile_collection(programs(path), {}, {})


def programs(path: Path) -> list[Program[Any]]:
    """All programs that the file has by name, in its order; it is run. Raises `InputError`."""
    module = _run(path)
    found = dict.fromkeys(each for each in vars(module).values() if isinstance(each, Program))
    if not found:
        raise InputError(f"{path}: there is no program in it: a function with a hook, such as @pybpfasm.connect4")
    return list(found)


def _run(path: Path) -> ModuleType:
    if not path.is_file():
        found = "there is no such file" if not path.exists() else "this is no file that can be imported"
        raise InputError(f"{path}: {found if not path.is_dir() else 'this is a directory: name a file'}")
    # By a name that no module has that is imported. There it stays: what its annotations name is looked up by it later.
    spec = importlib.util.spec_from_file_location(str(path.absolute()), path)
    if spec is None or spec.loader is None:
        raise InputError(f"{path}: this is no Python file")
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.parent.absolute()))
    try:
        spec.loader.exec_module(module)
    except SystemExit as error:
        reason = f"it ends itself by sys.exit({'' if error.code is None else repr(error.code)}) when it is imported"
        raise InputError(f"{path}: {reason}: do that below `if __name__ == '__main__':`") from None
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - whatever the user's file raises is told in a line
        raise InputError(_told(path, error)) from None
    finally:
        sys.path.pop(0)
    return module


def _told(path: Path, error: BaseException) -> str:
    if isinstance(error, SyntaxError):
        return f"{error.filename or path}:{f'{error.lineno}:' if error.lineno else ''} {error.msg}"
    lines = [each.lineno for each in traceback.extract_tb(error.__traceback__) if each.filename == str(path)]
    if isinstance(error, ValueError) and not lines:
        return f"{path}: {error}"  # null bytes are no SyntaxError before Python 3.11.4
    place = f"{path}:{lines[-1]}" if lines else str(path)
    try:
        return f"{place}: {type(error).__name__}: {error}"
    except Exception:  # noqa: BLE001 - its own text is the user's code, too
        return f"{place}: {type(error).__name__}"
