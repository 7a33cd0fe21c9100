"""The world around a program: clock, task, sockets, and what the kernel would answer.

Several runs may share a `World`: they see the same clock and sockets. What one run does to it is in its `Observed`.
"""

import random
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from pybpfasm.sim.contexts.sockets import Sock
from pybpfasm.sim.errors import SimError
from pybpfasm.sim.memory import BYTE_ORDERS, ByteOrder

# HZ of most distributions' kernels; jiffies64 counts in it.
_HZ = 1000
_INITIAL_JIFFIES = 300 * _HZ  # include/linux/jiffies.h: the low half wraps five minutes after boot
_M32 = 0xFFFFFFFF


@attrs.define(eq=False)
class KernelObject:
    """Something of the kernel's own that a program gets a pointer to: a task, a cgroup, an inode.

    `data` are the bytes that the program finds there, laid out as its BTF says; it cannot write them.
    """

    name: str
    data: bytes = b""


def _check_cpus(_: "World", __: "attrs.Attribute[int]", cpus: int) -> None:
    if cpus < 1:
        raise SimError(f"a world has one CPU at least: cpus is {cpus}")


def _check_order(_: "World", __: "attrs.Attribute[ByteOrder]", order: str) -> None:
    if order not in BYTE_ORDERS:
        raise SimError(f"byteorder is {order!r}: it is 'little' or 'big'")


@attrs.define(eq=False)
class World:
    """What helpers answer with; all of it may be set, also between runs.

    Each reading of a clock moves it on by `tick_ns`. `uid`, `gid`, `pid`, `tgid`, `comm` and `cgroup_id` are the
    current task's (`pid` is its thread's number, `tgid` what ps calls PID); `ancestor_cgroup_ids` are its cgroup's
    ancestors', from the root on, with itself last. `socket_cookie` and `netns_cookie` are for sockets that have none of
    their own. `lookup` finds sockets for sk_lookup_tcp and the like, beside `sockets`; `fib` is fib_lookup's answer;
    `stack` the canned addresses of get_stack and get_stackid. `variables` are kernel variables by name, a list has one
    for each CPU. `random_seed` makes get_prandom_u32 the same in each run.
    """

    clock_ns: int = 1_000_000_000
    tick_ns: int = 1_000
    realtime_offset_ns: int = 1_700_000_000_000_000_000
    suspended_ns: int = 0
    uid: int = 1000
    gid: int = 1000
    pid: int = 1234
    tgid: int = 1234
    comm: str = "sim"
    cgroup_id: int = 1
    ancestor_cgroup_ids: list[int] = attrs.field(factory=list)
    cpu: int = 0
    cpus: int = attrs.field(default=4, validator=_check_cpus)
    numa_node: int = 0
    socket_cookie: int = 1
    socket_uid: int = 1000
    netns_cookie: int = 1
    sockets: list[Sock] = attrs.field(factory=list)
    lookup: Callable[[str, bytes], Sock | None] | None = None
    fib: "FibAnswer | None" = None
    stack: list[int] = attrs.field(factory=list)
    user_stack: list[int] = attrs.field(factory=list)
    variables: dict[str, Any] = attrs.field(factory=dict)
    random_seed: int = 0
    byteorder: ByteOrder = attrs.field(default="little", validator=_check_order)
    task: KernelObject = attrs.field(factory=lambda: KernelObject("task"))
    cgroup: KernelObject = attrs.field(factory=lambda: KernelObject("cgroup"))
    _random: random.Random = attrs.field(init=False, repr=False)
    _next_cookie: int = attrs.field(init=False, default=0x1000, repr=False)

    def __attrs_post_init__(self) -> None:
        self._random = random.Random(self.random_seed)  # noqa: S311 - the same numbers each time are wanted

    def now_ns(self) -> int:
        """The monotonic clock; each reading moves it on."""
        self.clock_ns += self.tick_ns
        return self.clock_ns

    def advance(self, nanoseconds: int) -> None:
        """Let time pass."""
        self.clock_ns += nanoseconds

    def jiffies(self) -> int:
        """Ticks since boot, as the kernel counts them at 1000 Hz."""
        # jiffies_64 begins 5 minutes before the low half wraps: an unsigned number of 32 bits.
        return (-_INITIAL_JIFFIES & _M32) + self.now_ns() * _HZ // 1_000_000_000

    def random_u32(self) -> int:
        """The next pseudo-random number of 32 bits."""
        return self._random.getrandbits(32)

    def cookie_of(self, sock: Sock) -> int:
        """A socket's cookie; a socket without one gets one that no other has."""
        if not sock.cookie:
            sock.cookie = self._next_cookie
            self._next_cookie += 1
        return sock.cookie


@attrs.frozen
class FibAnswer:
    """What fib_lookup answers: its return value, and fields of struct bpf_fib_lookup to fill in.

    Addresses of devices are 6 bytes; `destination` is the gateway's address as 4 or 16 bytes, if it is to be changed.
    """

    returns: int = 0
    ifindex: int = 1
    source_mac: bytes = bytes(6)
    destination_mac: bytes = bytes(6)
    destination: bytes | None = None
    metric: int = 0
    mtu: int = 1500


@attrs.frozen
class Redirect:
    """Where a packet, a message or a socket is to go: by which helper, to what, with which flags.

    `target` is an interface's index, a socket, or what the map holds at `key`.
    """

    helper: str
    target: Any
    flags: int
    map: str | None = None
    key: bytes | None = None


@attrs.frozen
class Event:
    """A record that went to user space: through which map, on which CPU, and its bytes."""

    map: str
    cpu: int
    data: bytes


@attrs.frozen
class Action:
    """Something else that the program did: the helper's name and its arguments by name."""

    helper: str
    arguments: Mapping[str, Any]


@attrs.define
class Observed:
    """What one run did to the world, in order."""

    printed: list[str] = attrs.field(factory=list)
    redirects: list[Redirect] = attrs.field(factory=list)
    events: list[Event] = attrs.field(factory=list)
    actions: list[Action] = attrs.field(factory=list)

    def act(self, helper: str, **arguments: Any) -> None:
        """Note an action."""
        self.actions.append(Action(helper, arguments))
