"""Global variables: one value for all programs of a collection and all CPUs, which user space sees, too.

They lie in maps of one entry: `.data`, `.bss` (what is zero at first) and `.rodata` (what programs cannot change).
"""

from typing import Any, Generic, TypeVar, get_args

from pybpfasm.lang.types import LayoutError, pack, unpack, value_type

T = TypeVar("T")


class _Variable(Generic[T]):
    """A declared variable. Outside of programs `value` is an ordinary attribute."""

    def __init__(self, initial: T | None) -> None:
        self._initial = initial
        from copy import copy  # by programs with variables only

        self._value: T | None = copy(initial)

    @property
    def annotation(self) -> Any:
        """The type in the brackets of its declaration."""
        declared = getattr(self, "__orig_class__", None)
        if declared is None:
            raise LayoutError(f"{type(self).__name__} needs its type: {type(self).__name__}[u64](…)")
        return get_args(declared)[0]

    def packed(self) -> bytes:
        """Its first value as bytes; without one, zeros. Raises `LayoutError` if it does not fit the type."""
        size = value_type(self.annotation).size
        return bytes(size) if self._initial is None else pack(self.annotation, self._initial)

    def _now(self) -> T:
        if self._value is None:
            self._value = unpack(self.annotation, self.packed())
        found: Any = self._value
        return found  # type: ignore[no-any-return]  # of the declared type


class Global(_Variable[T]):
    """`count = Global[u64]()`: a variable that programs read and write as `count.value`. It is zero at first."""

    def __init__(self, initial: T | None = None) -> None:
        super().__init__(initial)

    @property
    def value(self) -> T:
        """What it holds."""
        return self._now()

    @value.setter
    def value(self, value: T) -> None:
        self._value = value


class ReadOnly(_Variable[T]):
    """`limit = ReadOnly[u32](64)`: a number or a struct that programs only read; the verifier knows its value."""

    def __init__(self, value: T) -> None:
        super().__init__(value)

    @property
    def value(self) -> T:
        """What it holds."""
        return self._now()


Variable = Global[Any] | ReadOnly[Any]
