"""Helpers that are seen at work: text compared, other CPUs' values, sockets as the kernel has them."""

import socket

import pytest
from written_modules import MakeModule
from written_programs import assert_refused

from pybpfasm.compiler import compile_collection
from pybpfasm.kernel import Collection, features
from pybpfasm.kernel.links import attach_iterator
from pybpfasm.kernel.maps import PerCpuMap, possible_cpus
from pybpfasm.kernel.target import running_target


@pytest.mark.needs(features.LOOP)  # strncmp came with bpf_loop, in 5.17
def test_text_is_compared_with_a_constant(write_module: MakeModule) -> None:
    """strncmp answers 0 for equal text, in the packet's first bytes."""
    module = write_module("""
@bpf.tc
def prog(ctx: SkBuff) -> int:
    word = Buffer(4)
    if h.skb_load_bytes_relative(ctx, 0, word, 0) != 0:
        return 8
    return 1 if h.strncmp(word, b"GET ") == 0 else 2
""")
    with Collection.load(compile_collection([module.prog], target=running_target())) as loaded:
        run = loaded.programs["prog"].run
        assert run(b"GET /" + bytes(60)).retval == 1
        assert run(b"PUT /" + bytes(60)).retval == 2


@pytest.mark.parametrize("text", ["b''", "b'a\\0b'", "'text'", "ctx"])
def test_only_a_constant_text_is_taken(write_module: MakeModule, text: str) -> None:
    """What else is given for one is refused at its place."""
    line = f"return 1 if h.strncmp(word, {text}) == 0 else 2"
    module = write_module(f"@bpf.tc\ndef prog(ctx: SkBuff) -> int:\n    word = Buffer(4)\n    {line}\n")
    assert_refused(module, f"{line} | {text}", "", running_target())


@pytest.mark.needs(features.LOOP)
def test_another_cpus_value_is_looked_up(write_module: MakeModule) -> None:
    """The sum over all CPUs, each by its number; a CPU that is not there has none."""
    module = write_module(f"""
class Count(Struct):
    n: u64

counts = PerCpuArray[u32, Count](max_entries=1)

@bpf.tc
def prog(ctx: SkBuff) -> int:
    total = 0
    for cpu in unroll(range({possible_cpus()} + 1)):
        value = counts.lookup_on(0, cpu)
        if value is None:
            total += 100
        else:
            total += value.n
    return total & 0xFFF if total < 4096 else 0
""")
    with Collection.load(compile_collection([module.prog], target=running_target())) as loaded:
        view = PerCpuMap(module.counts, loaded.maps["counts"])
        view[0] = [module.Count(n=number + 1) for number in range(possible_cpus())]
        expected = sum(range(1, possible_cpus() + 1)) + 100
        run = loaded.programs["prog"].run(bytes(64))
    assert run.retval == expected


@pytest.mark.needs(features.ITERATORS)
def test_a_socket_is_seen_as_the_kernels(write_module: MakeModule) -> None:
    """An iterator over TCP sockets finds the listening one by the kernel's struct: its port, and its state."""
    module = write_module("""
class bpf_iter_meta(KernelStruct):
    seq: "seq_file"

class seq_file(KernelStruct):
    size: u64

class sock_common(KernelStruct):
    skc_num: u16
    skc_state: u8

class inet_connection_sock(KernelStruct):
    icsk_rto: u32

class tcp_sock(KernelStruct):
    inet_conn: inet_connection_sock

@bpf.iterate("tcp")
def prog(meta: bpf_iter_meta, sk_common: sock_common | None) -> int:
    if sk_common is None:
        return 0
    found = skc_to_tcp_sock(sk_common, tcp_sock)
    if found is None:
        return 0
    armed = 1 if found.inet_conn.icsk_rto > 0 else 0
    seq_printf(meta.seq, "%d %d %d\\n", sk_common.skc_num, sk_common.skc_state, armed)
    return 0
""")
    with (
        Collection.load(compile_collection([module.prog], target=running_target())) as loaded,
        socket.create_server(("127.0.0.1", 0)) as server,
        attach_iterator(loaded.programs["prog"]) as link,
    ):
        port = server.getsockname()[1]
        lines = link.read().decode().splitlines()
    assert f"{port} 10 1" in lines  # TCP_LISTEN
