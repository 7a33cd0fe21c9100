"""Programs on maps of sockets (SOCKMAP, SOCKHASH): they see what the sockets in the map send or receive.

| hook | program | what it sees |
|---|---|---|
| SK_MSG_VERDICT | sk_msg | what a socket sends (Linux 4.17) |
| SK_SKB_STREAM_PARSER | sk_skb | what a socket receives; says how long the next message is (4.14) |
| SK_SKB_STREAM_VERDICT | sk_skb | each message, whole; without a parser each segment (4.14) |
| SK_SKB_VERDICT | sk_skb | each segment or datagram, instead of the two before (5.13) |
"""

import errno

from pybpfasm.errors import KernelError
from pybpfasm.kernel import features
from pybpfasm.kernel.links.attempt import attempting, lacks
from pybpfasm.kernel.links.base import Link, create
from pybpfasm.kernel.links.direct import DirectAttachment, attach_directly
from pybpfasm.kernel.maps import Map
from pybpfasm.kernel.programs import Program
from pybpfasm.uapi import AttachFlag, AttachType

_CAUSES = {
    errno.EBUSY: "the map has a program at this hook already: close its link or update it",
    errno.EINVAL: "the program is not for this hook, the map is none of sockets, or the kernel does not know the hook",
    errno.EOPNOTSUPP: "the map is none of sockets",
}


def attach_sockmap(program: Program, map_: Map, hook: AttachType | None = None) -> Link | DirectAttachment:
    """Attach to a map of sockets; a socket is under the program from its entry into the map on.

    The hook is the one the program was loaded for, unless given. From Linux 6.10 on it is a link (699c23f02c65), which
    keeps the map. Before that the program is attached directly, in place of one that is there: until the returned
    object is closed, or, after its `keep`, as long as the map lives. Sockets keep the program that they entered with.
    Raises `KernelError`: EBUSY if the map has a program at this hook, EINVAL for a program or a map of another kind.
    """
    chosen = program.spec.attach_type if hook is None else hook
    attempted = f"attach program {program.spec.name} to map {map_.spec.name}"
    needed = (features.SK_SKB_VERDICT,) if chosen == AttachType.SK_SKB_VERDICT else ()
    with attempting(attempted, _CAUSES, *needed):
        try:
            return create(program, map_.fd, attempted, attach_type=chosen)
        except KernelError as error:
            if error.errno != errno.EINVAL or not lacks(features.SOCKMAP_LINK):
                raise
        attach_directly(program, map_.fd, chosen, AttachFlag(0), attempted)
        return DirectAttachment(program, map_.fd, chosen, AttachFlag(0), features.SOCKMAP_LINK)
