"""Maps of what a program can hand on to: programs, devices, CPUs, sockets, cgroups."""

from typing import Any

from pybpfasm.lang.contexts import Context, Sock, SockOps
from pybpfasm.lang.maps import MapDeclaration, method, only_in_program
from pybpfasm.lang.packets import SkMsg
from pybpfasm.lang.types import u32, u64
from pybpfasm.uapi import Helper, MapType


class _Indexed(MapDeclaration[Any, Any]):
    """Maps from numbers to what has a descriptor."""

    @property
    def key_annotation(self) -> Any:
        """Keys are numbers."""
        return u32

    @property
    def value_annotation(self) -> Any:
        """A descriptor, for user space."""
        return u32


class ProgArray(_Indexed):
    """BPF_MAP_TYPE_PROG_ARRAY: programs of one type."""

    type = MapType.PROG_ARRAY

    @method(Helper.TAIL_CALL, "ctx", "map", "index", gives="nothing")
    def tail_call(self, ctx: Context, index: int) -> None:
        """Go on with the program at `index`, and never come back; go on here if there is none."""
        only_in_program("tail_call")


class CgroupArray(_Indexed):
    """BPF_MAP_TYPE_CGROUP_ARRAY."""

    type = MapType.CGROUP_ARRAY

    @method(Helper.CURRENT_TASK_UNDER_CGROUP, "map", "index", gives="signed")
    def has_current_task(self, index: int) -> int:
        """1 if the current task is in the cgroup at `index` or below it, 0 if not, or a negative errno."""
        only_in_program("has_current_task")


class _Redirects(_Indexed):
    """Maps that packets can be redirected by."""

    @method(Helper.REDIRECT_MAP, "map", "key_number", "flags", gives="number")
    def redirect(self, key_number: int, flags: int = 0) -> int:
        """Have the packet sent to the target at the key: XDP_REDIRECT, or the low bits of `flags` if there is none."""
        only_in_program("redirect")


class DevMap(_Redirects):
    """BPF_MAP_TYPE_DEVMAP: network devices, by index."""

    type = MapType.DEVMAP


class DevMapHash(_Redirects):
    """BPF_MAP_TYPE_DEVMAP_HASH: network devices, by any number."""

    type = MapType.DEVMAP_HASH


class CpuMap(_Redirects):
    """BPF_MAP_TYPE_CPUMAP: CPUs, by number."""

    type = MapType.CPUMAP


class XskMap(_Redirects):
    """BPF_MAP_TYPE_XSKMAP: AF_XDP sockets, by queue."""

    type = MapType.XSKMAP


class SockMap(_Indexed):
    """BPF_MAP_TYPE_SOCKMAP: sockets, by index. User space sees their cookies."""

    type = MapType.SOCKMAP

    @property
    def value_annotation(self) -> Any:
        """A cookie, for user space."""
        return u64

    @method(Helper.MAP_LOOKUP_ELEM, "map", "key", gives="socket")
    def lookup(self, key: u32) -> Sock | None:
        """The socket at `key`, or None; it has to be handed to `sk_release`."""
        only_in_program("lookup")

    @method(Helper.SOCK_MAP_UPDATE, "ctx", "map", "key", "flags", gives="signed")
    def update(self, ctx: SockOps, key: u32, flags: int = 0) -> int:
        """Enter the context's socket: 0, or a negative errno."""
        only_in_program("update")

    @method(Helper.MSG_REDIRECT_MAP, "ctx", "map", "index", "flags", gives="number")
    def redirect(self, ctx: SkMsg, index: int, flags: int = 0) -> int:
        """Hand the message to the socket at `index`: SK_PASS, or SK_DROP if there is none."""
        only_in_program("redirect")

    @method(Helper.MAP_DELETE_ELEM, "map", "key")
    def delete(self, key: u32) -> int:
        """Take the socket at `key` out: 0, or a negative errno."""
        only_in_program("delete")


class ReuseportSockArray(_Indexed):
    """BPF_MAP_TYPE_REUSEPORT_SOCKARRAY: sockets that listen on one port."""

    type = MapType.REUSEPORT_SOCKARRAY

    @property
    def value_annotation(self) -> Any:
        """A cookie, for user space."""
        return u64

    @method(Helper.SK_SELECT_REUSEPORT, "ctx", "map", "key", "flags", gives="signed")
    def select(self, ctx: Context, key: u32, flags: int = 0) -> int:
        """Choose the socket at `key`: 0, or a negative errno."""
        only_in_program("select")
