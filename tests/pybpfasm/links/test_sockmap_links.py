"""Programs on maps of sockets: what a socket sends or receives goes to another one, or nowhere."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from small_network import NOTHING_SECONDS, SOMETHING_SECONDS, Namespace, Pair, connection
from small_programs import count, counting, load, returning

from pybpfasm import isa
from pybpfasm.errors import KernelError, UnsupportedFeatureError
from pybpfasm.isa import Instruction
from pybpfasm.kernel import features
from pybpfasm.kernel.links import Link, attach_sockmap
from pybpfasm.kernel.links.direct import DirectAttachment
from pybpfasm.kernel.maps import Map
from pybpfasm.kernel.programs import Program
from pybpfasm.spec import MapSpec, Untyped
from pybpfasm.uapi import AttachType, Helper, LinkType, MapType, ProgramType, RedirectFlag, SkAction

SK_MSG, SK_SKB = ProgramType.SK_MSG, ProgramType.SK_SKB
MSG_VERDICT, SKB_VERDICT = AttachType.SK_MSG_VERDICT, AttachType.SK_SKB_VERDICT
PARSER, STREAM_VERDICT = AttachType.SK_SKB_STREAM_PARSER, AttachType.SK_SKB_STREAM_VERDICT

KINDS = [
    pytest.param(SK_MSG, MSG_VERDICT, id="sk_msg"),
    pytest.param(SK_SKB, STREAM_VERDICT, id="stream verdict"),
    pytest.param(SK_SKB, SKB_VERDICT, id="verdict", marks=pytest.mark.needs(features.SK_SKB_VERDICT)),
]


@pytest.fixture
def sockets() -> Iterator[Map]:
    """A map of two sockets."""
    with Map.create(MapSpec("sockets", MapType.SOCKMAP, Untyped(4), Untyped(8), 2)) as made:
        yield made


@pytest.fixture
def pairs(namespace: Namespace) -> Iterator[tuple[Pair, Pair]]:
    """Two TCP connections inside a namespace."""
    made = (connection(namespace), connection(namespace))
    yield made
    for pair in made:
        for end in pair:
            end.close()


def put(sockets: Map, slot: int, end: socket.socket) -> None:
    """Put a socket into the map: from here on it is under the map's programs."""
    sockets.update(slot.to_bytes(4, "little"), end.fileno().to_bytes(8, "little"))


def redirecting(sockets: Map, kind: ProgramType, hook: AttachType, flags: int) -> Program:
    """All to the socket in slot 1."""
    helper = Helper.MSG_REDIRECT_MAP if kind == SK_MSG else Helper.SK_REDIRECT_MAP
    code: tuple[Instruction, ...] = (
        isa.load_map(2, "sockets"),
        isa.mov_imm(3, 1),
        isa.mov_imm(4, flags),
        isa.call(helper),
        isa.exit_program(),
    )
    return load(kind, hook, code, "redirect", {"sockets": sockets})


def nothing_arrives(end: socket.socket) -> bool:
    """Whether a socket receives nothing for a while."""
    end.settimeout(NOTHING_SECONDS)
    try:
        end.recv(100)
    except TimeoutError:
        return True
    finally:
        end.settimeout(SOMETHING_SECONDS)
    return False


def test_what_is_sent_goes_elsewhere(sockets: Map, pairs: tuple[Pair, Pair]) -> None:
    """sk_msg: what one connection sends is received by the other, and not at its own end."""
    (sender, own), (_, other) = pairs
    with redirecting(sockets, SK_MSG, MSG_VERDICT, RedirectFlag.INGRESS) as program, attach_sockmap(program, sockets):
        put(sockets, 0, sender)
        put(sockets, 1, other)
        sender.send(b"astray")
        assert other.recv(100) == b"astray"
        assert nothing_arrives(own)


@pytest.mark.parametrize(
    "hook", [STREAM_VERDICT, pytest.param(SKB_VERDICT, marks=pytest.mark.needs(features.SK_SKB_VERDICT))]
)
def test_what_is_received_goes_elsewhere(sockets: Map, pairs: tuple[Pair, Pair], hook: AttachType) -> None:
    """sk_skb: what comes in on one connection goes out on the other, as a proxy would have it."""
    (sender, own), (proxy, far) = pairs
    with redirecting(sockets, SK_SKB, hook, 0) as program, attach_sockmap(program, sockets):
        put(sockets, 0, own)
        put(sockets, 1, proxy)
        sender.send(b"onward")
        assert far.recv(100) == b"onward"
        assert nothing_arrives(own)


# Debian's 5.10 (5.10.0-32, one CPU) hangs for good when a message passes a parser and a verdict that lets it pass.
@pytest.mark.needs(features.SK_SKB_VERDICT)
def test_a_parser_cuts_messages(sockets: Map, pairs: tuple[Pair, Pair], counts: Map) -> None:
    """A parser that says four bytes a message has the verdict run once for every four bytes."""
    (sender, own), _ = pairs
    with (
        returning(SK_SKB, PARSER, 4) as parser,
        counting(SK_SKB, STREAM_VERDICT, SkAction.PASS, counts) as verdict,
        attach_sockmap(parser, sockets),
        attach_sockmap(verdict, sockets),
    ):
        put(sockets, 0, own)
        sender.send(b"fourfourfour")
        received = b""
        while len(received) < 12:
            received += own.recv(100)
        assert received == b"fourfourfour"
    assert count(counts) == 3


