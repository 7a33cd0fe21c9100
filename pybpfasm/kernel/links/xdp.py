"""XDP: programs that see each packet as the driver has it, before the network stack (links: Linux 5.9)."""

import errno
from enum import IntFlag

from pybpfasm.kernel import features
from pybpfasm.kernel.links.attempt import attempting
from pybpfasm.kernel.links.base import Link, create
from pybpfasm.kernel.links.target import interface_index
from pybpfasm.kernel.programs import Program
from pybpfasm.uapi import AttachType


class XdpMode(IntFlag):
    """Where the program runs: XDP_FLAGS_… of uapi linux/if_link.h."""

    ANY = 0  # in the driver if it can, else generic
    GENERIC = 1 << 1  # in the network stack, on any interface, slower (XDP_FLAGS_SKB_MODE)
    NATIVE = 1 << 2  # in the driver (XDP_FLAGS_DRV_MODE)
    OFFLOAD = 1 << 3  # on the card; the program must have been loaded for it (XDP_FLAGS_HW_MODE)


_CAUSES = {
    errno.EBUSY: "it has an XDP program already, and takes one: close the link or update it",
    errno.EEXIST: "it has an XDP program in the other mode, native or generic, or an interface above it has one",
    errno.EOPNOTSUPP: "its driver has no XDP of this mode: use XdpMode.GENERIC",
    errno.EINVAL: "the program is not for XDP, or not for this mode (to be offloaded it must be loaded for the card)",
    errno.ERANGE: "its MTU is too large for its driver's XDP: lower it, or load the program with BPF_F_XDP_HAS_FRAGS",
}


def attach_xdp(program: Program, interface: int | str, mode: XdpMode = XdpMode.ANY) -> Link:
    """Attach to an interface, by name or index, of the calling thread's network namespace.

    One program at a time, none beside it; `update` replaces it. Raises `KernelError`: ENODEV without the interface,
    EBUSY if it has a program, EOPNOTSUPP if its driver knows no XDP of this mode; `UnsupportedFeatureError` before
    Linux 5.9.
    """
    attempted = f"attach program {program.spec.name} to XDP of interface {interface}"
    index = interface_index(interface)
    with attempting(attempted, _CAUSES, features.XDP_LINK):
        return create(program, index, attempted, attach_type=AttachType.XDP, flags=mode)
