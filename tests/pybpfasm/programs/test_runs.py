"""Programs run with given input, attached to nothing."""

import os
import socket
import struct
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest
from small_specs import EXIT, PACKET, classifier, spec, xdp

from pybpfasm import isa
from pybpfasm.errors import KernelError
from pybpfasm.isa import Alu, Jump, Label
from pybpfasm.kernel import features, sys
from pybpfasm.kernel.programs import Program
from pybpfasm.uapi import AttachType, Helper, ProgramRunFlag, ProgramType, XdpAction

# Offsets in struct __sk_buff: mark; cb, which a program may write.
MARK, CB = 8, 48
SK_BUFF_SIZE = 192


def test_a_packet_comes_back_as_it_was_left() -> None:
    """A program that changes a byte of the packet: the change is seen, and the input is not touched."""
    program_spec = xdp(
        isa.load(4, 2, 1, 0),
        isa.load(4, 3, 1, 4),
        isa.mov_imm(0, XdpAction.ABORTED),
        isa.mov(4, 2),
        isa.alu_imm(Alu.ADD, 4, 14),
        isa.jump_if(Jump.JGT, 4, 3, "out"),
        isa.store_imm(1, 2, 5, 0xEE),
        isa.mov_imm(0, XdpAction.TX),
        Label("out"),
        EXIT,
    )
    with Program.load(program_spec) as program:
        run = program.run(PACKET)
        assert run.retval == XdpAction.TX
        assert run.data == PACKET[:5] + b"\xee" + PACKET[6:]
        assert run.duration_ns >= 0


def test_a_packet_that_grows() -> None:
    """What a program adds in front comes back, too."""
    program_spec = xdp(isa.mov_imm(2, -32), isa.call(Helper.XDP_ADJUST_HEAD), isa.mov_imm(0, 2), EXIT)
    with Program.load(program_spec) as program:
        run = program.run(PACKET)
        assert len(run.data) == len(PACKET) + 32
        assert run.data[32:] == PACKET


def test_a_context_goes_in_and_out() -> None:
    """Fields of the context are seen by the program, and what it writes to them comes back."""
    program_spec = classifier(
        isa.load(4, 2, 1, MARK), isa.alu_imm(Alu.ADD, 2, 1), isa.store(4, 1, CB, 2), isa.mov(0, 2), EXIT
    )
    context = bytearray(SK_BUFF_SIZE)
    struct.pack_into("=I", context, MARK, 41)
    with Program.load(program_spec) as program:
        run = program.run(PACKET, bytes(context))
    assert run.retval == 42
    assert struct.unpack_from("=I", run.context, CB) == (42,)


@pytest.mark.needs(features.RAW_TRACEPOINT_RUN)
def test_a_raw_tracepoint_on_a_cpu() -> None:
    """Its arguments are the context; with a CPU given it runs there."""
    program_spec = spec(
        (
            isa.load(8, 6, 1, 8),
            isa.call(Helper.GET_SMP_PROCESSOR_ID),
            isa.alu_imm(Alu.LSH, 0, 8),
            isa.alu(Alu.OR, 0, 6),
            EXIT,
        ),
        "raw",
        ProgramType.RAW_TRACEPOINT,
        AttachType(0),
        "bpf_raw_tracepoint_args",
    )
    cpu = max(os.sched_getaffinity(0))
    with Program.load(program_spec) as program:
        run = program.run(context=struct.pack("=QQ", 5, 7), flags=ProgramRunFlag.RUN_ON_CPU, cpu=cpu)
        assert run.retval == cpu << 8 | 7


def test_a_type_that_cannot_be_run() -> None:
    """It is told which type that is."""
    program_spec = spec(
        (isa.mov_imm(0, 1), EXIT), "ops", ProgramType.SOCK_OPS, AttachType.CGROUP_SOCK_OPS, "bpf_sock_ops"
    )
    with (
        Program.load(program_spec) as program,
        pytest.raises(KernelError, match=r"^cannot run program ops: programs of type sock_ops cannot be run by them"),
    ):
        program.run(PACKET)


def test_a_packet_that_is_too_short() -> None:
    """It is told that the input is what the type does not take."""
    with (
        Program.load(classifier(isa.mov_imm(0, 2), EXIT)) as program,
        pytest.raises(KernelError, match=r"^cannot run program small: a packet, context, flag or repetition that"),
    ):
        program.run(PACKET[:5])


@pytest.mark.needs(features.XDP_LIVE_FRAMES)
def test_live_frames() -> None:
    """Packets that the program passes are really received, as many as there were runs."""
    with ThreadPoolExecutor(1) as thread:
        assert thread.submit(_received_in_a_namespace, 5).result() == [b"hello"] * 5


def _received_in_a_namespace(count: int) -> list[bytes]:
    """Inject a UDP packet to an address of the loopback interface, and read it from a socket."""
    sys.unshare(sys.CLONE_NEWNET)
    subprocess.run(["ip", "-batch", "-"], input="link set lo up\naddr add 10.77.0.9/32 dev lo", text=True, check=True)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("10.77.0.9", 7777))
        receiver.settimeout(10)
        with Program.load(xdp(isa.mov_imm(0, XdpAction.PASS), EXIT)) as program:
            context = struct.pack("=6I", 0, len(_datagram()), 0, 1, 0, 0)  # ingress_ifindex 1: loopback
            run = program.run(_datagram(), context, repeat=count, flags=ProgramRunFlag.XDP_LIVE_FRAMES)
            assert run.data == b""
        return [receiver.recv(100) for _ in range(count)]


def _datagram() -> bytes:
    """An Ethernet frame with a UDP datagram from elsewhere to that address, without a UDP checksum."""
    udp = struct.pack(">HHHH", 5555, 7777, 8 + 5, 0) + b"hello"
    header = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0, b"\x0a\x63\0\1", b"\x0a\x4d\0\x09")
    total = sum(struct.unpack(">10H", header))
    total = (total & 0xFFFF) + (total >> 16)
    header = header[:10] + struct.pack(">H", ~(total + (total >> 16)) & 0xFFFF) + header[12:]
    return bytes(12) + b"\x08\x00" + header + udp
