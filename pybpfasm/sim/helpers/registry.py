"""How helpers are found and called: by number, with arguments converted as their prototype says.

A helper is a function of the machine and the arguments. A map's argument arrives as the `Map`; numbers arrive with the
width and sign of their C type; other pointers stay addresses. It returns r0, or None where the prototype says void; a
`MapError` becomes the negative errno.
"""

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import attrs

from pybpfasm.sim.contexts.base import ContextRegion
from pybpfasm.sim.errors import MapError, UninitialisedError
from pybpfasm.sim.registers import M32, UNSET, Registers, signed32, signed64
from pybpfasm.uapi import Helper
from pybpfasm.uapi.prototypes import Prototype, prototype

if TYPE_CHECKING:
    from pybpfasm.sim.machine import Machine

HelperFunction = Callable[..., int | None]
F = TypeVar("F", bound=HelperFunction)

HELPERS: dict[Helper, HelperFunction] = {}

_ARGUMENT_REGISTERS = 5

# After these a program's pointers into the packet are dead, also if they fail (bpf_helper_changes_pkt_data).
CHANGES_PACKET = frozenset(
    Helper[name.upper()]
    for name in [
        "clone_redirect",
        "l3_csum_replace",
        "l4_csum_replace",
        "lwt_push_encap",
        "lwt_seg6_action",
        "lwt_seg6_adjust_srh",
        "lwt_seg6_store_bytes",
        "msg_pop_data",
        "msg_pull_data",
        "msg_push_data",
        "skb_adjust_room",
        "skb_change_head",
        "skb_change_proto",
        "skb_change_tail",
        "skb_pull_data",
        "skb_store_bytes",
        "skb_vlan_pop",
        "skb_vlan_push",
        "store_hdr_opt",
        "xdp_adjust_head",
        "xdp_adjust_meta",
        "xdp_adjust_tail",
    ]
)


def helper(*numbers: Helper) -> Callable[[F], F]:
    """Enter a function into the table, for one helper or several that do the same."""

    def enter(function: F) -> F:
        for number in numbers:
            HELPERS[number] = function
        return function

    return enter


@attrs.frozen
class Bound:
    """A helper with the conversions of its arguments; `call` takes the machine and its registers."""

    name: str
    call: Callable[["Machine", Registers], int | None]
    returns_pointer: bool = False


def bind(number: Helper, function: HelperFunction) -> Bound:
    """A helper's function, to be called with registers."""
    declared = prototype(number)
    name = number.name.lower()
    conversions = tuple((1 + index, _conversion(each.type)) for index, each in enumerate(declared.parameters))

    def call(machine: "Machine", registers: Registers) -> int | None:
        arguments = []
        for register, convert in conversions:
            value = registers[register]
            if value is UNSET:
                raise UninitialisedError(f"r{register}, an argument of {name}, has no value")
            arguments.append(convert(machine, value))
        if declared.variadic:
            arguments += registers[1 + len(conversions) : 1 + _ARGUMENT_REGISTERS]
        try:
            return function(machine, *arguments)
        except MapError as error:
            return -(error.errno or 0)
        finally:
            if number in CHANGES_PACKET and isinstance(machine.context_region, ContextRegion):
                machine.context_region.invalidate_packet(name)

    return Bound(name, call, _returns_pointer(declared))


def bind_plain(function: HelperFunction) -> Bound:
    """A function of the kernel, which has no prototype here: it gets as many registers as it has parameters."""
    count = len(inspect.signature(function).parameters) - 1
    name = getattr(function, "__name__", "function")

    def call(machine: "Machine", registers: Registers) -> int | None:
        arguments = registers[1 : 1 + count]
        for index, value in enumerate(arguments):
            if value is UNSET:
                raise UninitialisedError(f"r{1 + index}, an argument of {name}, has no value")
        return function(machine, *arguments)

    return Bound(name, call)


def _returns_pointer(declared: Prototype) -> bool:
    return declared.returns.endswith("*")


def _conversion(c_type: str) -> Callable[["Machine", int], Any]:
    if c_type == "struct bpf_map *":
        return lambda machine, value: machine.map_at(value)
    return _NUMBERS.get(c_type, _as_it_is)


def _as_it_is(_: "Machine", value: int) -> int:
    return value


_NUMBERS: dict[str, Callable[["Machine", int], int]] = {
    "u32": lambda _, value: value & M32,
    "__wsum": lambda _, value: value & M32,
    "__be32": lambda _, value: value & M32,
    "u16": lambda _, value: value & 0xFFFF,
    "__be16": lambda _, value: value & 0xFFFF,
    "int": lambda _, value: signed32(value),
    "s32": lambda _, value: signed32(value),
    "s64": lambda _, value: signed64(value),
    "long": lambda _, value: signed64(value),
}
