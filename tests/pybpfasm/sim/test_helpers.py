"""Helpers: what each answers, the kernel's errors, and what the world notes."""

import errno
import socket

import pytest
from shapes import a_map, bytes_at, call, context_argument, result_of, signed_answer, stack_at

from pybpfasm import isa, sim
from pybpfasm.isa import Alu, Jump
from pybpfasm.sim.helpers import HELPERS
from pybpfasm.uapi import Helper, MapType

CTX = context_argument()


def test_time_moves_on() -> None:
    """Clocks read the world's, which each reading moves on; a run sees what the last left."""
    world = sim.World(clock_ns=5_000_000, tick_ns=10, suspended_ns=1_000_000)
    assert signed_answer(call(Helper.KTIME_GET_NS), world=world) == 5_000_010
    assert signed_answer(call(Helper.KTIME_GET_BOOT_NS), world=world) == 6_000_020
    assert signed_answer(call(Helper.KTIME_GET_COARSE_NS), world=world) == 5_000_000
    world.advance(1_000_000)
    assert signed_answer(call(Helper.KTIME_GET_NS), world=world) == 6_000_040
    before = signed_answer(call(Helper.JIFFIES64), world=world)
    world.advance(2_000_000_000)
    assert signed_answer(call(Helper.JIFFIES64), world=world) == before + 2000


@pytest.mark.parametrize(
    ("helper", "answer"),
    [
        (Helper.GET_CURRENT_PID_TGID, 7 << 32 | 8),
        (Helper.GET_CURRENT_UID_GID, 3 << 32 | 2),
        (Helper.GET_CURRENT_CGROUP_ID, 44),
        (Helper.GET_SMP_PROCESSOR_ID, 1),
        (Helper.GET_NUMA_NODE_ID, 6),
    ],
)
def test_the_current_task(helper: Helper, answer: int) -> None:
    """Who and where the program is comes from the world."""
    world = sim.World(uid=2, gid=3, tgid=7, pid=8, cgroup_id=44, cpu=1, numa_node=6)
    assert signed_answer(call(helper), world=world) == answer


def test_ancestor_cgroups_and_comm() -> None:
    """The ancestor at a level, 0 if there is none; the name is cut and padded."""
    world = sim.World(ancestor_cgroup_ids=[1, 5, 9], comm="a-long-process-name")
    level = [signed_answer(call(Helper.GET_CURRENT_ANCESTOR_CGROUP_ID, each), world=world) for each in range(4)]
    assert level == [1, 5, 9, 0]
    body = call(Helper.GET_CURRENT_COMM, stack_at(1, 8), 8, after=(isa.load(8, 0, 10, -8),))
    assert result_of(body, world=world).ret.to_bytes(8, "little") == b"a-long-\0"


def test_random_numbers_repeat_with_their_seed() -> None:
    """The same seed gives the same numbers, the next number is another."""
    first, second = sim.World(random_seed=4), sim.World(random_seed=4)
    numbers = [[signed_answer(call(Helper.GET_PRANDOM_U32), world=each) for _ in range(2)] for each in (first, second)]
    assert numbers[0] == numbers[1]
    assert numbers[0][0] != numbers[0][1]


@pytest.mark.parametrize(
    ("text", "arguments", "printed"),
    [
        (b"plain", (), "plain"),
        (b"%d %u", (-1, -1), "-1 4294967295"),
        (b"%lld %llu %llx", (-1, 5, 255), "-1 5 ff"),
        (b"%ld|%lu|%5d", (-2, 3, 7), "-2|3|    7"),
        (b"%05x %X %c%%", (0xAB, 0xCD, 65), "000ab CD A%"),
        (b"%px", (0x1234,), "0000000000001234"),
    ],
)
def test_trace_printk(text: bytes, arguments: tuple[int, ...], printed: str) -> None:
    """Formats as the kernel's: width and sign by the conversion."""
    format_ = bytes_at(1, text + b"\0")
    body = call(Helper.TRACE_PRINTK, format_, len(text) + 1, *(each & (1 << 64) - 1 for each in arguments))
    result = result_of(body)
    assert (result.printed, result.ret) == ([printed], len(printed))


