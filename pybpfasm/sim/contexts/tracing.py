"""Contexts of tracing programs, and of the smaller cgroup hooks."""

from typing import Any

import attrs

from pybpfasm.sim.contexts.base import Context, Rules, address_of
from pybpfasm.sim.contexts.fields import Field, Kind, number
from pybpfasm.sim.errors import AccessError
from pybpfasm.sim.memory import Memory, Region

_WORD = 8
# A program does not see the first bytes of a tracepoint's record, the kernel's own (kernel/trace/bpf_trace.c).
_HIDDEN_TRACEPOINT_BYTES = 8


def _registers(names: str) -> tuple[Field, ...]:
    return tuple(Field(name, 8 * index, 8, Kind(), (1, 2, 4, 8)) for index, name in enumerate(names.split()))


class Words(Context):
    """A context of 64-bit numbers; a number may also be bytes, a socket or a KernelObject, whose address is given."""

    uapi = "pt_regs"

    def words(self) -> list[Any]:
        """The numbers, in order."""
        return [getattr(self, field.name) for field in self.fields]

    def place(self, memory: Memory, rules: Rules) -> Region:  # noqa: ARG002 - these have none
        """The region that shows this context to a program: read-only numbers."""
        values = [address_of(value, memory, f"{self.uapi}[{index}]") for index, value in enumerate(self.words())]
        data = b"".join(value.to_bytes(_WORD, memory.order) for value in values)
        region = Region(self.uapi, bytearray(data), writable=False)
        region.atomic = False
        memory.show(self, region)
        return region


@attrs.define(eq=False)
class RegistersX86(Words):
    """struct pt_regs of x86-64: what the CPU's registers held. A register may be given bytes: its address then."""

    uapi = "pt_regs"
    fields = _registers(
        "r15 r14 r13 r12 bp bx r11 r10 r9 r8 ax cx dx si di orig_ax ip cs flags sp ss",
    )

    r15: Any = 0
    r14: Any = 0
    r13: Any = 0
    r12: Any = 0
    bp: Any = 0
    bx: Any = 0
    r11: Any = 0
    r10: Any = 0
    r9: Any = 0
    r8: Any = 0
    ax: Any = 0
    cx: Any = 0
    dx: Any = 0
    si: Any = 0
    di: Any = 0
    orig_ax: Any = 0
    ip: Any = 0
    cs: Any = 0x10
    flags: Any = 0
    sp: Any = 0
    ss: Any = 0x18

    @classmethod
    def call(cls, *arguments: Any, ip: int = 0) -> "RegistersX86":
        """The registers when a function with these arguments begins (System V ABI); 6 at the most."""
        names = ("di", "si", "dx", "cx", "r8", "r9")
        return cls(ip=ip, **dict(zip(names, arguments, strict=False)))


@attrs.define(eq=False)
class RegistersArm64(Words):
    """struct user_pt_regs of arm64: x0 to x30, stack pointer, program counter and state."""

    uapi = "user_pt_regs"

    regs: list[Any] = attrs.field(factory=lambda: [0] * 31)
    sp: Any = 0
    pc: Any = 0
    pstate: Any = 0

    def words(self) -> list[Any]:
        """The numbers, in order."""
        return [*self.regs, self.sp, self.pc, self.pstate]

    @classmethod
    def call(cls, *arguments: Any, pc: int = 0) -> "RegistersArm64":
        """The registers when a function with these arguments begins (AAPCS64); 8 at the most."""
        return cls(regs=[*arguments[:8], *[0] * (31 - len(arguments[:8]))], pc=pc)


@attrs.define(eq=False)
class Arguments(Words):
    """The arguments of a raw tracepoint, or of a traced function with its return value last: 64 bits each."""

    uapi = "arguments"

    values: list[Any] = attrs.field(factory=list)
    returned: Any = None

    def words(self) -> list[Any]:
        """The numbers, in order."""
        return [*self.values, *([] if self.returned is None else [self.returned])]


@attrs.define(eq=False)
class PerfEvent(Words):
    """struct bpf_perf_event_data: the registers at a sample, its period and its address."""

    uapi = "bpf_perf_event_data"

    registers: RegistersX86 | RegistersArm64 = attrs.field(factory=RegistersX86)
    sample_period: int = 1
    addr: int = 0

    def words(self) -> list[Any]:
        """The numbers, in order."""
        return [*self.registers.words(), self.sample_period, self.addr]


class _RecordRegion(Region):
    """A tracepoint's record, whose first bytes are not the program's."""

    __slots__ = ()

    def load(self, offset: int, size: int) -> int:
        """The number of `size` bytes at `offset`."""
        if offset < _HIDDEN_TRACEPOINT_BYTES:
            what = f"read of {size} bytes at {self.name}{offset:+d}"
            reason = f"the first {_HIDDEN_TRACEPOINT_BYTES} bytes of a tracepoint's record are the kernel's"
            raise AccessError(f"{what}: {reason}", self.name, offset, size)
        return super().load(offset, size)


@attrs.define(eq=False)
class Tracepoint(Context):
    """A tracepoint's record: bytes as its `format` file describes them, with the 8 common ones before."""

    uapi = "tracepoint record"

    data: bytes = b""

    def place(self, memory: Memory, rules: Rules) -> Region:  # noqa: ARG002 - these have none
        """The region that shows the record to a program, read-only."""
        region = _RecordRegion("record", bytearray(self.data), writable=False)
        region.atomic = False
        memory.show(self, region)
        return region


@attrs.define(eq=False)
class Bytes(Context):
    """A context that is plain bytes, which the program may change: a syscall program's."""

    uapi = "context"

    data: bytearray = attrs.field(factory=bytearray, converter=bytearray)

    def place(self, memory: Memory, rules: Rules) -> Region:  # noqa: ARG002 - these have none
        """The region that shows the bytes to a program."""
        region = Region("ctx", self.data)
        memory.show(self, region)
        return region


@attrs.define(eq=False)
class Sysctl(Context):
    """struct bpf_sysctl: /proc/sys is read or written. `new_value` is what is about to be written."""

    uapi = "bpf_sysctl"
    struct_size = 8
    fields = (
        number("write", 0, narrow=True),
        number("file_pos", 4, narrow=True, writes=(4,)),
    )

    write: int = 0
    file_pos: int = 0
    name: str = "net/ipv4/ip_forward"
    current_value: bytes = b"0\n"
    new_value: bytes = b""


@attrs.define(eq=False)
class Device(Context):
    """struct bpf_cgroup_dev_ctx: a device is used; `access_type` is DeviceAccess << 16 | DeviceType."""

    uapi = "bpf_cgroup_dev_ctx"
    struct_size = 12
    fields = (
        number("access_type", 0, narrow=True),
        number("major", 4),
        number("minor", 8),
    )

    access_type: int = 0
    major: int = 0
    minor: int = 0
