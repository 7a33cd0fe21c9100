"""The maps that programs and agent share: each layout is declared here and nowhere else."""

from enum import IntEnum
from typing import Annotated

from pybpfasm import (
    BPF_F_NO_PREALLOC,
    Array,
    HashMap,
    Length,
    PerCpuArray,
    SkStorage,
    SockMap,
    Struct,
    be16,
    be32,
    i32,
    u16,
    u32,
    u64,
)

# Flags of a pod; the first three have upstream merbridge's values: DNS is for an enrolled pod whose DNS is captured.
# The others are for the host's own namespace, and for cgroups whose connections are left alone though they are of it.
IN_MESH = 1
DNS = 2
IS_ZTUNNEL = 4
IS_HOST = 8
EXEMPT = 16
KEEP_GATEWAY = 32
MAY_CALL = 64


class Address(Struct):
    """An IPv6 address, or an IPv4 one as ::ffff:a.b.c.d, by words; :: is none."""

    w0: be32
    w1: be32
    w2: be32
    w3: be32


class PodInfo(Struct):
    """A network namespace or a cgroup that the agent knows. One outside the mesh has an entry too, with no flag set.

    A pod has one address of each family, or one of either; 0 is none.
    """

    flags: u32
    ip4: be32
    ip6: Address


class Ztunnel(Struct):
    """Where this node's ztunnel is, by the addresses that it has; 0 is none."""

    netns_cookie: u64
    ip4: be32
    ip6: Address


Mac = Annotated[bytes, Length(6)]


class Place(Struct):
    """Where the packets of an address go: an enrolled pod's, or one's that was enrolled, or ztunnel's; or the host's.

    Pods' addresses are those that the API gives them: a pod can claim none. An enrolled pod's has MAY_CALL among its
    flags, as it is sent to ztunnel's ports; IN_MESH, too, where what arrives for it is captured. `ifindex` is its
    device on the host, 0 where none is known: then MAY_CALL is all that counts. `netns_id` is what the host calls its
    network namespace, `mac` its own, `gateway` the one to which it sends, unless KEEP_GATEWAY is among the flags: its
    packets have the right one already.
    """

    netns_cookie: u64
    flags: u32
    ifindex: u32
    netns_id: u32
    mac: Mac
    gateway: Mac


class Endpoint(Struct):
    """An address and a port. `family` is AF_INET or AF_INET6 where it says which of the two was dialled, else 0."""

    ip: Address
    port: be16
    family: u16 = 0


class MeshPod(Struct):
    """An enrolled pod of this node whose inbound connections go to ztunnel."""

    flags: u32


class Connection(Struct):
    """A connection to ztunnel as its accepting side sees it. Ports are in host order.

    The namespace is the accepting one: address tuples of different namespaces may be equal.
    """

    netns_cookie: u64
    client: Address
    server: Address
    client_port: u16
    server_port: u16


class Origin(Struct):
    """What the accepting side learns: where the connection was meant to go, and the cookie of the client's socket.

    `netns_cookie` is the client's, in whose share of the map the entry counts.
    """

    original: Endpoint
    client: u64
    netns_cookie: u64


class Share(Struct):
    """How many connections of a network namespace are being set up."""

    used: u64


# The two sides of a redirected connection.
CLIENT = 0
ACCEPTING = 1


class Call(Struct):
    """What connect() leaves for the SYN: where it was meant to go, by whom, where it goes instead.

    `enrolled` is 0 for the host's connections, `pod` the address that the caller is to have.
    """

    original: Endpoint
    enrolled: u32
    ztunnel: Endpoint
    pod: Address
    ztunnel_netns: u64


class Pending(Struct):
    """A slot for one call between connect() and its SYN. `owner`: see `programs.slots`."""

    owner: u64
    call: Call


class Direction(Struct):
    """One direction of a connection.

    `by_tcp` is set once a byte has left by TCP: later bytes must follow it, or they would overtake it. `redirected` is
    kernel memory that bytes sent past TCP may fill.
    """

    by_tcp: u32
    redirected: u32