@pytest.mark.parametrize("text", [b"%", b"%q", b"%d"])
def test_bad_formats(text: bytes) -> None:
    """An unknown conversion, and one without its argument, are EINVAL or an unset register."""
    body = call(Helper.TRACE_PRINTK, bytes_at(1, text + b"\0"), len(text) + 1)
    if text == b"%d":
        with pytest.raises(sim.UninitialisedError, match="argument of the format"):
            result_of(body)
    else:
        assert result_of(body).signed == -errno.EINVAL


def test_formats_end_at_their_zero() -> None:
    """What follows the first zero is no part of the format; without one it is EINVAL."""
    text = b"one\0two\0"
    result = result_of(call(Helper.TRACE_PRINTK, bytes_at(1, text), len(text)))
    assert (result.printed, result.ret) == (["one"], 3)
    assert signed_answer(call(Helper.TRACE_PRINTK, bytes_at(1, b"one"), 3)) == -errno.EINVAL


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"%#x", r"snprintf of b'%#x': the verifier refuses this format"),
        (b"%d %d", "or wants more arguments"),
        (b"%99999999d", "a width of more than 1000 is not simulated"),
    ],
)
def test_formats_that_the_verifier_refuses(text: bytes, message: str) -> None:
    """snprintf's format is looked at when the program is loaded: a bad one is an error, not an answer."""
    numbers = [isa.store_imm(8, 10, -8, 5), *stack_at(4, 8)]
    with pytest.raises(sim.SimError, match=message):
        result_of(call(Helper.SNPRINTF, stack_at(1, 64), 16, bytes_at(3, text + b"\0", 32), numbers, 8))


def test_formats_with_pointers() -> None:
    """%s reads a string, %pI4 an address, from an array of arguments; snprintf cuts and says the whole length."""
    data = [*bytes_at(6, b"name\0\0\0\0" + socket.inet_aton("10.1.2.3"), 32), isa.store(8, 10, -16, 6),
            isa.alu_imm(Alu.ADD, 6, 8), isa.store(8, 10, -8, 6)]  # fmt: skip
    format_ = bytes_at(1, b"%s %pI4\0")
    body = call(Helper.TRACE_VPRINTK, [*data, *format_], 8, stack_at(3, 16), 16)
    assert result_of(body).printed == ["name 10.1.2.3"]
    body = call(
        Helper.SNPRINTF, [*data, *stack_at(1, 96)], 8, bytes_at(3, b"%s %pI4\0"), stack_at(4, 16), 16,
        after=(isa.load(8, 1, 10, -96), isa.store(8, 10, -104, 1)),
    )  # fmt: skip
    assert result_of(body).ret == len("name 10.1.2.3") + 1


@pytest.mark.parametrize(
    ("helper", "text", "flags", "answer", "number"),
    [
        (Helper.STRTOL, b" -12x", 10, 4, -12),
        (Helper.STRTOL, b"0x1f", 0, 4, 31),
        (Helper.STRTOUL, b"017", 0, 3, 15),
        (Helper.STRTOUL, b"18446744073709551615", 10, 20, -1),
        (Helper.STRTOUL, b"18446744073709551616", 10, -errno.ERANGE, 0),
        (Helper.STRTOL, b"9223372036854775808", 10, -errno.ERANGE, 0),
        (Helper.STRTOL, b"x", 10, -errno.EINVAL, 0),
        (Helper.STRTOL, b"1", 7, -errno.EINVAL, 0),
    ],
)
def test_numbers_from_text(helper: Helper, text: bytes, flags: int, answer: int, number: int) -> None:
    """How many characters were taken, or the errno; the number is stored."""
    keep = (isa.mov(6, 0), isa.load(8, 7, 10, -8), isa.mov(0, 6))
    body = call(helper, bytes_at(1, text), len(text), flags, stack_at(4, 8), after=keep)
    entries = result_of(body, trace=True).trace
    assert signed_answer(body) == answer
    assert next(entry.changed[7] for entry in entries if 7 in entry.changed) == number & (1 << 64) - 1


def test_strncmp() -> None:
    """Equal, less, greater; bytes beyond the size do not count."""

    def compare(first: bytes, size: int, second: bytes) -> int:
        return signed_answer(call(Helper.STRNCMP, bytes_at(1, first, 32), size, bytes_at(3, second + b"\0", 64)))

    assert [compare(b"abc\0", 4, b"abc"), compare(b"abd\0", 2, b"abc")] == [0, 0]
    assert compare(b"abb\0", 4, b"abc") < 0 < compare(b"abd\0", 4, b"abc")


# --- tracing, other code ----------------------------------------------------------------------------------------------


