"""Sockets that are looked up, given back, and seen as sockets of another kind."""

import ast
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pybpfasm.compiler.frontend.values import Constant, Pointer, Value, describe
from pybpfasm.ir.operations import Argument, Call
from pybpfasm.ir.types import Kind, Type
from pybpfasm.lang import sockets as lang
from pybpfasm.lang.contexts import Context, Sock, SockCommon, TcpSock
from pybpfasm.uapi import Helper

if TYPE_CHECKING:
    from pybpfasm.compiler.frontend.lowering import Lowering

_LOOKUPS: dict[Callable[..., Any], tuple[Helper, type[Context]]] = {
    lang.sk_lookup_tcp: (Helper.SK_LOOKUP_TCP, Sock),
    lang.skc_lookup_tcp: (Helper.SKC_LOOKUP_TCP, SockCommon),
    lang.sk_lookup_udp: (Helper.SK_LOOKUP_UDP, Sock),
}
_SEEN_AS: dict[Callable[..., Any], tuple[Helper, type[Context]]] = {
    lang.sk_fullsock: (Helper.SK_FULLSOCK, Sock),
    lang.tcp_sock: (Helper.TCP_SOCK, TcpSock),
    lang.get_listener_sock: (Helper.GET_LISTENER_SOCK, Sock),
}
_AS_KERNELS: dict[Callable[..., Any], Helper] = {
    lang.skc_to_tcp_sock: Helper.SKC_TO_TCP_SOCK,
    lang.skc_to_tcp6_sock: Helper.SKC_TO_TCP6_SOCK,
    lang.skc_to_tcp_timewait_sock: Helper.SKC_TO_TCP_TIMEWAIT_SOCK,
    lang.skc_to_tcp_request_sock: Helper.SKC_TO_TCP_REQUEST_SOCK,
    lang.skc_to_udp6_sock: Helper.SKC_TO_UDP6_SOCK,
    lang.skc_to_unix_sock: Helper.SKC_TO_UNIX_SOCK,
    lang.skc_to_mptcp_sock: Helper.SKC_TO_MPTCP_SOCK,
    lang.sock_from_file: Helper.SOCK_FROM_FILE,
}
_TUPLES = (lang.Tuple4.__layout__.size, lang.Tuple6.__layout__.size)


class Sockets:
    """Compiles calls of these functions."""

    def __init__(self, lowering: "Lowering") -> None:
        self._lowering = lowering

    def rules(self) -> dict[Callable[..., Any], Callable[[ast.Call], Value]]:
        """What compiles a call of each."""
        return {
            **{each: self._with(self._look_up, each) for each in _LOOKUPS},
            **{each: self._with(self._seen_as, each) for each in _SEEN_AS},
            **{each: self._with(self._as_the_kernels, each) for each in _AS_KERNELS},
            lang.sk_release: self._release,
        }

    @staticmethod
    def _with(rule: Callable[[ast.Call, Any], Value], function: Any) -> Callable[[ast.Call], Value]:
        return lambda node: rule(node, function)

    def _look_up(self, node: ast.Call, function: Callable[..., Any]) -> Pointer:
        lowering = self._lowering
        bound = lowering.calls.bind(node, function)
        context = lowering.calls.plain_argument(bound["ctx"], lowering.calls.expected(node, Context))
        address, size = lowering.maps.data(bound["peers"])
        if size not in _TUPLES:
            lowering.fail(bound["peers"], "a Tuple4 or a Tuple6 is wanted")
        netns = self._number(bound["netns"]) if "netns" in bound else lang.CURRENT_NETNS
        flags = self._number(bound["flags"]) if "flags" in bound else 0
        helper, target = _LOOKUPS[function]
        return self._found(node, helper, (context, address, size, netns, flags), target)

    def _seen_as(self, node: ast.Call, function: Callable[..., Any]) -> Pointer:
        helper, target = _SEEN_AS[function]
        argument = self._lowering.calls.bind(node, function)["sock"]
        return self._found(node, helper, (self._socket(argument),), target)

    def _as_the_kernels(self, node: ast.Call, function: Callable[..., Any]) -> Pointer:
        """A pointer to a struct of the kernel's, of which the verifier knows."""
        lowering = self._lowering
        bound = lowering.calls.bind(node, function)
        thing = lowering.calls.kernel_object(bound["file" if function is lang.sock_from_file else "sock"])
        target = lowering.kernel.class_argument(bound["as_type"])
        result = lowering.value(Type(Kind.KERNEL, nullable=True))
        lowering.emit(Call(result, _AS_KERNELS[function], (thing,), lowering.location(node)))
        return Pointer(result, target, nullable=True, kind=Kind.KERNEL)

    def _release(self, node: ast.Call) -> Constant:
        lowering = self._lowering
        socket = self._socket(lowering.calls.bind(node, lang.sk_release)["sock"])
        lowering.emit(Call(None, Helper.SK_RELEASE, (socket,), lowering.location(node)))
        return Constant(None)

    def _found(self, node: ast.Call, helper: Helper, arguments: tuple[Argument, ...], target: Any) -> Pointer:
        result = self._lowering.value(Type(Kind.SOCKET, nullable=True))
        self._lowering.emit(Call(result, helper, arguments, self._lowering.location(node)))
        return Pointer(result, target, nullable=True, kind=Kind.SOCKET)

    def _socket(self, node: ast.expr) -> Argument:
        value = self._lowering.expressions.value(node)
        if not isinstance(value, Pointer) or value.target not in (Sock, SockCommon):
            self._lowering.fail(node, f"a socket is wanted here, this is {describe(value)}")
        if value.nullable:
            self._lowering.fail(node, "this may be None: test it first")
        return value.operand

    def _number(self, node: ast.expr) -> Argument:
        return self._lowering.expressions.operand(node, self._lowering.expressions.number(node))
