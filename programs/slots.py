"""Slots: where a call and the connection that it becomes are kept, without anything being allocated.

An array's element is a slot. Its number comes from the socket's cookie, or from the client's address and port, so each
call and each connection has one slot that it can have; if that is taken, it is kept elsewhere (`socket_state`,
`original_dst`), which is slower. No connection's is taken away while somebody needs it.

Who has a slot is said by `owner`, which is changed by atomics alone:

    0                               nobody
    cookie                          the socket with this cookie
    TAKEN | cookie                  the same, but what is in it is being written; or read, if it is a call
    ORPHANED | time << 48 | cookie  the client has closed; ztunnel may still ask where the connection was meant to go
    time << 48 | cookie             a call on its way, since this time

A call that never sends its SYN (no route) leaves its slot behind: others can have it after a while. Should its SYN come
later still (TCP fast open can put it off), nothing is known of where it was meant to go, and ztunnel refuses it. Others
can have an orphan's slot after a while, too, or as soon as ztunnel has asked. Time is in units of 4 to 41 seconds, by
the kernel's HZ, and begins anew every 256.
"""

import pybpfasm as bpf
from programs.callers import is_same
from programs.maps import Call, Connection, Pending, Slot, pending
from pybpfasm import be32, compare_exchange, exchange, fetch_or, ntohl
from pybpfasm import helpers as h

# Whether accepted sockets send past TCP, too.
REDIRECT_TO_APP = False

# How many slots there are; powers of two.
CALLS = 1024
CONNECTIONS = 65536

COOKIE = (1 << 48) - 1
TIME_SHIFT = 48
TIME = 0xFF
TAKEN = 1 << 62
ORPHANED = 1 << 63

# After how many units of time a call is taken as one that sends no SYN, an orphan as one that nobody asks about.
CALL_UNITS = 2
ORPHAN_UNITS = 16

# 2**64 divided by the golden ratio: multiplied by it, numbers that follow each other lie far apart (Knuth, 6.4).
SPREAD = 0x9E3779B97F4A7C15


@bpf.inline
def now() -> int:
    """The time."""
    return h.jiffies64() >> 12 & TIME


@bpf.inline
def is_older(owner: int, units: int) -> bool:
    """Whether it is so many units since the owner's time."""
    return (now() - (owner >> TIME_SHIFT)) & TIME >= units


@bpf.inline
def call_slot(cookie: int) -> Pending | None:
    """The slot that a socket's call can have."""
    return pending.lookup(cookie & (CALLS - 1))


@bpf.inline
def taken_for_call(cookie: int) -> Call | None:
    """Where a socket's call is kept, if its slot is free."""
    slot = call_slot(cookie)
    if slot is None:
        return None
    owner = slot.owner
    if owner & TAKEN != 0 or (owner != 0 and owner & COOKIE != cookie and not is_older(owner, CALL_UNITS)):
        return None
    # However long it takes to write, nobody else has it until `call_filled`.
    if compare_exchange(slot.owner, owner, TAKEN | cookie) != owner:
        return None
    return slot.call


@bpf.inline
def call_filled(cookie: int) -> None:
    """All is there that the SYN needs; if the call is in a slot, that waits from now on."""
    slot = call_slot(cookie)
    if slot is not None and slot.owner == TAKEN | cookie:
        exchange(slot.owner, now() << TIME_SHIFT | cookie)


@bpf.inline
def has_call(slot: Pending, cookie: int) -> bool:
    """Whether a slot is this socket's, and stays so until `give_call_back`."""
    owner = slot.owner
    if owner & COOKIE != cookie:
        return False
    return compare_exchange(slot.owner, owner, TAKEN | cookie) == owner


@bpf.inline
def give_call_back(cookie: int) -> None:
    """The SYN of a socket's call has left."""
    slot = call_slot(cookie)
    if slot is not None and slot.owner & COOKIE == cookie:
        exchange(slot.owner, 0)


@bpf.inline
def connection_number(client: be32, port: int) -> int:
    """The number of the slot that a connection can have, by the last word of its client's address, and its port."""
    return ((ntohl(client) << 16 | port) * SPREAD) >> 40 & (CONNECTIONS - 1)


@bpf.inline
def is_same_connection(one: Connection, other: Connection) -> bool:
    """Whether two connections are one; clients' ports differ mostly."""
    ports = one.client_port == other.client_port and one.server_port == other.server_port
    return (
        ports
        and one.netns_cookie == other.netns_cookie
        and is_same(one.client, other.client)
        and is_same(one.server, other.server)
    )


@bpf.inline
def has_connection(owner: int) -> bool:
    """Whether there is a connection in a slot with this owner: of a client that is there, or an orphan."""
    return owner != 0 and owner & TAKEN == 0


@bpf.inline
def is_connection_of(slot: Slot, owner: int, key: Connection) -> bool:
    """Whether it is this connection that the slot has. The owner is to be read before."""
    return has_connection(owner) and is_same_connection(slot.connection, key)


@bpf.inline
def is_still(slot: Slot, owner: int) -> bool:
    """Whether what was read of a slot, after its owner was, is that owner's; its client may have closed meanwhile."""
    return (fetch_or(slot.owner, 0) ^ owner) & (COOKIE | TAKEN) == 0


@bpf.inline
def is_over(slot: Slot, owner: int) -> bool:
    """Whether nobody needs what an orphan has left."""
    if owner & ORPHANED == 0:
        return False
    cookie = owner & COOKIE
    if slot.answered != cookie and not is_older(owner, ORPHAN_UNITS):
        return False
    # What an accepted socket may still send would go to the client that has the slot next.
    return not REDIRECT_TO_APP or slot.spliced != cookie or slot.released == cookie


@bpf.inline
def is_taken_for_connection(slot: Slot, key: Connection, cookie: int) -> bool:
    """Whether a connection's slot is its own from now on; it is to be filled, and `filled` to be called.

    An earlier connection of the same addresses and ports has ended without a word, if it never came to be accepted.
    Else its accepted socket may still be there, and ask for the first time.
    """
    owner = slot.owner
    if owner & TAKEN != 0:
        return False
    is_free = owner == 0 or owner == cookie or is_over(slot, owner)
    if not is_free and (slot.accepted == owner & COOKIE or not is_same_connection(slot.connection, key)):
        return False
    return compare_exchange(slot.owner, owner, TAKEN | cookie) == owner


@bpf.inline
def filled(slot: Slot, cookie: int) -> None:
    """All is in the slot that others look for."""
    exchange(slot.owner, cookie)


@bpf.inline
def drop(slot: Slot, owner: int) -> None:
    """Nobody needs what the slot has."""
    compare_exchange(slot.owner, owner, 0)


@bpf.inline
def leave(slot: Slot, cookie: int, *, is_asked_about: bool) -> None:
    """The client is gone, and with it what its slot has, unless ztunnel may still ask."""
    left = ORPHANED | now() << TIME_SHIFT | cookie if is_asked_about else 0
    compare_exchange(slot.owner, cookie, left)
