"""What loads, and what the kernel then says of it: functions, types, lines, maps, flags, statistics."""

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from small_specs import EXIT, PACKET, classifier, spec, xdp

from pybpfasm import isa
from pybpfasm.btf import BtfBuilder, Linkage, kinds
from pybpfasm.errors import BpfError, KernelError
from pybpfasm.isa import Alu, Jump, Label
from pybpfasm.kernel import features
from pybpfasm.kernel.btf_objects import read_types, vmlinux
from pybpfasm.kernel.maps import Map
from pybpfasm.kernel.programs import Program
from pybpfasm.kernel.stats import enable_stats
from pybpfasm.kernel.verifier import VerifierError
from pybpfasm.spec import FunctionInfo, MapSpec, SourceLine, Untyped
from pybpfasm.uapi import AttachType, Helper, MapType, ProgramLoadFlag, ProgramType

RETURN_TWO = (isa.mov_imm(0, 2), EXIT)


def functions_of(program: Program) -> list[str]:
    """The names of functions in the types that the kernel keeps for a program."""
    types = read_types(program.info().btf_id)
    return [record.name for _, record in types if isinstance(record, kinds.Func)]


# --- functions and lines ----------------------------------------------------------------------------------------------


def test_a_function_of_its_own_gets_a_name() -> None:
    """A program with a call loads with types for both functions, named by their slot where nobody named them."""
    program_spec = xdp(isa.call_function("f"), EXIT, Label("f"), isa.mov_imm(0, 2), EXIT)
    with Program.load(program_spec) as program:
        assert functions_of(program) == ["small", "function_2"]
        assert program.run(PACKET).retval == 2


def test_lines_of_functions_are_in_the_log() -> None:
    """The error of a function that is called points at that function's own source line."""
    lines = (SourceLine(0, "/x/one.py", 3, 1, "call()"), SourceLine(2, "/x/two.py", 7, 5, "return unset"))
    program_spec = xdp(isa.call_function("f"), EXIT, Label("f"), isa.mov(0, 7), EXIT, lines=lines)
    with pytest.raises(VerifierError) as caught:
        Program.load(program_spec)
    said = str(caught.value)
    assert said.startswith(
        "the kernel rejected program small at /x/two.py:7:5, `return unset`: R7 !read_ok: R7 has no value"
    )
    assert caught.value.slot == 2
    assert "; return unset" in caught.value.log


def test_lines_that_miss_a_function_are_left_out() -> None:
    """The kernel wants a line at each function's start: without it the program loads all the same."""
    lines = (SourceLine(0, "one.py", 3, 1, "call()"),)
    Program.load(xdp(isa.call_function("f"), EXIT, Label("f"), isa.mov_imm(0, 2), EXIT, lines=lines)).close()


@pytest.mark.needs(features.LOOP)
def test_a_callback() -> None:
    """bpf_loop calls back a function whose address the program takes: that needs its types."""
    program_spec = xdp(
        isa.store_imm(8, 10, -8, 0),
        isa.mov_imm(1, 5),
        isa.load_function(2, "each"),
        isa.mov(3, 10),
        isa.alu_imm(Alu.ADD, 3, -8),
        isa.mov_imm(4, 0),
        isa.call(Helper.LOOP),
        isa.load(8, 0, 10, -8),
        EXIT,
        Label("each"),
        isa.load(8, 1, 2, 0),
        isa.alu_imm(Alu.ADD, 1, 3),
        isa.store(8, 2, 0, 1),
        isa.mov_imm(0, 0),
        EXIT,
    )
    with Program.load(program_spec) as program:
        assert program.run(PACKET).retval == 15


def test_types_of_the_spec() -> None:
    """A spec's own types and function names come to the kernel."""
    builder = BtfBuilder()
    integer = builder.add(kinds.Int("int", 4, 32, signed=True))
    prototype = builder.add(kinds.FuncProto(integer, (kinds.Parameter("first", integer),)))
    helper = builder.add(kinds.Func("helper", prototype))
    main = builder.add(kinds.Func("entry", prototype))
    program_spec = xdp(
        isa.call_function("f"),
        EXIT,
        Label("f"),
        isa.mov_imm(0, 2),
        EXIT,
        functions=(FunctionInfo(0, "entry", main), FunctionInfo(2, "helper", helper)),
        types=builder.encode(),
    )
    with Program.load(program_spec) as program:
        assert functions_of(program) == ["helper", "entry"]


