"""What the compiler asks of the kernel that it compiles for."""

from typing import Protocol

from pybpfasm.records import field, frozen
from pybpfasm.uapi import Helper


class KernelFacts(Protocol):
    """A kernel, as `pybpfasm.kernel.running_target()` and `named_target()` describe one."""

    @property
    def name(self) -> str:
        """Its version."""

    @property
    def isa(self) -> int:
        """The level of its instructions, 1 to 4."""

    def has(self, feature: str) -> bool:
        """Whether it has a feature, by the feature's name."""

    @property
    def known_helpers(self) -> frozenset[Helper] | None:
        """All helpers that it has for whatever type of program; None if that is not known."""


# Helpers are numbered as they came; bpf_redirect_peer came with 5.10.
_IN_ALL = frozenset(range(1, 156))


@frozen
class Target:
    """What the compiler makes use of; without a kernel that it compiles for, what all from 5.10 on have.

    `helpers` are all that it has for whatever type of program, if that is known. `isa` is 3, or 4 for signed division
    and remainder, sign-extending loads and moves, unconditional byte swaps and long jumps (6.6). The others say by name
    which instructions or helpers there are, and since when.
    """

    name: str = "5.10"
    helpers: frozenset[int] | None = field(default=_IN_ALL, repr=False)
    isa: int = 3
    store_immediate_to_context: bool = False  # 6.4, f37a8cb84cce
    stack_by_index: bool = False  # 5.12, 01f810ace9ed
    fetching_atomics: bool = False  # 5.12, 5ca419f2864a
    for_each: bool = False  # 5.13, 69c087ba6225
    timers: bool = False  # 5.15, b00628b1c7d5
    trace_vprintk: bool = False  # 5.16, 10aceb629e19
    bpf_loop: bool = False  # 5.17, e6f2dd0f8067
    dynptrs: bool = False  # 5.19, bc34dee65a65
    xdp_bytes: bool = False  # 5.18, 3f364222d032
    kfuncs: bool = False  # 6.4, 6018e1f407cc: those that iterate and those that lock
    may_goto: bool = False  # 6.9, 011832b97b31
    load_acquire: bool = False  # 6.15, 880442305a39
    wide_results: bool = False  # 6.4, d7ba4cc900bf: what changes a map answers with 64 bits
