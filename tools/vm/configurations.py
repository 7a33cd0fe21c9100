"""The mesh's programs as they are loaded on each kernel: in which settings, and which features each one needs."""

from pybpfasm.kernel import features

SPLICE = ("off", "to-ztunnel", "both")

_ON_CONNECT = (
    features.CGROUP_LINK,
    features.NETNS_COOKIE_IN_SOCK_ADDR,
    features.CGROUP_ID_IN_SOCK_ADDR,
    features.SK_STORAGE_IN_SOCK_ADDR,
)
NEEDS = {
    "connect4": (features.CONNECT4, *_ON_CONNECT),
    "connect6": (features.CONNECT6, *_ON_CONNECT),
    "getpeername4": (features.GETPEERNAME4, features.SK_STORAGE_IN_SOCK_ADDR),
    "getpeername6": (features.GETPEERNAME4, features.SK_STORAGE_IN_SOCK_ADDR),
    "getsockopt": (features.GETSOCKOPT,),
    "redirect": (features.SK_MSG, features.SK_STORAGE_IN_SK_MSG),
    "sockops": (features.SOCK_OPS, features.NETNS_COOKIE_IN_SOCK_OPS),
}
