"""Every compilation of the tests is checked between its passes: by `pybpfasm.ir.check`, from the front end on."""

from collections.abc import Callable
from typing import Any

from pybpfasm import compiler
from pybpfasm.compiler.passes.pipeline import Watch
from pybpfasm.ir.check import FormError, check
from pybpfasm.ir.function import Function, Unit


def checking(generate: Callable[..., Any]) -> Callable[..., Any]:
    """The back end's entry, with a check of what it gets and of what each pass makes of it."""

    def generate_checked(unit: Unit, target: Any, watch: Watch | None = None) -> Any:
        def checked(name: str, function: Function) -> None:
            _check(name, function)
            if watch is not None:
                watch(name, function)

        for function in unit.all():
            _check("the front end", function)
        return generate(unit, target, checked)

    return generate_checked


def _check(name: str, function: Function) -> None:
    try:
        check(function)
    except FormError as error:
        raise AssertionError(f"behind {name}: {error}") from None


def install() -> None:
    """Check all compilations of this process from now on."""
    compiler.generate = checking(compiler.generate)  # type: ignore[attr-defined]  # where the compiler looks it up
