"""What a helper's arguments point to: the context, its packet, a socket, an object of the kernel's."""

from typing import TYPE_CHECKING, TypeVar

from pybpfasm.sim.contexts.base import Context, ContextRegion, Packet, address_of
from pybpfasm.sim.contexts.packets import SkBuff, Xdp
from pybpfasm.sim.contexts.sockets import Sock
from pybpfasm.sim.errors import SimError

if TYPE_CHECKING:
    from pybpfasm.sim.machine import Machine

C = TypeVar("C", bound=Context)


def context_of(machine: "Machine", address: int, *types: type[C]) -> C:
    """The context that r1 points to. Raises `SimError` if it is another thing, or of another type."""
    region = machine.context_region
    context = machine.context
    if region is None or address != region.base:
        raise SimError(f"r1 is {address:#x}, the helper needs the context's address there")
    if not isinstance(context, types):
        wanted = " or ".join(each.uapi for each in types)
        raise SimError(f"the context is a {type(context).__name__}, the helper needs a struct {wanted}")
    return context


def packet_of(machine: "Machine") -> Packet:
    """The context's packet."""
    region = machine.context_region
    if not isinstance(region, ContextRegion):
        raise SimError("the context has no packet")
    return region.packet


def skb_of(machine: "Machine", address: int) -> tuple[SkBuff, Packet]:
    """The `SkBuff` that r1 points to, and its packet."""
    return context_of(machine, address, SkBuff), packet_of(machine)


def xdp_of(machine: "Machine", address: int) -> tuple[Xdp, Packet]:
    """The `Xdp` that r1 points to, and its packet."""
    return context_of(machine, address, Xdp), packet_of(machine)


def socket_at(machine: "Machine", address: int) -> Sock:
    """The socket at an address. Raises `SimError` if there is none."""
    found = machine.memory.region_at(address)
    if found is None or not isinstance(found.owner, Sock) or address != found.base:
        if address == 0:
            raise SimError(machine.memory.null_hint or "the socket is NULL")
        raise SimError(f"{address:#x} is not a socket's address")
    if found.ended is not None:
        raise SimError(found.ended)
    return found.owner


def owner_at(machine: "Machine", address: int) -> object | None:
    """The object of the kernel's that an address stands for; None for NULL."""
    if address == 0:
        return None
    found = machine.memory.region_at(address)
    if found is None or found.owner is None or address != found.base:
        raise SimError(f"{address:#x} is not the address of an object of the kernel's")
    return found.owner


def context_socket(machine: "Machine") -> Sock | None:
    """The socket that the context is about."""
    if isinstance(machine.context, Sock):
        return machine.context
    found = getattr(machine.context, "sk", None)
    return found if isinstance(found, Sock) else None


def socket_address(machine: "Machine", sock: Sock | None) -> int:
    """A socket's address; 0 for None."""
    return address_of(sock, machine.memory, "sock")


def hold_socket(machine: "Machine", sock: Sock | None, helper: str) -> int:
    """The address of a socket that the program must release; 0 for None."""
    if sock is None:
        return 0
    address = socket_address(machine, sock)
    machine.held[address] = f"a socket of {helper}: sk_release is missing"
    return address
