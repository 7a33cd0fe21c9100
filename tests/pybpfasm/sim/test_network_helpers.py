"""Helpers of packets, checksums, sockets and messages: answers, the kernel's errors, and what the world notes."""

import errno
import socket
import struct

import pytest
from shapes import a_map, bytes_at, call, context_argument, program, result_of, signed_answer, stack_at

from pybpfasm import isa, sim
from pybpfasm.isa import Alu, Instruction
from pybpfasm.uapi import Helper, MapType, ProgramType

CTX = context_argument()


# --- checksums and packets --------------------------------------------------------------------------------------------

ETHERNET = bytes(12) + b"\x08\x00"
IP_HEADER = bytes.fromhex("450000280001000040060000" + "0a000001" + "0a000002")


def internet_checksum(data: bytes) -> int:
    """RFC 1071, written out."""
    total = sum(int.from_bytes(data[at : at + 2], "big") for at in range(0, len(data), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


@pytest.mark.parametrize("order", ["little", "big"])
def test_checksums_are_updated(order: str) -> None:
    """After l3_csum_replace of an address the IP header's checksum is right again, in either byte order."""
    header = IP_HEADER[:10] + internet_checksum(IP_HEADER).to_bytes(2, "big") + IP_HEADER[12:]
    old = int.from_bytes(header[16:20], order)
    new = int.from_bytes(b"\x0a\x63\x00\x07", order)
    ctx = sim.SkBuff(packet=ETHERNET + header)
    assert signed_answer(call(Helper.L3_CSUM_REPLACE, CTX, 24, old, new, 4), ctx, byteorder=order) == 0
    changed = ctx.packet[14:30] + b"\x0a\x63\x00\x07"
    assert internet_checksum(changed) == 0
    again = sim.SkBuff(packet=ETHERNET + header)
    body = call(Helper.L3_CSUM_REPLACE, CTX, 24, old, new, 3)
    assert signed_answer(body, again, byteorder=order) == -errno.EINVAL


def test_csum_diff() -> None:
    """The difference of two words, as l3_csum_replace takes it, updates a checksum."""
    body = call(Helper.CSUM_DIFF, bytes_at(1, b"\x0a\0\0\x02", 32), 4, bytes_at(3, b"\x0a\0\0\x09", 64), 4, 0)
    difference = result_of(body).ret
    header = IP_HEADER[:10] + internet_checksum(IP_HEADER).to_bytes(2, "big") + IP_HEADER[12:]
    ctx = sim.SkBuff(packet=ETHERNET + header)
    assert signed_answer(call(Helper.L3_CSUM_REPLACE, CTX, 24, 0, difference, 0), ctx) == 0
    assert internet_checksum(ctx.packet[14:30] + b"\x0a\0\0\x09") == 0
    assert signed_answer(call(Helper.CSUM_DIFF, bytes_at(1, b"1234"), 3, 0, 0, 0)) == -errno.EINVAL


def test_skb_bytes() -> None:
    """Bytes are read and written at an offset; outside, EFAULT and zeros."""
    ctx = sim.SkBuff(packet=bytes(range(20)))
    read = call(Helper.SKB_LOAD_BYTES, CTX, 16, stack_at(3, 8), 4, after=(isa.load(4, 0, 10, -8),))
    assert result_of(read, ctx).ret == 0x13121110
    assert signed_answer(call(Helper.SKB_LOAD_BYTES, CTX, 17, stack_at(3, 8), 4), ctx) == -errno.EFAULT
    relative = call(Helper.SKB_LOAD_BYTES_RELATIVE, CTX, 2, stack_at(3, 8), 4, 1, after=(isa.load(4, 0, 10, -8),))
    assert result_of(relative, ctx).ret == 0x13121110
    assert signed_answer(call(Helper.SKB_STORE_BYTES, CTX, 1, bytes_at(3, b"\xff\xee"), 2, 0), ctx) == 0
    assert ctx.packet[:4] == bytes([0, 0xFF, 0xEE, 3])
    assert signed_answer(call(Helper.SKB_STORE_BYTES, CTX, 19, bytes_at(3, b"12"), 2, 0), ctx) == -errno.EFAULT


@pytest.mark.parametrize("start", [0, 1, 2])
def test_a_size_that_is_no_size(start: int) -> None:
    """4 GiB are refused before they are made, wherever the offset counts from."""
    body = call(Helper.SKB_LOAD_BYTES_RELATIVE, CTX, 0, stack_at(3, 8), 0xFFFFFFFF, start)
    with pytest.raises(sim.AccessError, match="write of 4294967295 bytes"):
        result_of(body, sim.SkBuff(packet=bytes(64)))


def test_packets_say_what_they_are() -> None:
    """The defaults of `protocol` and `pkt_type` are the packet's; one without Ethernet header has its IP's version."""
    cases = {
        (b"", 14): (0x0800, 0),
        (bytes(12) + b"\x86\xdd", 14): (0x86DD, 0),
        (b"\x60" + bytes(39), 0): (0x86DD, 0),
        (b"\x45" + bytes(39), 0): (0x0800, 0),
        (b"\x02" + bytes(11) + b"\x08\x06", 14): (0x0806, 3),
    }
    for (packet, offset), expected in cases.items():
        ctx = sim.SkBuff(packet=packet, network_offset=offset)
        assert (ctx.protocol, ctx.pkt_type) == expected
    assert sim.SkBuff(packet=bytes(14), protocol=0x86DD, pkt_type=1).protocol == 0x86DD


def test_encapsulation_changes_the_protocol() -> None:
    """An outer header of the other version is the packet's from then on."""
    for flags, protocol in ((2, 0x0800), (4, 0x86DD), (0, 0x0800)):
        ctx = sim.SkBuff(packet=ETHERNET + bytes(40))
        assert signed_answer(call(Helper.SKB_ADJUST_ROOM, CTX, 40, 1, flags), ctx) == 0
        assert ctx.protocol == protocol


@pytest.mark.parametrize(
    ("helper", "arguments", "packet"),
    [
        (Helper.SKB_CHANGE_TAIL, (22, 0), ETHERNET + b"12345678"),
        (Helper.SKB_CHANGE_TAIL, (26, 0), ETHERNET + b"123456789a\0\0"),
        (Helper.SKB_CHANGE_HEAD, (2, 0), b"\0\0" + ETHERNET + b"123456789a"),
        (Helper.SKB_CHANGE_PROTO, (0xDD86, 0), ETHERNET + bytes(20) + b"123456789a"),
        (Helper.SKB_ADJUST_ROOM, (3, 1, 0), ETHERNET + bytes(3) + b"123456789a"),
    ],
)
def test_packets_change_their_size(helper: Helper, arguments: tuple[int, ...], packet: bytes) -> None:
    """The packet has the new bytes, and pointers from before are dead."""
    ctx = sim.SkBuff(packet=ETHERNET + b"123456789a")
    body = [isa.load(4, 7, 1, 76), *call(helper, CTX, *arguments)]
    assert signed_answer(body, ctx) == 0
    assert ctx.packet == packet
    with pytest.raises(sim.AccessError, match=f"{helper.name.lower()} has ended all pointers into the packet"):
        result_of([*body[:-1], isa.load(1, 0, 7, 0), isa.exit_program()], ctx)


def test_vlan_tags() -> None:
    """The first tag is kept beside the packet, the second pushes it into it; pop undoes it."""
    ctx = sim.SkBuff(packet=ETHERNET + b"data")
    push = [call(Helper.SKB_VLAN_PUSH, CTX, 0x0081, tci) for tci in (5, 6)]
    for body in push:
        assert signed_answer(body, ctx) == 0
    assert (ctx.vlan_tci, ctx.packet) == (6, ETHERNET[:12] + b"\x81\x00\x00\x05\x08\x00data")
    for _ in range(2):
        assert signed_answer(call(Helper.SKB_VLAN_POP, CTX), ctx) == 0
    assert (ctx.vlan_present, ctx.packet, ctx.protocol) == (0, ETHERNET + b"data", 0x0800)


def test_pull_data() -> None:
    """Bytes behind data_end are reached after skb_pull_data."""
    ctx = sim.SkBuff(packet=bytes(range(40)), linear=20)
    read = (isa.load(4, 1, 6, 76), isa.load(1, 0, 1, 30))
    with pytest.raises(sim.AccessError, match=r"packet\+30: packet has bytes 0 to 19"):
        result_of([isa.mov(6, 1), *read, isa.exit_program()], ctx)
    assert result_of(call(Helper.SKB_PULL_DATA, CTX, 40, after=read), ctx).ret == 30
    assert signed_answer(call(Helper.SKB_PULL_DATA, CTX, 41), ctx) == -errno.ENOMEM


def test_xdp_moves_begin_end_and_metadata() -> None:
    """adjust_head, adjust_tail and adjust_meta grow and shrink within the room that there is."""

    def adjust(helper: Helper, delta: int, ctx: sim.Xdp) -> int:
        return signed_answer(call(helper, CTX, delta & (1 << 64) - 1), ctx)

    ctx = sim.Xdp(packet=bytes(range(30)), headroom=20, tailroom=4)
    assert adjust(Helper.XDP_ADJUST_HEAD, -4, ctx) == 0
    assert ctx.packet == bytes(4) + bytes(range(30))
    assert adjust(Helper.XDP_ADJUST_HEAD, -17, ctx) == -errno.EINVAL
    assert adjust(Helper.XDP_ADJUST_HEAD, 21, ctx) == -errno.EINVAL
    assert adjust(Helper.XDP_ADJUST_TAIL, 4, ctx) == 0
    assert adjust(Helper.XDP_ADJUST_TAIL, 1, ctx) == -errno.EINVAL
    assert adjust(Helper.XDP_ADJUST_TAIL, -24, ctx) == 0
    assert len(ctx.packet) == 14
    assert adjust(Helper.XDP_ADJUST_META, -4, ctx) == 0
    assert ctx.meta == bytes(4)
    assert adjust(Helper.XDP_ADJUST_META, -3, ctx) == -errno.EACCES
    assert adjust(Helper.XDP_ADJUST_META, 4, ctx) == 0
    assert ctx.meta == b""


@pytest.mark.parametrize(
    ("kind", "helper", "arguments", "answer"),
    [
        (ProgramType.SCHED_CLS, Helper.REDIRECT, (3, 1), 7),
        (ProgramType.SCHED_CLS, Helper.REDIRECT, (3, 2), 2),
        (ProgramType.SCHED_CLS, Helper.REDIRECT_PEER, (3, 0), 7),
        (ProgramType.XDP, Helper.REDIRECT, (3, 0), 4),
        (ProgramType.XDP, Helper.REDIRECT, (3, 1), 0),
    ],
)
def test_redirects(kind: ProgramType, helper: Helper, arguments: tuple[int, int], answer: int) -> None:
    """The answer is the verdict for the program type; a redirect that happens is noted."""
    result = sim.run(program(kind, *call(helper, *arguments)))
    assert result.ret == answer
    assert [each.target for each in result.redirects] == ([3] if answer in (4, 7) else [])


def test_redirect_map() -> None:
    """The map's entry is the target; without one, the low bits of the flags are the answer."""
    m = a_map(MapType.DEVMAP)
    m.set(2, 9)
    body = [call(Helper.REDIRECT_MAP, [isa.load_map(1, "m")], key, 2) for key in (2, 3)]
    found, missing = (sim.run(program(ProgramType.XDP, *each), maps={"m": m}) for each in body)
    assert (found.ret, found.redirects[0].target, missing.ret, missing.redirects) == (4, 9, 2, [])


def test_fib_lookup() -> None:
    """The canned answer's fields are in the struct; without an answer it is NOT_FWDED."""
    answer = sim.FibAnswer(ifindex=5, destination_mac=b"\1\2\3\4\5\6")
    body = call(Helper.FIB_LOOKUP, CTX, bytes_at(2, bytes(64)), 64, 0)
    assert signed_answer(body, sim.Xdp()) == 4
    read = (isa.load(4, 0, 10, -56), isa.load(2, 1, 10, -6), isa.alu_imm(Alu.LSH, 1, 32), isa.alu(Alu.OR, 0, 1))
    found = result_of([*body[:-1], *read, isa.exit_program()], sim.Xdp(), world=sim.World(fib=answer))
    assert found.ret == 5 | 0x0201 << 32


# --- sockets ----------------------------------------------------------------------------------------------------------


def test_cookies() -> None:
    """A socket has its own cookie, or one that stays; a packet without a socket has 0."""
    world = sim.World(netns_cookie=5)
    ctx = sim.SockOps()
    first = [signed_answer(call(Helper.GET_SOCKET_COOKIE, CTX), ctx, world=world) for _ in range(2)]
    assert first[0] == first[1] != 0
    assert signed_answer(call(Helper.GET_SOCKET_COOKIE, CTX), sim.SockAddr(sk=sim.Sock(cookie=9)), world=world) == 9
    assert signed_answer(call(Helper.GET_SOCKET_COOKIE, CTX), sim.SkBuff(), world=world) == 0
    assert signed_answer(call(Helper.GET_NETNS_COOKIE, CTX), ctx, world=world) == 5
    assert signed_answer(call(Helper.GET_NETNS_COOKIE, [isa.mov_imm(1, 0)]), ctx, world=world) == 1
    assert signed_answer(call(Helper.GET_SOCKET_UID, CTX), sim.SkBuff(sk=sim.Sock(uid=12)), world=world) == 12


def test_sockets_are_looked_up() -> None:
    """A connected socket comes before a listening one; what was found must be released, once."""
    listening = sim.Sock(src_port=80, state=10)
    connected = sim.Sock(src_port=80, src_ip4="10.0.0.2", dst_port=5000, dst_ip4="10.0.0.1")
    world = sim.World(sockets=[listening, connected])
    addresses = socket.inet_aton("10.0.0.1") + socket.inet_aton("10.0.0.2")
    current_netns = (1 << 64) - 1

    def look_up(port: int, *after: Instruction | isa.Label) -> list[Instruction]:
        tuple_ = bytes_at(2, addresses + struct.pack(">HH", port, 80))
        return call(Helper.SK_LOOKUP_TCP, CTX, tuple_, 12, current_netns, 0, after=after)

    release = (isa.mov(7, 0), isa.load(4, 8, 7, 72), isa.mov(1, 7), isa.call(Helper.SK_RELEASE), isa.mov(0, 8))
    assert result_of(look_up(5000, *release), sim.SkBuff(), world=world).ret == 1
    assert result_of(look_up(5001, *release), sim.SkBuff(), world=world).ret == 10
    with pytest.raises(sim.SimError, match="still holds a socket of sk_lookup_tcp: sk_release is missing"):
        result_of(look_up(5000), sim.SkBuff(), world=world)
    twice = (*release[:-1], isa.mov(1, 7), isa.call(Helper.SK_RELEASE))
    with pytest.raises(sim.SimError, match="released already"):
        result_of(look_up(5000, *twice), sim.SkBuff(), world=world)
    assert signed_answer(look_up(5000), sim.SkBuff()) == 0


def test_sk_assign() -> None:
    """The chosen socket is the context's; a second choice needs REPLACE."""
    m = a_map(MapType.SOCKMAP)
    chosen = sim.Sock()
    m.set(1, chosen)
    lookup = [isa.store_imm(4, 10, -4, 1), isa.load_map(1, "m"), *stack_at(2, 4), isa.call(Helper.MAP_LOOKUP_ELEM),
              isa.mov(7, 0)]  # fmt: skip
    release = (isa.mov(8, 0), isa.mov(1, 7), isa.call(Helper.SK_RELEASE), isa.mov(0, 8))
    assign = call(Helper.SK_ASSIGN, CTX, [isa.mov(2, 7)], 0, after=release)
    body = [assign[0], *lookup, *assign[1:]]
    ctx = sim.SkLookup()
    assert signed_answer(body, ctx, maps={"m": m}) == 0
    assert ctx.sk is chosen
    assert signed_answer(body, ctx, maps={"m": m}) == -errno.EEXIST


def test_socket_options() -> None:
    """setsockopt keeps the bytes on the socket, getsockopt reads them; another is ENOPROTOOPT."""
    ctx = sim.SockOps()
    assert signed_answer(call(Helper.SETSOCKOPT, CTX, 6, 13, bytes_at(4, b"bbr\0"), 4), ctx) == 0
    assert ctx.sk is not None
    assert ctx.sk.options == {(6, 13): b"bbr\0"}
    read = call(Helper.GETSOCKOPT, CTX, 6, 13, stack_at(4, 8), 4, after=(isa.load(4, 0, 10, -8),))
    assert result_of(read, ctx).ret.to_bytes(4, "little") == b"bbr\0"
    assert signed_answer(call(Helper.GETSOCKOPT, CTX, 6, 14, stack_at(4, 8), 4), ctx) == -errno.ENOPROTOOPT


def test_callback_flags() -> None:
    """Known flags are the socket's, unknown ones come back."""
    ctx = sim.SockOps()
    assert signed_answer(call(Helper.SOCK_OPS_CB_FLAGS_SET, CTX, 0x104), ctx) == 0x100
    assert ctx.bpf_sock_ops_cb_flags == 4
    assert signed_answer(call(Helper.SOCK_OPS_CB_FLAGS_SET, CTX, 4), sim.SockOps(sk=None)) == -errno.EINVAL


def test_messages() -> None:
    """Bytes go in and out of a message; apply and cork are noted; redirect finds the socket or drops."""
    ctx = sim.SkMsg(data=b"0123456789")
    assert signed_answer(call(Helper.MSG_POP_DATA, CTX, 2, 3, 0), ctx) == 0
    assert ctx.data == b"0156789"
    assert signed_answer(call(Helper.MSG_PUSH_DATA, CTX, 1, 2, 0), ctx) == 0
    assert (ctx.data, ctx.size) == (b"0\0\x00156789", 9)
    window = (
        isa.load(8, 1, 6, 0),
        isa.load(8, 2, 6, 8),
        isa.alu(Alu.SUB, 2, 1),
        isa.load(1, 0, 1, 0),
        isa.alu_imm(Alu.LSH, 2, 8),
        isa.alu(Alu.OR, 0, 2),
    )
    assert result_of(call(Helper.MSG_PULL_DATA, CTX, 4, 9, 0, after=window), ctx).ret == 5 << 8 | ord("5")
    assert result_of(call(Helper.MSG_APPLY_BYTES, CTX, 7), ctx).actions[0].arguments == {"bytes": 7}
    m, target = a_map(MapType.SOCKMAP), sim.Sock()
    redirect = call(Helper.MSG_REDIRECT_MAP, CTX, [isa.load_map(2, "m")], 1, 1)
    assert result_of(redirect, ctx, maps={"m": m}).ret == 0
    m.set(1, target)
    found = result_of(redirect, ctx, maps={"m": m})
    assert (found.ret, found.redirects[0].target) == (1, target)


def test_header_options() -> None:
    """Options are found by kind, room is reserved, and written once."""
    header = bytes(12) + bytes([7 << 4]) + bytes(7) + bytes([1, 2, 4, 5, 180, 1, 1, 1])
    ctx = sim.SockOps(skb_data=header)
    read = call(Helper.LOAD_HDR_OPT, CTX, bytes_at(2, b"\x02\0\0\0"), 4, 0)
    assert signed_answer(read, ctx) == 4
    assert signed_answer(call(Helper.LOAD_HDR_OPT, CTX, bytes_at(2, b"\x03\0\0\0"), 4, 0), ctx) == -errno.ENOMSG
    ctx = sim.SockOps(op=14)
    assert signed_answer(call(Helper.RESERVE_HDR_OPT, CTX, 4, 0), ctx) == 0
    store = call(Helper.STORE_HDR_OPT, CTX, bytes_at(2, b"\xfd\x04\xab\xcd"), 4, 0)
    assert signed_answer(store, ctx) == -errno.EPERM
    ctx.op = 15
    assert [signed_answer(store, ctx) for _ in range(2)] == [0, -errno.EEXIST]
    assert ctx.written == b"\xfd\x04\xab\xcd"
