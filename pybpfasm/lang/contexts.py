"""Contexts: what the kernel hands to a program, by program type. Those with a packet are in `packets`."""

from typing import TypeVar

from pybpfasm.lang.context_fields import Context, ContextField, context_field
from pybpfasm.lang.context_structs import (
    CgroupDevice,
    FlowKeys,
    SkLookup,
    Sock,
    SockAddr,
    SockCommon,
    SockOps,
    SockoptFields,
    Sysctl,
    TcpSock,
)
from pybpfasm.lang.types import Struct

T = TypeVar("T", bound=Struct)


class Sockopt(SockoptFields):
    """struct bpf_sockopt: a getsockopt(2), after the kernel has answered it, or a setsockopt(2), before it does.

    `retval` is for getsockopt; for setsockopt an `optlen` of -1 says that the kernel shall leave the option alone.
    """

    def optval(self, as_type: type[T]) -> T | None:
        """The caller's buffer as a struct, in place; None if the buffer is shorter."""
        from pybpfasm.lang.maps import only_in_program

        only_in_program("optval")


__all__ = [
    "CgroupDevice",
    "Context",
    "ContextField",
    "FlowKeys",
    "SkLookup",
    "Sock",
    "SockAddr",
    "SockCommon",
    "SockOps",
    "Sockopt",
    "Sysctl",
    "TcpSock",
    "context_field",
]
