"""Records as Python values: by a Struct class, a BTF type, or as bytes."""

from collections.abc import Callable
from typing import Any

from pybpfasm import btf
from pybpfasm.kernel.maps.codecs import codec_of
from pybpfasm.lang.types import LayoutError, value_type


def decoder_of(type_: Any, name: str) -> Callable[[bytes], Any]:
    """From a record's bytes to its value: a `Struct` class, an integer of `pybpfasm.lang`, a BTF type, or bytes.

    A record may be longer than its type, for the rings pad records; the rest is left out. The decoder raises
    `LayoutError` for one that is shorter. Raises `LayoutError` for a type without a layout.
    """
    if type_ is bytes or type_ is None:
        return _as_it_is
    size = type_.size if isinstance(type_, btf.Type) else value_type(type_).size
    unpack = codec_of(type_, size).unpack

    def decode(record: bytes) -> Any:
        if len(record) == size:
            return unpack(record)
        if len(record) < size:
            raise LayoutError(f"a record of {name} has {len(record)} bytes, and its type {size}")
        return unpack(record[:size])

    return decode


def _as_it_is(record: bytes) -> bytes:
    return record
