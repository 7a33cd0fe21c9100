"""What a value of the intermediate form is: a number, or an address of a kind that the verifier knows."""

from enum import Enum, unique

from pybpfasm.records import frozen


@unique
class Kind(Enum):
    """Kinds of values, as kernel/bpf/verifier.c has them in `enum bpf_reg_type`.

    For the verifier an untrusted address is a number: only helpers read what lies there.
    """

    SCALAR = "scalar"
    CONTEXT = "ctx"
    STACK = "stack"
    MAP = "map"
    MAP_VALUE = "map_value"
    PACKET = "packet"
    PACKET_META = "packet_meta"
    PACKET_END = "packet_end"
    SOCKET = "sock"
    MEMORY = "memory"
    KERNEL = "kernel"
    UNTRUSTED = "untrusted"
    FUNCTION = "function"


@frozen
class Type:
    """A value's type. A nullable address may be 0; nothing is read through it before it has been tested."""

    kind: Kind
    nullable: bool = False

    @property
    def is_address(self) -> bool:
        """Whether it is an address: all its 64 bits count, and it is never computed with in 32."""
        return self.kind is not Kind.SCALAR

    def __str__(self) -> str:
        return f"{self.kind.value}?" if self.nullable else self.kind.value


SCALAR = Type(Kind.SCALAR)
CONTEXT = Type(Kind.CONTEXT)
STACK = Type(Kind.STACK)
