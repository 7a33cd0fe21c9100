"""Contexts: what the kernel hands to a program, by program type (include/uapi/linux/bpf.h).

A field's `offset` and access width are those of the uapi struct; its annotation says what the number means. Only fields
marked writable can be assigned.
"""

from typing import Any, ClassVar, TypeVar

from pybpfasm.lang.types import Struct, be16, be32, i32, u32, u64
from pybpfasm.records import frozen

T = TypeVar("T", bound=Struct)


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


class Sock(Context):
    """struct bpf_sock: a socket. `src_port` is in host order, `dst_port` in network order."""

    uapi = "bpf_sock"

    family: u32 = context_field(4)
    type: u32 = context_field(8)
    protocol: u32 = context_field(12)
    mark: u32 = context_field(16)
    src_ip4: be32 = context_field(24)
    src_port: u32 = context_field(44)
    dst_port: be16 = context_field(48, width=2)
    dst_ip4: be32 = context_field(52)
    state: u32 = context_field(72)


class SockAddr(Context):
    """struct bpf_sock_addr: a connect(2) that is about to happen, and the address it goes to.

    `user_ip6` is the address in four words; a v4-mapped one has the IPv4 address in the last.
    """

    uapi = "bpf_sock_addr"

    user_family: u32 = context_field(0)
    user_ip4: be32 = context_field(4, writable=True)
    user_ip6: list[be32] = context_field(8, writable=True, count=4)
    user_port: be16 = context_field(24, writable=True)
    family: u32 = context_field(28)
    type: u32 = context_field(32)
    protocol: u32 = context_field(36)
    sk: Sock = context_field(64, width=8)


class SockOps(Context):
    """struct bpf_sock_ops: something happened to a TCP socket; `op` says what.

    `local_port` is in host order; `remote_port` is in network order and widened to 32 bits: ntohl() gives the number.
    """

    uapi = "bpf_sock_ops"

    op: u32 = context_field(0)
    args: list[u32] = context_field(4, count=4)
    family: u32 = context_field(20)
    remote_ip4: be32 = context_field(24)
    local_ip4: be32 = context_field(28)
    remote_port: be32 = context_field(64)
    local_port: u32 = context_field(68)
    bpf_sock_ops_cb_flags: u32 = context_field(84)
    state: u32 = context_field(88)
    data_segs_out: u32 = context_field(152)
    bytes_acked: u64 = context_field(176, width=8)
    sk: Sock | None = context_field(184, width=8, nullable=True)


class SkMsg(Context):
    """struct sk_msg_md: bytes that a socket is about to send."""

    uapi = "sk_msg_md"

    family: u32 = context_field(16)
    remote_ip4: be32 = context_field(20)
    local_ip4: be32 = context_field(24)
    remote_port: be32 = context_field(60)
    local_port: u32 = context_field(64)
    size: u32 = context_field(68)
    sk: Sock = context_field(72, width=8)


class Sockopt(Context):
    """struct bpf_sockopt: a getsockopt(2), after the kernel has answered it."""

    uapi = "bpf_sockopt"

    sk: Sock = context_field(0, width=8)
    level: i32 = context_field(24)
    optname: i32 = context_field(28)
    optlen: i32 = context_field(32, writable=True)
    retval: i32 = context_field(36, writable=True)

    def optval(self, as_type: type[T]) -> T | None:
        """The caller's buffer as a struct, in place; None if the buffer is shorter."""
        from pybpfasm.lang.maps import only_in_program

        only_in_program("optval")
