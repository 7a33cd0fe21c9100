"""Contexts: the table is what the running kernel says, and the compiler and the kernel agree field by field."""

# ruff: noqa: E501 - a case a line

import os
import re
from collections.abc import Iterator
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

import pytest
from written_modules import MakeModule

import pybpfasm
from pybpfasm.compiler import CompileError, compile_collection, compile_program
from pybpfasm.kernel.collection import Collection
from pybpfasm.kernel.features import program_kind
from pybpfasm.kernel.programs import Program
from pybpfasm.kernel.target import running_target
from pybpfasm.lang import hooks as hooks_module
from pybpfasm.lang.context_access import HOOKS, KERNELS
from pybpfasm.lang.context_fields import ContextField
from pybpfasm.uapi import ProgramType
from tools.contexts.hooks import HOOKS as TRIED
from tools.contexts.hooks import hook_name
from tools.contexts.measure import measure

NUMBERS = ("u8", "u16", "u32", "u64", "i32", "be16", "be32")
DECORATORS = [name for name in vars(hooks_module) if callable(getattr(pybpfasm, name, None)) and name[0].islower()]


def kind_of(decorator: str) -> Any:
    """The hook that a decorator is for."""
    return getattr(pybpfasm, decorator)(len).kind


def table_name(decorator: str) -> str:
    """What the table calls that hook."""
    kind = kind_of(decorator)
    of_one_hook = kind.program_type == ProgramType.SCHED_CLS
    return kind.program_type.name.lower() if of_one_hook else hook_name(kind.program_type, kind.attach_type)


def fields(decorator: str) -> dict[str, ContextField]:
    """The fields of a hook's context."""
    context = kind_of(decorator).context
    return {name: each for name in dir(context) if isinstance(each := getattr(context, name), ContextField)}


def test_every_hook_of_the_table_has_a_decorator() -> None:
    """And each decorator a hook that was tried."""
    assert {table_name(each) for each in DECORATORS} == set(HOOKS)
    tried = {hook_name(kind, hook) for kind, (_, found) in TRIED.items() for hook in found}
    # By hand, since their contexts are not structs of numbers: perf_event's registers, netfilter's pointers.
    assert tried - set(HOOKS) == {"perf_event", "netfilter", "lirc_mode2"}


def test_the_table_is_what_this_kernel_says() -> None:
    """Each access is tried again; the running kernel answers as the newest of the table that is not newer does."""
    release = [int(part) for part in re.findall(r"\d+", os.uname().release)[:2]]
    index = max(number for number, name in enumerate(KERNELS) if [int(part) for part in name.split(".")] <= release)
    said: Any = measure()["hooks"]
    for hook, text in HOOKS.items():
        expected = {}
        for each in text.partition(":")[2].split(","):
            name, pairs = each.split()
            pair = pairs if len(pairs) == 2 else pairs[2 * index : 2 * index + 2]
            if pair not in ("--", "00"):
                expected[name] = pair
        found = {name: f"{uses[0]:x}{uses[1]:x}" for name, uses in said.get(hook, {}).items() if uses[0] or uses[1]}
        assert found == expected, hook


def decorators() -> Iterator[object]:
    """Each, with what it needs of the kernel."""
    for each in DECORATORS:
        kind = kind_of(each)
        since = "6.7" if each.endswith("_unix") else "5.10"
        needed = program_kind(kind.program_type, kind.attach_type, since)
        yield pytest.param(each, marks=[pytest.mark.needs(needed)] if since != "5.10" else [])


