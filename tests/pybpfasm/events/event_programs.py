"""Programs that send events, run by test_run on packets: each run takes its record from the packet's bytes."""

from collections.abc import Iterable, Mapping

from pybpfasm import isa
from pybpfasm.isa import Alu, Instruction, Jump, Label
from pybpfasm.kernel.maps import Map
from pybpfasm.kernel.programs import Program
from pybpfasm.spec import MapSpec, ProgramSpec, Untyped
from pybpfasm.uapi import AttachType, Helper, MapType, ProgramType

# test_run wants packets of at least an Ethernet header; skb_load_bytes reads behind it.
PACKET_HEADER = 14
RECORD = -64  # where on the stack a record is built
MOST_BYTES = 56


def ring(pages: int = 1, name: str = "events", kind: MapType = MapType.RINGBUF) -> Map:
    """A ring of so many pages."""
    return Map.create(MapSpec(name, kind, Untyped(0), Untyped(0), pages * 4096))


def counter(kind: MapType = MapType.PERCPU_ARRAY) -> Map:
    """An array of one count."""
    return Map.create(MapSpec("lost", kind, Untyped(4), Untyped(8), 1))


def perf_array(entries: int = 0) -> Map:
    """A perf event array, with an entry for each CPU unless told otherwise."""
    return Map.create(MapSpec("events", MapType.PERF_EVENT_ARRAY, Untyped(4), Untyped(4), entries))


def load(instructions: Iterable[Instruction | Label], maps: Mapping[str, Map]) -> Program:
    """A classifier of these instructions, in the kernel: its return value is test_run's."""
    code = tuple(isa.resolve_labels(instructions))
    spec = ProgramSpec("send", ProgramType.SCHED_CLS, AttachType(0), "__sk_buff", code, {})
    return Program.load(spec, maps)


def _packet_to_stack(length: int) -> tuple[Instruction | Label, ...]:
    """Copy `length` bytes of the packet to the stack, which is zero without them; r6 is the context."""
    zero = tuple(isa.store_imm(8, 10, RECORD + at, 0) for at in range(0, MOST_BYTES, 8))
    return (
        *zero,
        isa.mov(6, 1),
        isa.mov_imm(2, PACKET_HEADER),
        isa.mov(3, 10),
        isa.alu_imm(Alu.ADD, 3, RECORD),
        isa.mov_imm(4, length),
        isa.call(Helper.SKB_LOAD_BYTES),
    )


def ring_output(events: Map, length: int = 8, flags: int = 0) -> Program:
    """Sends `length` bytes of the packet, whatever `flags` say of waking; returns what the helper returned."""
    code = (
        *_packet_to_stack(length),
        isa.load_map(1, "events"),
        isa.mov(2, 10),
        isa.alu_imm(Alu.ADD, 2, RECORD),
        isa.mov_imm(3, length),
        isa.mov_imm(4, flags),
        isa.call(Helper.RINGBUF_OUTPUT),
        isa.exit_program(),
    )
    return load(code, {"events": events})


def counted_output(events: Map, lost: Map, length: int = 8) -> Program:
    """As `ring_output`; what does not fit is counted in the first entry of `lost`."""
    code = (
        *_packet_to_stack(length),
        isa.load_map(1, "events"),
        isa.mov(2, 10),
        isa.alu_imm(Alu.ADD, 2, RECORD),
        isa.mov_imm(3, length),
        isa.mov_imm(4, 0),
        isa.call(Helper.RINGBUF_OUTPUT),
        isa.jump_if_imm(Jump.JEQ, 0, 0, "sent"),
        isa.store_imm(4, 10, -4, 0),
        isa.load_map(1, "lost"),
        isa.mov(2, 10),
        isa.alu_imm(Alu.ADD, 2, -4),
        isa.call(Helper.MAP_LOOKUP_ELEM),
        isa.jump_if_imm(Jump.JEQ, 0, 0, "sent"),
        isa.mov_imm(1, 1),
        isa.atomic(isa.Atomic.ADD, 8, 0, 0, 1),
        Label("sent"),
        isa.mov_imm(0, 0),
        isa.exit_program(),
    )
    return load(code, {"events": events, "lost": lost})


