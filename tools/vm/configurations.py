"""The mesh's programs as they are loaded on each kernel: in which settings, and which features each one needs."""

from pybpfasm.kernel import features
from pybpfasm.kernel.probes.instructions import FETCHING_ATOMICS

SPLICE = ("off", "to-ztunnel", "both")

_ON_CONNECT = (
    features.CGROUP_LINK,
    features.NETNS_COOKIE_IN_SOCK_ADDR,
    features.CGROUP_ID_IN_SOCK_ADDR,
    features.SK_STORAGE_IN_SOCK_ADDR,
    FETCHING_ATOMICS,
)
NEEDS = {
    "connect4": (features.CONNECT4, *_ON_CONNECT),
    "connect6": (features.CONNECT6, *_ON_CONNECT),
    "getpeername4": (features.GETPEERNAME4, features.SK_STORAGE_IN_SOCK_ADDR),
    "getpeername6": (features.GETPEERNAME4, features.SK_STORAGE_IN_SOCK_ADDR),
    "getsockopt": (features.GETSOCKOPT, features.NETNS_COOKIE_IN_SOCKOPT, FETCHING_ATOMICS),
    "redirect": (features.SK_MSG, features.NETNS_COOKIE_IN_SK_MSG),
    "sockops": (features.SOCK_OPS, features.NETNS_COOKIE_IN_SOCK_OPS, FETCHING_ATOMICS),
    **dict.fromkeys(("sendmsg4", "sendmsg6"), _ON_CONNECT),
    **dict.fromkeys(("recvmsg4", "recvmsg6"), (features.SK_STORAGE_IN_SOCK_ADDR,)),
    # All kernels of the matrix have what these need: the look-up of sockets (5.2), sk_assign for tc (5.7).
    **dict.fromkeys(("at_ztunnel", "from_ztunnel", "to_ztunnel", "from_pod", "to_pod"), ()),
}