def newer_types() -> tuple[bytes, int]:
    """Types with all that older kernels, or all kernels, refuse; and the id of a function among them."""
    builder = BtfBuilder()
    integer = builder.add(kinds.Int("int", 4, 32, signed=True))
    double = builder.add(kinds.Float("double", 8))
    big = builder.add(kinds.Enum64("big", 8, (kinds.Enumerator("ONE", 1 << 40),)))
    tagged = builder.add(kinds.TypeTag("user", integer))
    pointer = builder.add(kinds.Ptr(tagged))
    members = (kinds.Member("d", double, 0), kinds.Member("b", big, 64), kinds.Member("p", pointer, 128))
    structure = builder.add(kinds.Struct("all", 24, members))
    builder.add(kinds.DeclTag("note", structure, 1))
    to_structure = builder.add(kinds.Ptr(structure))
    prototype = builder.add(kinds.FuncProto(integer, (kinds.Parameter("x", to_structure),)))
    function = builder.add(kinds.Func("entry", prototype))
    variable = builder.add(kinds.Var("zero", integer, Linkage.GLOBAL))
    extern = builder.add(kinds.Func("bpf_kernel_function", prototype, Linkage.EXTERN))
    # Compilers leave the size of a section, and of what is in it, to be filled in.
    builder.add(kinds.DataSec(".data", 0, (kinds.SectionVariable(variable, 0, 4),)))
    builder.add(kinds.DataSec(".ksyms", 0, (kinds.SectionVariable(extern, 0, 0),)))
    return builder.encode(), function


def test_types_that_the_kernel_refuses_are_replaced() -> None:
    """Sections that a compiler left unfinished, and on older kernels newer kinds, keep no program from loading."""
    blob, function = newer_types()
    functions = (FunctionInfo(0, "entry", function),)
    lines = (SourceLine(0, "one.py", 1, 1, "return 2"),)
    with Program.load(xdp(*RETURN_TWO, functions=functions, types=blob, lines=lines)) as program:
        assert "entry" in functions_of(program)
        types = read_types(program.info().btf_id)
        assert isinstance(types.type(function), kinds.Func)
        assert not [record for _, record in types if isinstance(record, kinds.DataSec)]


def test_types_that_are_wrong() -> None:
    """Types that refer to what is not there are told with the kernel's words; bytes that are no BTF, too."""
    builder = BtfBuilder()
    function = builder.add(kinds.Func("entry", 99))
    broken = xdp(*RETURN_TWO, functions=(FunctionInfo(0, "entry", function),), types=builder.encode())
    with pytest.raises(KernelError, match=r"^cannot load the source lines of program small \(BTF\): .* refuses `.*99"):
        Program.load(broken)
    nothing = xdp(*RETURN_TWO, functions=(FunctionInfo(0, "entry", 1),), types=b"nothing")
    with pytest.raises(BpfError, match=r"^cannot load the source lines of program small \(BTF\): BTF"):
        Program.load(nothing)


# --- the kernel's symbols ---------------------------------------------------------------------------------------------


@pytest.mark.needs(features.KFUNCS)
def test_a_kernel_function_is_called() -> None:
    """A kfunc by its name: it gives the kernel's own struct behind the context."""
    data_end = vmlinux().field("xdp_buff.data_end").byte_offset
    data = vmlinux().field("xdp_buff.data").byte_offset
    program_spec = xdp(
        isa.call_kfunc("bpf_cast_to_kern_ctx"),
        isa.load(8, 1, 0, data),
        isa.load(8, 0, 0, data_end),
        isa.alu(Alu.SUB, 0, 1),
        EXIT,
    )
    with Program.load(program_spec) as program:
        assert program.run(PACKET).retval == len(PACKET)


@pytest.mark.needs(features.KERNEL_VARIABLES)
def test_a_kernel_variable_is_read() -> None:
    """A per-CPU variable by its name: the run queue knows its CPU."""
    cpu_field = vmlinux().field("rq.cpu").byte_offset
    program_spec = classifier(
        isa.load_kernel_variable(1, "runqueues"), isa.call(Helper.THIS_CPU_PTR), isa.load(4, 0, 0, cpu_field), EXIT
    )
    allowed = os.sched_getaffinity(0)
    chosen = max(allowed)
    os.sched_setaffinity(0, {chosen})
    try:
        with Program.load(program_spec) as program:
            assert program.run(PACKET).retval == chosen
    finally:
        os.sched_setaffinity(0, allowed)