def reserve(events: Map, length: int, end: Helper) -> Program:
    """Reserves `length` bytes, writes the packet's first 8 to them, and ends the record by `end`."""
    code = (
        *_packet_to_stack(8),
        isa.load_map(1, "events"),
        isa.mov_imm(2, length),
        isa.mov_imm(3, 0),
        isa.call(Helper.RINGBUF_RESERVE),
        isa.jump_if_imm(Jump.JEQ, 0, 0, "full"),
        isa.load(8, 1, 10, RECORD),
        isa.store(8, 0, 0, 1),
        isa.mov(1, 0),
        isa.mov_imm(2, 0),
        isa.call(end),
        Label("full"),
        isa.mov_imm(0, 0),
        isa.exit_program(),
    )
    return load(code, {"events": events})


def perf_output(events: Map, length: int = 8) -> Program:
    """Puts `length` bytes of the packet out to the ring of the CPU it runs on; returns what the helper returned."""
    code = (
        *_packet_to_stack(length),
        isa.mov(1, 6),
        isa.load_map(2, "events"),
        isa.load_imm64(3, 0xFFFFFFFF),  # BPF_F_CURRENT_CPU
        isa.mov(4, 10),
        isa.alu_imm(Alu.ADD, 4, RECORD),
        isa.mov_imm(5, length),
        isa.call(Helper.PERF_EVENT_OUTPUT),
        isa.exit_program(),
    )
    return load(code, {"events": events})


def send(program: Program, *records: bytes) -> None:
    """Run the program once for each record."""
    for record in records:
        program.run(bytes(PACKET_HEADER) + record.ljust(MOST_BYTES, b"\0"))


def number(value: int) -> bytes:
    """A record of 8 bytes."""
    return value.to_bytes(8, "little")


def slow_halves(events: Map) -> Program:
    """Sends records of two halves, 8 bytes each and the same, with a good while between one and the other."""
    code = (
        *_packet_to_stack(8),
        isa.load_map(1, "events"),
        isa.mov_imm(2, 16),
        isa.mov_imm(3, 0),
        isa.call(Helper.RINGBUF_RESERVE),
        isa.jump_if_imm(Jump.JEQ, 0, 0, "full"),
        isa.mov(7, 0),
        isa.load(8, 8, 10, RECORD),
        isa.store(8, 7, 0, 8),
        isa.mov_imm(9, 0),
        Label("again"),
        isa.call(Helper.KTIME_GET_NS),
        isa.alu_imm(Alu.ADD, 9, 1),
        isa.jump_if_imm(Jump.JLT, 9, 1000, "again"),
        isa.store(8, 7, 8, 8),
        isa.mov(1, 7),
        isa.mov_imm(2, 0),
        isa.call(Helper.RINGBUF_SUBMIT),
        Label("full"),
        isa.mov_imm(0, 0),
        isa.exit_program(),
    )
    return load(code, {"events": events})


def draining(events: Map, seen: Map) -> Program:
    """Drains a user ring buffer; returns how many records it saw, and leaves 8 bytes of the last in `seen`."""
    code = (
        isa.load_map(1, "events"),
        isa.load_function(2, "each"),
        isa.mov_imm(3, 0),
        isa.mov_imm(4, 0),
        isa.call(Helper.USER_RINGBUF_DRAIN),
        isa.exit_program(),
        Label("each"),
        isa.mov(6, 1),
        isa.store_imm(4, 10, -4, 0),
        isa.load_map(1, "seen"),
        isa.mov(2, 10),
        isa.alu_imm(Alu.ADD, 2, -4),
        isa.call(Helper.MAP_LOOKUP_ELEM),
        isa.jump_if_imm(Jump.JEQ, 0, 0, "out"),
        isa.mov(1, 0),
        isa.mov_imm(2, 8),
        isa.mov(3, 6),
        isa.mov_imm(4, 0),
        isa.mov_imm(5, 0),
        isa.call(Helper.DYNPTR_READ),
        Label("out"),
        isa.mov_imm(0, 0),
        isa.exit_program(),
    )
    return load(code, {"events": events, "seen": seen})
