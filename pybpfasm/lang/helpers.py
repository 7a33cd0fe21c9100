"""Helper functions of the kernel, typed (bpf-helpers(7), include/uapi/linux/bpf.h). Call them in a BPF program."""

from collections.abc import Callable
from typing import Any, TypeVar

from pybpfasm.lang.contexts import Context, SkMsg, SockOps
from pybpfasm.lang.maps import SockHash, only_in_program
from pybpfasm.lang.types import i64, u64
from pybpfasm.uapi import Helper

F = TypeVar("F", bound=Callable[..., Any])
K = TypeVar("K")


def helper(number: Helper) -> Callable[[F], F]:
    """Mark a function as the typed face of helper `number`."""

    def mark(function: F) -> F:
        function.__bpf_helper__ = number  # type: ignore[attr-defined]  # a mark for the compiler
        return function

    return mark


@helper(Helper.KTIME_GET_NS)
def ktime_get_ns() -> u64:
    """Nanoseconds since boot, without time suspended."""
    only_in_program("ktime_get_ns")


@helper(Helper.GET_CURRENT_PID_TGID)
def get_current_pid_tgid() -> u64:
    """The thread group in the upper 32 bits, the thread in the lower."""
    only_in_program("get_current_pid_tgid")


@helper(Helper.GET_CURRENT_UID_GID)
def get_current_uid_gid() -> u64:
    """The group in the upper 32 bits, the user in the lower."""
    only_in_program("get_current_uid_gid")


@helper(Helper.GET_CURRENT_CGROUP_ID)
def get_current_cgroup_id() -> u64:
    """The id of the current task's cgroup in the v2 hierarchy: its directory's inode number."""
    only_in_program("get_current_cgroup_id")


@helper(Helper.GET_SOCKET_COOKIE)
def get_socket_cookie(ctx: Context) -> u64:
    """A number that no other socket of this machine has had since boot."""
    only_in_program("get_socket_cookie")


@helper(Helper.GET_NETNS_COOKIE)
def get_netns_cookie(ctx: Context) -> u64:
    """A number that no other network namespace has had since boot: that of the context's socket."""
    only_in_program("get_netns_cookie")


@helper(Helper.SOCK_OPS_CB_FLAGS_SET)
def sock_ops_cb_flags_set(ctx: SockOps, flags: int) -> i64:
    """Choose the callbacks that this socket gets from now on (BPF_SOCK_OPS_…_CB_FLAG)."""
    only_in_program("sock_ops_cb_flags_set")


@helper(Helper.SOCK_HASH_UPDATE)
def sock_hash_update(ctx: SockOps, sockets: SockHash[K, Any], key: K, flags: int) -> i64:
    """Enter the context's socket into a SOCKHASH: 0, or a negative errno."""
    only_in_program("sock_hash_update")


@helper(Helper.MSG_REDIRECT_HASH)
def msg_redirect_hash(ctx: SkMsg, sockets: SockHash[K, Any], key: K, flags: int) -> i64:
    """Hand the message to the socket at `key`: SK_PASS, or SK_DROP if there is none (it is still ours then)."""
    only_in_program("msg_redirect_hash")
