"""Decorators that make a function a program, or a part of one."""

from collections.abc import Callable, Iterable, Iterator
from enum import Enum, unique
from typing import Any, Generic, TypeVar

from pybpfasm.lang.contexts import Context, SkMsg, SockAddr, SockOps, Sockopt
from pybpfasm.lang.packets import SkBuff, XdpMd
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


CONNECT4 = ProgramKind(ProgramType.CGROUP_SOCK_ADDR, AttachType.CGROUP_INET4_CONNECT, SockAddr, range(2))
CONNECT6 = ProgramKind(ProgramType.CGROUP_SOCK_ADDR, AttachType.CGROUP_INET6_CONNECT, SockAddr, range(2))
GETSOCKOPT = ProgramKind(ProgramType.CGROUP_SOCKOPT, AttachType.CGROUP_GETSOCKOPT, Sockopt, range(2))
SOCK_OPS = ProgramKind(ProgramType.SOCK_OPS, AttachType.CGROUP_SOCK_OPS, SockOps, range(2))
XDP = ProgramKind(ProgramType.XDP, AttachType.XDP, XdpMd, range(5))
TC = ProgramKind(ProgramType.SCHED_CLS, AttachType.TCX_INGRESS, SkBuff, range(-1, 9))
SK_MSG = ProgramKind(ProgramType.SK_MSG, AttachType.SK_MSG_VERDICT, SkMsg, range(2))


@frozen
class Program(Generic[C]):
    """A function that is to be compiled for a hook; `compile_program` makes a spec of it."""

    kind: ProgramKind
    function: Callable[..., int]

    @property
    def name(self) -> str:
        """The function's name, which the program bears in the kernel (its first 15 bytes)."""
        return self.function.__name__


def connect4(function: Callable[[SockAddr], int]) -> Program[SockAddr]:
    """cgroup/connect4: runs when a socket connects to an IPv4 address. Return 1 to go on, 0 to refuse with EPERM."""
    return Program(CONNECT4, function)


def connect6(function: Callable[[SockAddr], int]) -> Program[SockAddr]:
    """cgroup/connect6: the same for AF_INET6 sockets, also to v4-mapped addresses. Return 1 to go on, 0 to refuse."""
    return Program(CONNECT6, function)


def getsockopt(function: Callable[[Sockopt], int]) -> Program[Sockopt]:
    """cgroup/getsockopt: runs after the kernel's own answer. Return 1 to go on, 0 to refuse with EPERM."""
    return Program(GETSOCKOPT, function)


def sock_ops(function: Callable[[SockOps], int]) -> Program[SockOps]:
    """cgroup sock_ops: runs on events of TCP sockets. Return 1."""
    return Program(SOCK_OPS, function)


def sk_msg(function: Callable[[SkMsg], int]) -> Program[SkMsg]:
    """sk_msg verdict: runs when a socket of a SOCKHASH sends. Return SK_PASS (1) or SK_DROP (0)."""
    return Program(SK_MSG, function)


def xdp(function: Callable[[XdpMd], int]) -> Program[XdpMd]:
    """xdp: runs on each packet that a device receives. Return XDP_PASS (2), XDP_DROP (1), XDP_TX (3)…"""
    return Program(XDP, function)


def tc(function: Callable[[SkBuff], int]) -> Program[SkBuff]:
    """tc: runs on packets that come in or go out at a device. Return TC_ACT_OK (0), TC_ACT_SHOT (2)…, or -1."""
    return Program(TC, function)


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
