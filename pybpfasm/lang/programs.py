"""What programs are, and decorators of their parts; those that make programs are in `hooks` and `tracing`."""

from collections.abc import Callable, Iterable, Iterator
from enum import Enum, unique
from typing import Any, Generic, TypeVar

from pybpfasm.lang.context_fields import Context
from pybpfasm.records import frozen
from pybpfasm.uapi import AttachType, ProgramType

C = TypeVar("C", bound=Context)
F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")


@unique
class Calling(Enum):
    """What a program's parameters are."""

    CONTEXT = "its context"
    RECORD = "its context, a struct that the program declares"
    REGISTERS = "a function's arguments, in registers"
    RAW = "a tracepoint's arguments"
    TYPED = "a function's arguments, of whose types the verifier knows"


@frozen
class ProgramKind:
    """A hook: what the kernel calls it, what it hands over, and what a program there may return.

    `section` is where an object file would have it, and says where it is attached; `flags` are those of loading.
    """

    program_type: ProgramType
    attach_type: AttachType
    context: type[Context]
    returns: range
    calling: Calling = Calling.CONTEXT
    section: str = ""
    flags: int = 0

    @property
    def attach_to(self) -> str | None:
        """What is named as the place to attach to, if any is."""
        return self.section.partition("/")[2] or None


@frozen
class Program(Generic[C]):
    """A function that is to be compiled for a hook; `compile_program` makes a spec of it."""

    kind: ProgramKind
    function: Callable[..., int]

    @property
    def name(self) -> str:
        """The function's name, which the program bears in the kernel (its first 15 bytes)."""
        return self.function.__name__


def inline(function: F) -> F:
    """A function that programs may call: it is compiled into each place that calls it."""
    function.__bpf_inline__ = True  # type: ignore[attr-defined]  # a mark for the compiler
    return function


def subprogram(function: F) -> F:
    """A function that programs may call: it is compiled once, with registers and a stack of its own.

    It has up to five parameters, numbers, contexts and pointers to structs, and returns a number or None.
    """
    function.__bpf_subprogram__ = True  # type: ignore[attr-defined]  # a mark for the compiler
    return function


def callback(function: F) -> F:
    """A function that the kernel calls: the body of `loop` or `for_each`. It returns 0 to go on, 1 to end."""
    function.__bpf_callback__ = True  # type: ignore[attr-defined]  # a mark for the compiler
    return function


def unroll(values: Iterable[T]) -> Iterator[T]:
    """In a program, `for x in unroll((…))` repeats its body once for each constant."""
    return iter(values)