@pytest.mark.parametrize("decorator", list(decorators()))
def test_the_kernel_takes_what_the_compiler_takes(write_module: MakeModule, decorator: str) -> None:
    """Each field is read, and assigned if it can be somewhere: what compiles for this kernel, it loads."""
    context = kind_of(decorator).context
    bodies = {}
    for name, field in fields(decorator).items():
        element = element_of(context, name)
        if element not in NUMBERS:
            seen = "flags" if element == "FlowKeys" else "family"
            test = "    if x is None:\n        return 1\n" if field.nullable else ""
            bodies[f"read_{name}"] = f"x = ctx.{name}\n{test}    u32_seen.value = x.{seen}"
            continue
        bodies[f"read_{name}"] = f"{element}_seen.value = ctx.{name}" + (f"[{field.count - 1}]" if field.count else "")
        if field.writable:
            zero = {"be16": "htons(0)", "be32": "htonl(0)"}.get(element, "0")
            bodies[f"write_{name}"] = f"ctx.{name}" + ("[0]" if field.count else "") + f" = {zero}"
    source = "".join(f"{each}_seen = Global[{each}]()\n" for each in NUMBERS) + "".join(
        f"\n@bpf.{decorator}\ndef {name}(ctx: {context.__name__}) -> int:\n    {body}\n    return 1\n"
        for name, body in bodies.items()
    )
    module = write_module(source)
    target = running_target()
    taken, refused = 0, list[str]()
    for name in bodies:
        try:
            spec = compile_collection([getattr(module, name)], {}, {}, target=target)
        except CompileError as error:
            refused.append(error.reason)
            continue
        taken += 1
        Collection.load(spec).close()
    assert taken
    assert all(f" by {table_name(decorator)} programs" in each for each in refused)


def element_of(context: type, name: str) -> str:
    """The name of a field's type, or of its elements'."""
    hint = get_type_hints(context, include_extras=True)[name]
    for each in get_args(hint) if get_origin(hint) in (list, UnionType) else (hint,):
        known = next((number for number in NUMBERS if getattr(pybpfasm, number) == each), None)
        return known or str(each.__name__)
    raise AssertionError(hint)


# A program | what its error says.
REFUSED = [
    ("connect4", "SockAddr", "x = ctx.msg_src_ip4", "SockAddr.msg_src_ip4 cannot be read by cgroup_inet4_connect programs: cgroup_udp4_sendmsg programs can"),
    ("cgroup_skb_ingress", "SkBuff", "ctx.queue_mapping = 1", "SkBuff.queue_mapping cannot be assigned by cgroup_skb programs: sched_cls programs can"),
    ("sk_lookup", "SkLookup", "x = ctx.ingress_ifindex", "SkLookup.ingress_ifindex can be read by sk_lookup programs on Linux 6.1, this is compiled for 5.10: give a target"),
    ("connect_unix", "SockAddr", "x = ctx.family", "SockAddr.family can be read by cgroup_unix_connect programs on Linux 6.12, this is compiled for 5.10: give a target"),
    ("socket_filter", "SkBuff", "ctx.mark = 1", "SkBuff.mark cannot be assigned by socket_filter programs: sched_cls, cgroup_skb, cgroup_inet_egress, lwt_in, lwt_out, lwt_xmit, lwt_seg6local programs can"),
    ("getsockopt", "Sockopt", "ctx.level = 1", "Sockopt.level cannot be assigned by cgroup_getsockopt programs: cgroup_setsockopt programs can"),
    ("tc", "SkBuff", "s = ctx.sk\n    x = s.family", "this may be None: test it first, `if s is None`"),
    ("tc", "SkBuff", "s = ctx.sk\n    if s is None:\n        return 0\n    x = s.mark", "SockCommon has no field `mark`"),
    ("connect4", "SockAddr", "ctx.sk.priority = 1", "Sock.priority can be assigned in a program's own context only"),
]  # fmt: skip


@pytest.mark.parametrize(("decorator", "context", "body", "reason"), REFUSED, ids=[each[3][:50] for each in REFUSED])
def test_what_is_refused(write_module: MakeModule, decorator: str, context: str, body: str, reason: str) -> None:
    """At the field, with the programs or the kernel that can."""
    source = f"@bpf.{decorator}\ndef prog(ctx: {context}) -> int:\n    {body}\n    return 1\n"
    with pytest.raises(CompileError) as caught:
        compile_program(write_module(source).prog)
    assert caught.value.reason.startswith(reason)


def test_a_full_socket_is_made_of_a_packets(write_module: MakeModule) -> None:
    """`sk_fullsock` of the packet's socket shows the fields of a full one, and the kernel takes it."""
    body = """
@bpf.cgroup_skb_egress
def prog(ctx: SkBuff) -> int:
    some = ctx.sk
    if some is None:
        return 1
    full = sk_fullsock(some)
    if full is None:
        return some.family & 1
    return full.mark & 1
"""
    Program.load(compile_program(write_module(body).prog)).close()