@pytest.mark.parametrize(("kind", "hook"), KINDS)
def test_a_program_drops(sockets: Map, pairs: tuple[Pair, Pair], kind: ProgramType, hook: AttachType) -> None:
    """A verdict to drop: nothing arrives; another program in its place lets pass what comes to sockets put in then."""
    (sender, receiver), (later_sender, later_receiver) = pairs
    with (
        returning(kind, hook, SkAction.DROP) as drop,
        returning(kind, hook, SkAction.PASS) as let,
        attach_sockmap(drop, sockets) as attached,
    ):
        put(sockets, 0, sender if kind == SK_MSG else receiver)
        if kind == SK_MSG:
            with pytest.raises(PermissionError):
                sender.send(b"lost")
        else:
            sender.send(b"lost")
        assert nothing_arrives(receiver)
        attached.update(let)
        put(sockets, 1, later_sender if kind == SK_MSG else later_receiver)
        later_sender.send(b"found")
        assert later_receiver.recv(100) == b"found"


@pytest.mark.needs(features.SOCKMAP_LINK)
@pytest.mark.parametrize(("kind", "hook"), KINDS)
def test_the_link(sockets: Map, bpffs: Path, kind: ProgramType, hook: AttachType) -> None:
    """It names map, hook and program; a second program is EBUSY; pinned and adopted it can be updated and detached."""
    with returning(kind, hook, SkAction.PASS) as first, returning(kind, hook, SkAction.PASS) as second:
        link = attach_sockmap(first, sockets)
        assert isinstance(link, Link)
        with link:
            info = link.info()
            assert (info.type, info.attach_type) == (LinkType.SOCKMAP, hook)
            assert (info.target, info.program_id) == (sockets.info().id, first.info().id)
            message = r"^cannot attach program test to map sockets: the map has a program at this hook.*\(EBUSY\)$"
            with pytest.raises(KernelError, match=message):
                attach_sockmap(second, sockets)
            link.pin(bpffs / "link")
        with Link.open(bpffs / "link") as again:
            again.update(second, old=first)
            assert again.info().program_id == second.info().id
            again.detach()
            assert again.info().target == 0
            with pytest.raises(KernelError, match=r"is gone \(ENOLINK\)$"):
                again.update(first)
            attach_sockmap(first, sockets).close()


def test_attached_directly(
    sockets: Map, pairs: tuple[Pair, Pair], counts: Map, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without links, as before Linux 6.10: it holds until it is closed, takes another program, has nothing to pin."""
    without_links(monkeypatch)
    (sender, receiver), (other_sender, other_receiver) = pairs
    with (
        counting(SK_MSG, MSG_VERDICT, SkAction.PASS, counts, 0) as one,
        counting(SK_MSG, MSG_VERDICT, SkAction.PASS, counts, 1) as two,
    ):
        with attach_sockmap(one, sockets) as attached:
            assert isinstance(attached, DirectAttachment)
            for ask in (attached.info, lambda: attached.pin(Path("x"))):
                with pytest.raises(UnsupportedFeatureError, match=r"Linux 6\.10 or later$"):
                    ask()
            put(sockets, 0, sender)
            sender.send(b"one")
            assert receiver.recv(100) == b"one"
            attached.update(two)
            put(sockets, 1, other_sender)
            other_sender.send(b"two")
            assert other_receiver.recv(100) == b"two"
            assert (count(counts, 0), count(counts, 1)) == (1, 1)
        attached.detach()
        with attach_sockmap(one, sockets) as kept:
            assert isinstance(kept, DirectAttachment)
            kept.keep()
        again = attach_sockmap(two, sockets)  # in place of the one that was kept
        again.close()


def without_links(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the kernel's links to maps refused, as an older kernel refuses them."""

    def refused(*_: object, **__: object) -> Link:
        raise KernelError(22, "no such link")

    monkeypatch.setattr("pybpfasm.kernel.links.sockmap.create", refused)
    for module in ("sockmap", "direct"):
        monkeypatch.setattr(f"pybpfasm.kernel.links.{module}.lacks", lambda feature: feature is features.SOCKMAP_LINK)


def test_what_cannot_be(sockets: Map) -> None:
    """A program of another kind, or another kind of map: each is one line."""
    with returning(ProgramType.XDP, AttachType.XDP, 2) as xdp, pytest.raises(KernelError, match=r"\(EINVAL\)$"):
        attach_sockmap(xdp, sockets)
    with (
        Map.create(MapSpec("plain", MapType.ARRAY, Untyped(4), Untyped(8), 2)) as plain,
        returning(SK_MSG, MSG_VERDICT, SkAction.PASS) as made,
        pytest.raises(KernelError, match=r"^cannot attach program test to map plain: .*map is none of sockets"),
    ):
        attach_sockmap(made, plain)
