"""The rows of the conformance suite for networking: what each is attached to, and the packet or call that makes it run.

The flow dissector has no row: the kernel says of a second one that there are too many, not that the place is taken.
"""

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from itertools import count

import attrs
from cgroup_actor import Actor
from link_kinds import LinkKind, Scene
from small_network import SOMETHING_SECONDS, Namespace, Wire, connection, delivered

from pybpfasm.kernel import features
from pybpfasm.kernel.links import Attachment, attach_cgroup, attach_sockmap
from pybpfasm.kernel.links.netfilter import NetfilterFamily, NetfilterHook, attach_netfilter
from pybpfasm.kernel.links.netkit import NetkitEnd, attach_netkit
from pybpfasm.kernel.links.netns import attach_netns
from pybpfasm.kernel.links.tcx import Direction, attach_tcx
from pybpfasm.kernel.links.xdp import attach_xdp
from pybpfasm.kernel.maps import Map
from pybpfasm.kernel.programs import Program
from pybpfasm.spec import MapSpec, Untyped
from pybpfasm.uapi import AttachType, LinkType, MapType, ProgramType, SkAction, TcxAction, XdpAction

_UNBOUND = AttachType(0)
_LOCAL = "127.0.0.1"
_NF_ACCEPT = 1

_CONNECT = "socket.socket(type=socket.SOCK_DGRAM).connect(('127.0.0.1', 9))"


@attrs.frozen
class _Scene:
    target: int | str
    attach: Callable[[Program], Attachment]
    trigger: Callable[[], None]


@contextmanager
def _cgroup() -> Iterator[Scene]:
    with closing(Actor()) as actor:
        yield _Scene(
            actor.cgroup.stat().st_ino,
            lambda program: attach_cgroup(program, actor.cgroup),
            lambda: _check(actor.do(_CONNECT) is None),
        )


@contextmanager
def _namespace(attach: Callable[[Namespace, Program], Attachment], numbered: bool) -> Iterator[Scene]:
    """A namespace with two sockets on its loopback interface; `numbered`: its inode is the link's target."""
    with (
        closing(Namespace()) as namespace,
        namespace.receiver(_LOCAL) as receiver,
        namespace.receiver(_LOCAL) as sender,
    ):
        yield _Scene(
            os.fstat(namespace.fd).st_ino if numbered else 0,
            lambda program: attach(namespace, program),
            lambda: _check(delivered(sender, receiver, SOMETHING_SECONDS)),
        )


def _netns() -> AbstractContextManager[Scene]:
    return _namespace(lambda namespace, program: attach_netns(program, namespace.fd), True)


def _netfilter() -> AbstractContextManager[Scene]:
    priorities = count()  # each program wants one for itself

    def attach(namespace: Namespace, program: Program) -> Attachment:
        place = (NetfilterFamily.IPV4, NetfilterHook.LOCAL_IN, next(priorities))
        return namespace.run(lambda: attach_netfilter(program, *place))

    return _namespace(attach, False)


def _on_wire(
    attach: Callable[[Program, str], Attachment], interface: str, kind: str = "veth"
) -> Callable[[], AbstractContextManager[Scene]]:
    @contextmanager
    def scene() -> Iterator[Scene]:
        with closing(Wire(kind)) as wire:
            side = wire.left if interface == "wire0" else wire.right
            yield _Scene(
                side.index(interface),
                lambda program: side.run(lambda: attach(program, interface)),
                lambda: _check(wire.passes()),
            )

    return scene


def _sockets(sending: bool) -> Callable[[], AbstractContextManager[Scene]]:
    """A map of sockets; a socket is under the program that is there when it enters, so each time it is a new one."""

    @contextmanager
    def scene() -> Iterator[Scene]:
        spec = MapSpec("sockets", MapType.SOCKMAP, Untyped(4), Untyped(8), 1)
        with closing(Namespace()) as namespace, Map.create(spec) as sockets, ExitStack() as held:

            def trigger() -> None:
                sender, receiver = (held.enter_context(end) for end in connection(namespace))
                _put(sockets, sender if sending else receiver)
                sender.send(b"x")
                _check(receiver.recv(1) == b"x")

            yield _Scene(sockets.info().id, lambda program: attach_sockmap(program, sockets), trigger)

    return scene