class Slot(Struct):
    """A slot for one redirected connection, for as long as its client's socket has it. `owner`: see `programs.slots`.

    `netns_cookie` is the client's. What follows `original` is the owner's cookie once something is so: to whoever has
    the slot next it says nothing. `joined`: the client's socket is in `sockets`; `spliced`: both are; `accepted`:
    ztunnel's side stands; `answered`: it was told where the connection was meant to go; `released`: it has closed.
    """

    owner: u64
    connection: Connection
    netns_cookie: u64
    original: Endpoint
    joined: u64
    spliced: u64
    accepted: u64
    answered: u64
    released: u64
    requests: Direction
    answers: Direction


class SocketState(Struct):
    """What is known of a socket whose call, or connection, has found no slot; it ends with the socket.

    `client` is the cookie of the client's socket, 0 while there is no redirected connection. The call is for the
    client's side only.
    """

    call: Call
    original: Endpoint
    side: u32
    client: u64


# How many questions of a socket may wait for their answers; a power of two.
QUESTIONS = 8


class Questions(Struct):
    """The last DNS servers that a socket has asked by one family, a ring: from `first` to `next` they wait for answers.

    `ztunnel` is where the questions went instead, `at` when the last one did (ktime, nanoseconds).
    """

    servers: Annotated[list[Address], Length(QUESTIONS)]
    first: u64
    next: u64
    at: u64
    ztunnel: Address


class DnsState(Struct):
    """What is known of a UDP socket whose DNS is captured; it lives and ends with the socket.

    `connected` is the server that it was connected to last, with port 0 for none.
    """

    ip4: Questions
    ip6: Questions
    connected: Endpoint


class Counter(Struct):
    """How often something has happened."""

    count: u64


class Count(IntEnum):
    """What is counted."""

    REDIRECTED = 0
    REFUSED_NO_ZTUNNEL = 1
    REFUSED_NO_MEMORY = 2
    REFUSED_NO_ADDRESS = 3
    ORIGINAL_DST_FULL = 4
    FOREIGN_SOURCE = 5
    SPLICED = 6
    REDIRECTED_TO_POD = 7
    PASSED_NO_ZTUNNEL = 8
    STEERED = 9
    DROPPED_NO_ZTUNNEL = 10
    DROPPED_DIRECT = 11
    DNS_REDIRECTED = 12
    SHARE_USED_UP = 13
    DROPPED_TAGGED = 14
    CROWDED = 15


# The key of ztunnel's entry in `settings`, as in upstream merbridge.
ZTUNNEL = 1

# Membership: never evicts. Entries are allocated one by one, so that an update replaces an entry in one step.
netns_info_map = HashMap[u64, PodInfo](max_entries=4096, flags=BPF_F_NO_PREALLOC)
cgroup_info_map = HashMap[u64, PodInfo](max_entries=16384, flags=BPF_F_NO_PREALLOC)
settings = HashMap[u32, Ztunnel](max_entries=2, flags=BPF_F_NO_PREALLOC)

# Enrolled pods of this node by address, for connections that the host makes to them.
mesh_pods = HashMap[Address, MeshPod](max_entries=4096, flags=BPF_F_NO_PREALLOC)

# Where the packets of pods and of ztunnels go, by address; and those of ztunnels, the one that serves first.
places = HashMap[Address, Place](max_entries=4096, flags=BPF_F_NO_PREALLOC)
ztunnels = HashMap[u32, Place](max_entries=2, flags=BPF_F_NO_PREALLOC)
SERVING = 0
BEFORE = 1

# Calls on their way, and the connections that they become: arrays, in which nothing is allocated, with a slot for each
# by a number of its own. Where that slot is taken, what is below does the same, more slowly.
pending = Array[u32, Pending](max_entries=1024)
connections = Array[u32, Slot](max_entries=65536)

# Both sockets of each slot of `connections`, the client's first.
sockets = SockMap(max_entries=131072)

# Connections that are being set up: from the client's SYN until the accepting side is established.
original_dst = HashMap[Connection, Origin](max_entries=65536)

# What each network namespace has in it, so that none can take the room of the others.
shares = HashMap[u64, Share](max_entries=4096, flags=BPF_F_NO_PREALLOC)

socket_state = SkStorage[i32, SocketState]()
dns_state = SkStorage[i32, DnsState]()
counters = PerCpuArray[u32, Counter](max_entries=len(Count))