def test_probe_reads() -> None:
    """What cannot be read is EFAULT and zeros; strings are cut, their length counts the zero."""
    ctx = sim.RegistersX86.call(b"/etc/passwd\0", 0x10)
    read = call(
        Helper.PROBE_READ_USER_STR,
        stack_at(1, 8),
        8,
        [isa.load(8, 3, 6, 112)],
        after=(isa.load(1, 1, 10, -7), isa.alu_imm(Alu.LSH, 1, 8), isa.alu(Alu.OR, 0, 1)),
    )
    assert result_of(read, ctx).ret == 8 | ord("e") << 8
    bad = call(Helper.PROBE_READ_KERNEL, stack_at(1, 8), 8, [isa.load(8, 3, 6, 104)])
    assert signed_answer(bad, ctx) == -errno.EFAULT
    assert signed_answer([*bad[:-1], isa.load(8, 0, 10, -8), isa.exit_program()], ctx) == 0


def test_functions_arguments() -> None:
    """Arguments and return value of a traced function; before it returns there is none."""
    ctx = sim.Arguments([11, 22], returned=33)
    read = (isa.load(8, 0, 10, -8),)
    assert result_of(call(Helper.GET_FUNC_ARG, CTX, 1, stack_at(3, 8), after=read), ctx).ret == 22
    assert result_of(call(Helper.GET_FUNC_RET, CTX, stack_at(2, 8), after=read), ctx).ret == 33
    assert signed_answer(call(Helper.GET_FUNC_ARG, CTX, 2, stack_at(3, 8)), ctx) == -errno.EINVAL
    assert signed_answer(call(Helper.GET_FUNC_ARG_CNT, CTX), ctx) == 2
    assert signed_answer(call(Helper.GET_FUNC_RET, CTX, stack_at(2, 8)), sim.Arguments([1])) == -errno.EOPNOTSUPP


def test_actions_are_noted() -> None:
    """Signals and overridden results are what the test asks for afterwards."""
    assert result_of(call(Helper.SEND_SIGNAL, 9)).actions[0].arguments == {"signal": 9}
    override = result_of(call(Helper.OVERRIDE_RETURN, CTX, (1 << 64) - 12), sim.RegistersX86())
    assert override.actions[0].helper == "override_return"


def test_stacks_are_canned() -> None:
    """get_stack copies the world's addresses, get_stackid keeps them under an id that repeats."""
    world = sim.World(stack=[0xA, 0xB, 0xC])
    body = call(Helper.GET_STACK, [isa.mov_imm(1, 0)], stack_at(2, 16), 16, 1, after=(isa.load(8, 0, 10, -8),))
    assert result_of(body, world=world).ret == 0xC
    m = a_map(MapType.STACK_TRACE, value=16)
    keep = call(Helper.GET_STACKID, [isa.mov_imm(1, 0)], [isa.load_map(2, "m")], 0)
    assert [signed_answer(keep, world=world, maps={"m": m}) for _ in range(2)] == [0, 0]
    assert m.stacks == {0: (0xA, 0xB)}


def test_loop() -> None:
    """bpf_loop calls back with 0, 1, … until the function says 1."""
    functions = isa.link_functions(
        [
            ("main", [isa.mov_imm(1, 10), isa.load_function(2, "f"), isa.mov_imm(3, 0), isa.mov_imm(4, 0),
                      isa.call(Helper.LOOP), isa.exit_program()]),
            ("f", [isa.mov_imm(0, 0), isa.jump_if_imm(Jump.JLT, 1, 6, "go on"), isa.mov_imm(0, 1), isa.Label("go on"),
                   isa.exit_program()]),
        ]
    )  # fmt: skip
    assert sim.run(functions).ret == 7
    assert signed_answer(call(Helper.LOOP, 1 << 24, 0, 0, 0)) == -errno.E2BIG


def test_locks_are_balanced() -> None:
    """A lock is released before the end, and no helper is called while it is held."""
    m = a_map(MapType.ARRAY, max_entries=1)
    lock = [isa.load_map_value(1, "m")]
    unlock = (*lock, isa.call(Helper.SPIN_UNLOCK), isa.mov_imm(0, 1))
    assert result_of(call(Helper.SPIN_LOCK, lock, after=unlock), maps={"m": m}).ret == 1
    with pytest.raises(sim.SimError, match="still holds a lock: spin_unlock is missing"):
        result_of(call(Helper.SPIN_LOCK, lock), maps={"m": m})
    with pytest.raises(sim.SimError, match="ktime_get_ns is called while a lock is held"):
        result_of(call(Helper.SPIN_LOCK, lock, after=(isa.call(Helper.KTIME_GET_NS),)), maps={"m": m})
    with pytest.raises(sim.SimError, match="a lock that the program does not hold"):
        result_of(call(Helper.SPIN_UNLOCK, lock), maps={"m": m})


