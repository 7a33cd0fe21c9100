"""How a context's fields are declared (include/uapi/linux/bpf.h).

A field's `offset` and access width are those of the uapi struct; its annotation says what the number means. Only fields
marked writable can be assigned, where the hook allows it.
"""

from typing import Any, ClassVar

from pybpfasm.records import frozen


@frozen
class ContextField:
    """Where a context's field lies and how it may be accessed; offset and width in bytes.

    With a `count` it is an array of so many, each `width` wide.
    """

    offset: int
    width: int = 4
    writable: bool = False
    nullable: bool = False
    count: int = 0


def context_field(
    offset: int, *, width: int = 4, writable: bool = False, nullable: bool = False, count: int = 0
) -> Any:
    """A field of a context, as `ContextField` has it."""
    return ContextField(offset, width, writable, nullable, count)


class Context:
    """Base of contexts."""

    uapi: ClassVar[str]
