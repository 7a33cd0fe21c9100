"""Forms of a store to a program's context, each tried on a field of `struct bpf_sock_addr` that may be written."""

from pybpfasm import isa
from pybpfasm.isa import Instruction
from pybpfasm.kernel.features import STORE_IMMEDIATE_TO_CONTEXT, Feature, loading
from pybpfasm.uapi import AttachType, ProgramType

# Offsets in struct bpf_sock_addr, include/uapi/linux/bpf.h.
_USER_IP6, _USER_PORT = 8, 24


def _storing(name: str, since: str, hook: AttachType, store: Instruction) -> Feature:
    code = (isa.mov_imm(2, 0), store, isa.mov_imm(0, 1), isa.exit_program())
    return Feature(name, since, lambda: loading(ProgramType.CGROUP_SOCK_ADDR, hook, code))


CONTEXT_STORES: tuple[Feature, ...] = (
    _storing(
        "storing a register to the context",
        "4.17",
        AttachType.CGROUP_INET4_CONNECT,
        isa.store(4, 1, _USER_PORT, 2),
    ),
    _storing(
        "storing 8 bytes of an IPv6 address to the context",
        "5.3",
        AttachType.CGROUP_INET6_CONNECT,
        isa.store(8, 1, _USER_IP6, 2),
    ),
    STORE_IMMEDIATE_TO_CONTEXT,
)