def test_the_address_of_a_symbol() -> None:
    """A symbol without a type becomes its address in kallsyms."""
    with open("/proc/kallsyms") as file:
        address = next(int(fields[0], 16) for fields in map(str.split, file) if fields[2] == "_text")
    wide = isa.load_imm64(0, 0)._replace(symbol="_text")
    with Program.load(classifier(wide, EXIT)) as program:
        assert program.run(PACKET).retval == address & 0xFFFFFFFF


@pytest.mark.parametrize(
    ("instruction", "message"),
    [
        (isa.call_kfunc("no_such_function"), "this kernel and its loaded modules have no kernel function 'no_such_"),
        (isa.load_kernel_variable(1, "no_such_variable"), "this kernel and its loaded modules have no kernel variable"),
        (isa.load_imm64(1, 0)._replace(symbol="no_such_symbol"), "this kernel has no symbol 'no_such_symbol' in /proc"),
    ],
)
@pytest.mark.needs(features.KERNEL_BTF)
def test_a_symbol_that_this_kernel_has_not(instruction: isa.Instruction, message: str) -> None:
    """It is told by name before the verifier is asked."""
    with pytest.raises(KernelError, match=rf"^cannot load program small: .*{message}") as caught:
        Program.load(classifier(instruction, *RETURN_TWO))
    assert caught.value.errno == errno.ENOENT


# --- maps, flags, statistics, information -----------------------------------------------------------------------------


def small_map(name: str = "numbers") -> Map:
    """An array of one number."""
    return Map.create(MapSpec(name, MapType.ARRAY, Untyped(4), Untyped(8), 1))


def test_information() -> None:
    """Type, name, when and by whom it was loaded, sizes, license, maps, types."""
    before = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    with (
        small_map() as numbers,
        Program.load(xdp(isa.load_map(1, "numbers"), *RETURN_TWO), {"numbers": numbers}) as one,
    ):
        info = one.info()
        assert (info.type, info.name, info.created_by_uid, info.gpl_compatible) == (ProgramType.XDP, "small", 0, True)
        assert before <= info.load_time_ns <= time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        assert info.map_ids == {numbers.info().id}
        assert info.translated_size == 4 * 8
        assert info.jited_size > 0
        assert info.btf_id > 0
        if info.verified_instructions:  # Linux 5.16
            assert info.verified_instructions == 3
    with Program.load(xdp(*RETURN_TWO, license="MIT")) as other:
        assert not other.info().gpl_compatible


def test_a_map_is_bound() -> None:
    """A map that the program does not use lives as long as the program does."""
    with Program.load(xdp(*RETURN_TWO)) as program:
        with small_map("metadata") as metadata:
            number = metadata.info().id
            program.bind_map(metadata)
            program.bind_map(metadata)
        assert program.info().map_ids == {number}


def test_statistics() -> None:
    """Runs are counted while somebody asks for it, and only then."""
    with Program.load(xdp(*RETURN_TWO)) as program:
        program.run(PACKET, repeat=3)
        assert program.stats.run_count == 0
        with enable_stats():
            program.run(PACKET, repeat=5)
        program.run(PACKET)
        assert program.stats.run_count == 5
        assert program.stats.run_time_ns > 0


def test_sleepable_and_other_flags() -> None:
    """A flag of the spec comes to the kernel: without it, the program could not be of this type."""
    flags = int(ProgramLoadFlag.SLEEPABLE)
    program_spec = spec((isa.mov_imm(0, 7), EXIT), "sys", ProgramType.SYSCALL, AttachType(0), "", flags=flags)
    try:
        program = Program.load(program_spec)
    except KernelError as error:
        assert "this kernel does not know programs of type syscall" in str(error)  # noqa: PT017 - before Linux 5.14
        return
    with program:
        assert program.run(context=bytes(8)).retval == 7


def test_what_the_kernel_does_not_know() -> None:
    """A type, a flag that no kernel has: one line says that the verifier was not asked."""
    with pytest.raises(KernelError, match=r"^cannot load program small: the verifier was not asked: .*\(EINVAL\)$"):
        Program.load(xdp(*RETURN_TWO, flags=1 << 30))