def test_kernel_variables() -> None:
    """A kernel variable has the bytes that the world gives, a per-CPU one those of its CPU."""
    world = sim.World(variables={"linux_banner": b"Linux\0", "counter": [b"\1", b"\2"]}, cpu=1)
    read = [isa.load_kernel_variable(1, "linux_banner"), isa.load(1, 0, 1, 4), isa.exit_program()]
    assert sim.run(read, world=world).ret == ord("x")
    variable = [isa.load_kernel_variable(1, "counter")]
    assert result_of(call(Helper.THIS_CPU_PTR, variable, after=(isa.load(1, 0, 0, 0),)), world=world).ret == 2
    assert result_of(call(Helper.PER_CPU_PTR, variable, 5), world=world).ret == 0
    with pytest.raises(sim.SimError, match="kernel variable jiffies is not given"):
        sim.run([isa.load_kernel_variable(1, "jiffies"), isa.exit_program()])


def test_a_test_supplies_helpers() -> None:
    """A function in place of a helper gets machine and converted arguments; a kernel function is found by name."""
    seen = []

    def sys_bpf(machine: sim.Machine, command: int, address: int, size: int) -> int:
        seen.append((command, machine.memory.read(address, size)))
        return -1

    body = call(Helper.SYS_BPF, (1 << 40) + 5, bytes_at(2, b"abcd"), 4)
    assert signed_answer(body, helpers={Helper.SYS_BPF: sys_bpf}) == -1
    assert seen == [(5, b"abcd")]
    kernel = [isa.mov_imm(1, 4), isa.call_kfunc("bpf_double"), isa.exit_program()]
    assert sim.run(kernel, helpers={"bpf_double": lambda _machine, number: 2 * number}).ret == 8


def test_the_table_has_what_networking_and_tracing_use() -> None:
    """Each helper that the documentation promises is in the table."""
    promised = """
        map_lookup_elem map_update_elem map_delete_elem map_push_elem map_pop_elem map_peek_elem for_each_map_elem
        map_lookup_percpu_elem ktime_get_ns ktime_get_boot_ns ktime_get_coarse_ns ktime_get_tai_ns jiffies64
        get_prandom_u32 get_smp_processor_id get_numa_node_id trace_printk trace_vprintk snprintf get_current_pid_tgid
        get_current_uid_gid get_current_comm get_current_cgroup_id get_current_ancestor_cgroup_id get_current_task
        get_socket_cookie get_socket_uid get_netns_cookie probe_read probe_read_user probe_read_kernel probe_read_str
        probe_read_user_str probe_read_kernel_str perf_event_output ringbuf_output ringbuf_reserve ringbuf_submit
        ringbuf_discard ringbuf_query skb_load_bytes skb_load_bytes_relative skb_store_bytes skb_pull_data
        skb_change_head skb_change_tail skb_change_proto skb_vlan_push skb_vlan_pop l3_csum_replace l4_csum_replace
        csum_diff csum_update redirect redirect_peer redirect_map clone_redirect xdp_adjust_head xdp_adjust_tail
        xdp_adjust_meta sk_storage_get sk_storage_delete task_storage_get cgrp_storage_get loop sk_lookup_tcp
        sk_lookup_udp skc_lookup_tcp sk_release sk_fullsock tcp_sock sk_assign bind setsockopt getsockopt
        sock_ops_cb_flags_set sock_map_update sock_hash_update sk_redirect_map sk_redirect_hash msg_redirect_map
        msg_redirect_hash msg_apply_bytes msg_cork_bytes msg_pull_data msg_push_data msg_pop_data strtol strtoul strncmp
        spin_lock spin_unlock kptr_xchg this_cpu_ptr per_cpu_ptr get_func_ip get_func_arg get_func_ret override_return
        send_signal get_stack get_stackid reserve_hdr_opt store_hdr_opt load_hdr_opt fib_lookup"""
    assert {Helper[name.upper()] for name in promised.split()} <= HELPERS.keys()
