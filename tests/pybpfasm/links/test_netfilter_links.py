"""Netfilter links: packets dropped at a hook, by priority, with or without defragmentation."""

import errno
from pathlib import Path

import pytest
from small_network import NOTHING_SECONDS, SOMETHING_SECONDS, Namespace, delivered
from small_programs import count, counting, returning

from pybpfasm.errors import KernelError
from pybpfasm.kernel import features
from pybpfasm.kernel.links import Link
from pybpfasm.kernel.links.netfilter import NetfilterFamily, NetfilterHook, attach_netfilter
from pybpfasm.kernel.maps import Map
from pybpfasm.kernel.programs import Program
from pybpfasm.uapi import AttachType, LinkType, ProgramType

pytestmark = pytest.mark.needs(features.NETFILTER_LINK)

LOCAL = "127.0.0.1"
NF_DROP, NF_ACCEPT = 0, 1
IPV4 = NetfilterFamily.IPV4


def program(verdict: int) -> Program:
    """A program with one verdict."""
    return returning(ProgramType.NETFILTER, AttachType.NETFILTER, verdict)


def attached(namespace: Namespace, made: Program, hook: NetfilterHook, priority: int = 0) -> Link:
    """Such a program, attached in the namespace."""
    return namespace.run(lambda: attach_netfilter(made, IPV4, hook, priority))


@pytest.mark.parametrize("hook", [NetfilterHook.PRE_ROUTING, NetfilterHook.LOCAL_IN, NetfilterHook.POST_ROUTING])
def test_packets_are_dropped(namespace: Namespace, hook: NetfilterHook) -> None:
    """While the link is there no datagram arrives."""
    with namespace.receiver(LOCAL) as receiver, namespace.receiver(LOCAL) as sender, program(NF_DROP) as drop:
        assert delivered(sender, receiver, SOMETHING_SECONDS)
        with attached(namespace, drop, hook):
            assert not delivered(sender, receiver, NOTHING_SECONDS)
        assert delivered(sender, receiver, SOMETHING_SECONDS)


def test_the_sender_is_told(namespace: Namespace) -> None:
    """What is dropped on its way out is EPERM to who sends it."""
    with (
        namespace.receiver(LOCAL) as sender,
        program(NF_DROP) as drop,
        attached(namespace, drop, NetfilterHook.LOCAL_OUT),
        pytest.raises(PermissionError),
    ):
        sender.sendto(b"x", (LOCAL, 9))


def test_priorities(namespace: Namespace, counts: Map) -> None:
    """The lower priority comes first: what it drops the higher does not see."""
    with (
        namespace.receiver(LOCAL) as receiver,
        namespace.receiver(LOCAL) as sender,
        counting(ProgramType.NETFILTER, AttachType.NETFILTER, NF_ACCEPT, counts) as let,
        program(NF_DROP) as drop,
        attached(namespace, let, NetfilterHook.LOCAL_IN, 10),
    ):
        with attached(namespace, drop, NetfilterHook.LOCAL_IN, 20):
            assert not delivered(sender, receiver, NOTHING_SECONDS)
        assert count(counts) == 1
        with attached(namespace, drop, NetfilterHook.LOCAL_IN, 5):
            assert not delivered(sender, receiver, NOTHING_SECONDS)
        assert count(counts) == 1


def test_information(namespace: Namespace) -> None:
    """The kernel names family, hook and priority."""
    with program(NF_ACCEPT) as made, attached(namespace, made, NetfilterHook.FORWARD, -7) as link:
        info = link.info()
        assert (info.type, info.program_id) == (LinkType.NETFILTER, made.info().id)
        found = {name: info.details[name] for name in ("pf", "hooknum", "priority")}
        assert found == {"pf": NetfilterFamily.IPV4, "hooknum": NetfilterHook.FORWARD, "priority": -7}


def test_it_is_pinned_and_detached(namespace: Namespace, bpffs: Path) -> None:
    """Pinned, it outlives its descriptor; adopted from the pin, it cannot be updated, but detached."""
    with namespace.receiver(LOCAL) as receiver, namespace.receiver(LOCAL) as sender, program(NF_DROP) as drop:
        with attached(namespace, drop, NetfilterHook.LOCAL_IN) as link:
            link.pin(bpffs / "link")
        assert not delivered(sender, receiver, NOTHING_SECONDS)
        with Link.open(bpffs / "link") as again, program(NF_ACCEPT) as let:
            with pytest.raises(KernelError, match="netfilter links cannot be updated") as caught:
                again.update(let)
            assert caught.value.errno == errno.EOPNOTSUPP
            again.detach()
            assert delivered(sender, receiver, SOMETHING_SECONDS)
            again.detach()


def test_defragmentation(namespace: Namespace, counts: Map) -> None:
    """With `defragment` a program sees a datagram of many packets once, without it each of them."""
    namespace.ip("link set lo mtu 1500")
    for slot, (defragment, seen) in enumerate(((False, 5), (True, 1))):
        with counting(ProgramType.NETFILTER, AttachType.NETFILTER, NF_ACCEPT, counts, slot) as made:
            link = attached_early(namespace, made, defragment=defragment)
            if link is None:
                continue
            with link, namespace.receiver(LOCAL) as receiver, namespace.receiver(LOCAL) as sender:
                sender.sendto(bytes(6000), receiver.getsockname())
                assert len(receiver.recv(8000)) == 6000
        assert count(counts, slot) == seen


def attached_early(namespace: Namespace, made: Program, *, defragment: bool) -> Link | None:
    """Attach after the place of defragmentation; None where a machine says that it lacks the module (our VMs do)."""

    def attach() -> Link | str:
        try:
            return attach_netfilter(made, IPV4, NetfilterHook.PRE_ROUTING, -200, defragment=defragment)
        except KernelError as error:
            return str(error)

    found = namespace.run(attach)
    if isinstance(found, Link):
        return found
    assert defragment
    assert found.endswith("needs the kernel's module nf_defrag_ipv4 or nf_defrag_ipv6: load it (ENOENT)")
    return None


def test_what_cannot_be(namespace: Namespace) -> None:
    """A priority that is taken or is not for programs, a program of another kind: each is one line."""

    def refused(message: str, made: Program, priority: int, *, defragment: bool = False) -> None:
        with pytest.raises(KernelError, match=message):
            namespace.run(lambda: attach_netfilter(made, IPV4, NetfilterHook.LOCAL_IN, priority, defragment=defragment))

    with program(NF_ACCEPT) as let, program(NF_ACCEPT) as other, returning(ProgramType.XDP, AttachType.XDP, 2) as xdp:
        with attached(namespace, let, NetfilterHook.LOCAL_IN, 3):
            where = "netfilter local_in of ipv4 with priority 3"
            refused(rf"^cannot attach program test to {where}: .* choose another priority \(EBUSY\)$", other, 3)
        refused(r"is not for programs: .*\(ERANGE\)$", other, -(1 << 31))
        refused(r"is not for programs: .*\(ERANGE\)$", other, (1 << 31) - 1)
        refused(r"after defragmentation \(above -400\) \(ERANGE\)$", other, -400, defragment=True)
        refused(r"is not of type netfilter \(EINVAL\)$", xdp, 4)