def _put(sockets: Map, end: socket.socket) -> None:
    sockets.update(bytes(4), end.fileno().to_bytes(8, "little"))


def _check(happened: bool) -> None:
    """The programs of these rows let everything pass, so what does not happen is a failure."""
    assert happened


_SOCKMAP = {
    "type": LinkType.SOCKMAP,
    "verdict": SkAction.PASS,
    "exclusive": True,
    "updates": True,
    "detaches": True,
    "needs": (features.SOCKMAP_LINK,),
}

NETWORKING_KINDS: tuple[LinkKind, ...] = (
    LinkKind(
        name="cgroup",
        type=LinkType.CGROUP,
        program_type=ProgramType.CGROUP_SOCK_ADDR,
        hook=AttachType.CGROUP_INET4_CONNECT,
        verdict=1,
        scene=_cgroup,
        needs=(features.CGROUP_LINK,),
        updates=True,
        detaches=True,
    ),
    LinkKind(
        name="sk_lookup",
        type=LinkType.NETNS,
        program_type=ProgramType.SK_LOOKUP,
        hook=AttachType.SK_LOOKUP,
        verdict=SkAction.PASS,
        scene=_netns,
        needs=(features.NETNS_LINK,),
        updates=True,
        detaches=True,
    ),
    LinkKind(
        name="XDP",
        type=LinkType.XDP,
        program_type=ProgramType.XDP,
        hook=AttachType.XDP,
        verdict=XdpAction.PASS,
        scene=_on_wire(attach_xdp, "wire1"),
        needs=(features.XDP_LINK,),
        exclusive=True,
        updates=True,
        detaches=True,
    ),
    LinkKind(
        name="tcx ingress",
        type=LinkType.TCX,
        program_type=ProgramType.SCHED_CLS,
        hook=_UNBOUND,
        verdict=TcxAction.NEXT,
        scene=_on_wire(lambda program, interface: attach_tcx(program, interface, Direction.INGRESS), "wire1"),
        needs=(features.TCX_LINK,),
        updates=True,
        detaches=True,
    ),
    LinkKind(
        name="tcx egress",
        type=LinkType.TCX,
        program_type=ProgramType.SCHED_CLS,
        hook=_UNBOUND,
        verdict=TcxAction.NEXT,
        scene=_on_wire(lambda program, interface: attach_tcx(program, interface, Direction.EGRESS), "wire0"),
        needs=(features.TCX_LINK,),
        updates=True,
        detaches=True,
    ),
    LinkKind(
        name="netkit",
        type=LinkType.NETKIT,
        program_type=ProgramType.SCHED_CLS,
        hook=_UNBOUND,
        verdict=TcxAction.NEXT,
        scene=_on_wire(
            lambda program, interface: attach_netkit(program, interface, NetkitEnd.PRIMARY), "wire0", "netkit"
        ),
        needs=(features.NETKIT_LINK,),
        updates=True,
        detaches=True,
    ),
    LinkKind(
        name="netfilter",
        type=LinkType.NETFILTER,
        program_type=ProgramType.NETFILTER,
        hook=AttachType.NETFILTER,
        verdict=_NF_ACCEPT,
        scene=_netfilter,
        needs=(features.NETFILTER_LINK,),
        detaches=True,
    ),
    LinkKind(
        name="sk_msg",
        program_type=ProgramType.SK_MSG,
        hook=AttachType.SK_MSG_VERDICT,
        scene=_sockets(sending=True),
        **_SOCKMAP,
    ),
    LinkKind(
        name="sk_skb stream verdict",
        program_type=ProgramType.SK_SKB,
        hook=AttachType.SK_SKB_STREAM_VERDICT,
        scene=_sockets(sending=False),
        **_SOCKMAP,
    ),
    LinkKind(
        name="sk_skb verdict",
        program_type=ProgramType.SK_SKB,
        hook=AttachType.SK_SKB_VERDICT,
        scene=_sockets(sending=False),
        **_SOCKMAP,
    ),
)
