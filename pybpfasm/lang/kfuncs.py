"""Functions of the kernel that programs can call, declared as they are in C."""

from collections.abc import Callable
from typing import Any, TypeVar, overload

from pybpfasm.records import frozen

F = TypeVar("F", bound=Callable[..., Any])


@frozen
class Kfunc:
    """What a declaration says beside its types: whether the result has to be given back, or the argument is."""

    acquire: bool = False
    release: bool = False


@overload
def kfunc(function: F, /) -> F: ...
@overload
def kfunc(*, acquire: bool = ..., release: bool = ...) -> Callable[[F], F]: ...
def kfunc(function: Any = None, /, *, acquire: bool = False, release: bool = False) -> Any:
    """Declare a kfunc by its prototype: `@kfunc(acquire=True) def bpf_task_from_pid(pid: i32) -> task_struct | None`.

    Its body is not looked at. What one with `acquire` gives has to be handed to one with `release` on every path.
    """

    def mark(declared: Any) -> Any:
        declared.__bpf_kfunc__ = Kfunc(acquire, release)
        return declared

    return mark if function is None else mark(function)