def test_opened_again(bpffs: Path) -> None:
    """By its pin and by its id it is the same program, with the caller's spec if there is one."""
    program_spec = xdp(*RETURN_TWO)
    with Program.load(program_spec) as program:
        program.pin(bpffs / "program")
        with Program.open(bpffs / "program") as plain, Program.by_id(program.info().id, program_spec) as known:
            assert plain.info() == known.info() == program.info()
            assert (plain.spec.name, plain.spec.attach_type) == ("small", AttachType(0))
            assert known.spec is program_spec


# --- logs and interruptions -------------------------------------------------------------------------------------------


def test_a_log_of_success() -> None:
    """Asked for, the log is there also of a program that loads; otherwise it is empty."""
    with Program.load(xdp(*RETURN_TWO), log_level=2) as program:
        assert "0: (b7) r0 = 2" in program.log
        assert "processed 2 insns" in program.log
    with Program.load(xdp(*RETURN_TWO), log_level=4) as program:
        assert "(b7)" not in program.log
    with Program.load(xdp(*RETURN_TWO)) as program:
        assert program.log == ""


def test_a_log_that_grows() -> None:
    """A log longer than the first buffer is had whole: its first instruction and its reason are in it."""
    many = [isa.alu_imm(Alu.ADD, 0, 1) for _ in range(6000)]
    with pytest.raises(VerifierError, match=r": R5 !read_ok: R5 has no value on one of the ways") as caught:
        Program.load(xdp(isa.load(4, 0, 1, 12), *many, isa.mov(0, 5), EXIT))
    assert len(caught.value.log) > 1 << 16
    assert "0: (61) r0 = *(u32 *)(r1 +12)" in caught.value.log
    assert caught.value.slot == 6001


def test_a_log_that_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the log is larger than what is read of it, the reason is still found."""
    from pybpfasm.kernel import loading

    monkeypatch.setattr(loading, "_LARGEST_LOG_BYTES", 1 << 16)
    many = [isa.alu_imm(Alu.ADD, 0, 1) for _ in range(6000)]
    with pytest.raises(VerifierError, match=r": R5 !read_ok: R5 has no value on one of the ways") as caught:
        Program.load(xdp(isa.load(4, 0, 1, 12), *many, isa.mov(0, 5), EXIT))
    assert len(caught.value.log) <= 1 << 16


def test_a_load_that_signals_interrupt() -> None:
    """The verifier gives way to signals (EAGAIN): the load is done all the same."""
    handled = threading.Event()
    before = signal.signal(signal.SIGALRM, lambda *_: handled.set())
    walk = [
        isa.mov_imm(1, 0),
        Label("again"),
        isa.alu_imm(Alu.ADD, 1, 1),
        isa.jump_if_imm(Jump.JNE, 1, 20_000, "again"),
    ]
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.005)
        with Program.load(xdp(*walk, *RETURN_TWO)) as program:
            assert program.run(PACKET).retval == 2
        assert handled.wait(5)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


# --- without privilege ------------------------------------------------------------------------------------------------

WITHOUT = """
import ctypes, sys
sys.path[:0] = {path!r}
from pybpfasm.kernel.permissions import program_denial
from pybpfasm.uapi import ProgramType
for kind in (ProgramType.XDP, ProgramType.TRACING, ProgramType.SOCKET_FILTER):
    program_denial(kind)  # parts are loaded when first used
header = (ctypes.c_uint32 * 2)(0x20080522, 0)
sets = (ctypes.c_uint32 * 6)(0, 0, 0, 1 << 39 - 32, 1 << 39 - 32, 0)  # CAP_BPF alone, effective and permitted
assert ctypes.CDLL(None).capset(header, sets) == 0
for kind in (ProgramType.XDP, ProgramType.TRACING, ProgramType.SOCKET_FILTER):
    print(program_denial(kind))
"""


def test_what_is_missing_is_named() -> None:
    """A process with CAP_BPF alone is told which capability a program's type needs beside it."""
    command = [sys.executable, "-c", WITHOUT.format(path=sys.path)]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    network, tracing, plain = found.stdout.splitlines()
    assert network == "it needs root, or CAP_BPF and CAP_NET_ADMIN; CAP_NET_ADMIN is missing"
    assert tracing == "it needs root, or CAP_BPF and CAP_PERFMON; CAP_PERFMON is missing"
    assert plain.startswith(("the capabilities are ", "kernel lockdown ", "a seccomp filter "))
