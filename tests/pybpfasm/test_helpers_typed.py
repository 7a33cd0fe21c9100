"""Every helper as a function of the language: compiled, called as the kernel wants it, or told why not."""

import re
from pathlib import Path
from typing import get_type_hints

import pytest
from written_modules import MakeModule

from pybpfasm import isa
from pybpfasm.compiler import CompileError, compile_program, frontend
from pybpfasm.kernel.collection import Collection
from pybpfasm.kernel.target import named_target, running_target
from pybpfasm.kernel.verifier import VerifierError
from pybpfasm.lang import helpers
from pybpfasm.lang.buffers import Data, Exact, Into, KernelObject, Text
from pybpfasm.lang.contexts import Context, SockAddr, SockOps, Sysctl
from pybpfasm.lang.maps import MapDeclaration
from pybpfasm.lang.packets import SkBuff, SkMsg, XdpMd
from pybpfasm.lang.types import be16
from pybpfasm.spec import CollectionSpec
from pybpfasm.uapi import Helper
from tools import generate_helpers

FUNCTIONS = {name: function for name, function in vars(helpers).items() if hasattr(function, "__bpf_helper__")}

HEAD = """
import pybpfasm as bpf
from pybpfasm import Buffer, HashMap, SkBuff, SkMsg, SockAddr, SockHash, SockOps, Struct, XdpMd, htons, u32, u64
from pybpfasm import helpers as h

class Value(Struct):
    number: u64

class Cookie(Struct):
    cookie: u64

class Key(Struct):
    number: u32

entries = HashMap[Key, Value](max_entries=4)
sockets = SockHash[Key, Cookie](max_entries=4)
"""

# Which decorator and context stand for a parameter's type; a helper that takes any has a packet's.
HOOKS = {
    SkBuff: "tc",
    XdpMd: "xdp",
    SockOps: "sock_ops",
    SockAddr: "connect4",
    SkMsg: "sk_msg",
    Sysctl: "sysctl",
    Context: "tc",
}

# What the running kernel's verifier takes as it is called here, in one of these types of programs: a number, no special
# state before, no object of the kernel's.
LOADED = """
    get_prandom_u32 get_smp_processor_id ktime_get_ns ktime_get_boot_ns ktime_get_coarse_ns jiffies64
    get_numa_node_id clone_redirect skb_vlan_push skb_vlan_pop redirect get_route_realm skb_change_type
    skb_change_tail skb_pull_data csum_update set_hash_invalid get_hash_recalc skb_change_head xdp_adjust_head
    xdp_adjust_meta xdp_adjust_tail get_socket_cookie get_socket_uid set_hash skb_adjust_room msg_apply_bytes
    msg_cork_bytes msg_pull_data msg_push_data msg_pop_data skb_cgroup_classid csum_level skb_ecn_set_ce
    skb_cgroup_id skb_ancestor_cgroup_id get_cgroup_classid sock_ops_cb_flags_set get_netns_cookie redirect_peer
    skb_change_proto xdp_get_buff_len skb_set_tstamp sock_hash_update msg_redirect_hash skb_get_tunnel_opt
    skb_set_tunnel_opt skb_load_bytes_relative
"""


def call_of(name: str) -> tuple[str, str]:
    """A call with plausible arguments, and the hook of a program that may make it."""
    hints = get_type_hints(FUNCTIONS[name], include_extras=True)
    hints.pop("return")
    hook, arguments = "tc", []
    for hint in hints.values():
        origin = getattr(hint, "__origin__", None)
        if isinstance(hint, type) and issubclass(hint, Context):
            hook = HOOKS[hint]
            arguments.append("ctx")
        elif hint == KernelObject:
            arguments.append("ctx")
        elif hint == be16:
            arguments.append("htons(0x8100)")
        elif hint == Text:
            arguments.append("b'text'")
        elif hint in (Data, Into, Exact):
            arguments.append("buffer")
        elif isinstance(origin, type) and issubclass(origin, MapDeclaration):
            arguments.append("sockets" if "sock" in name or "msg" in name or name.startswith("sk_") else "entries")
        elif getattr(hint, "__name__", "") == "K":
            arguments.append("Key(number=1)")
        else:
            arguments.append("0")
    return hook, f"h.{name}({', '.join(arguments)})"


def source_of(name: str) -> str:
    """A program that calls it."""
    hook, call = call_of(name)
    context = next(type_.__name__ for type_, each in HOOKS.items() if each == hook and type_ is not Context)
    buffer = "    buffer = Buffer(16)\n" if "buffer" in call else ""
    return f"{HEAD}\n@bpf.{hook}\ndef prog(ctx: {context}) -> int:\n{buffer}    {call}\n    return 1\n"


def test_the_module_is_what_the_generator_makes() -> None:
    """Whoever changes the prototypes or the rules runs it again."""
    kept, made = Path(helpers.__file__).read_text(), generate_helpers.text()
    made, kept = (re.sub(r"\s+", "", text) for text in (made, kept))
    assert made.replace(",)", ")") == kept.replace(",)", ")"), "run `python tools/generate_helpers.py`"


ELSEWHERE = [name for names in generate_helpers.ELSEWHERE.values() for name in names.split()]


def test_each_helper_is_a_function_or_stands_elsewhere() -> None:
    """None is forgotten, none is there twice; those that programs cannot call yet are listed."""
    not_yet = generate_helpers.NOT_YET.split()
    assert sorted([*ELSEWHERE, *not_yet, *FUNCTIONS]) == sorted(each.name.lower() for each in Helper if each)


def test_the_page_counts_them() -> None:
    """docs/language.md says how many there are, and how many cannot be called yet."""
    page = " ".join((Path(__file__).parents[2] / "docs" / "language.md").read_text().split())
    assert f"Of the kernel's {len(Helper) - 1} helpers {len(FUNCTIONS)} are functions" in page
    assert f" {len(generate_helpers.NOT_YET.split())} cannot be called yet" in page


def test_what_stands_elsewhere_is_called_there() -> None:
    """The language's own words for a helper end in a call of it."""
    folders = (Path(helpers.__file__).parent, Path(frontend.__file__).parent)
    text = "".join(path.read_text() for folder in folders for path in folder.glob("*.py"))
    assert [name for name in ELSEWHERE if not re.search(rf"\bHelper\.{name.upper()}\b", text)] == []


@pytest.mark.parametrize("name", FUNCTIONS)
def test_each_can_be_called(write_module: MakeModule, name: str) -> None:
    """A call compiles to one call of that number, with an argument in a register for each of the kernel's."""
    spec = compile_program(write_module(source_of(name)).prog, target=named_target("7.2"))
    calls = [each for each in spec.instructions if each == isa.call(FUNCTIONS[name].__bpf_helper__)]
    assert len(calls) == 1


@pytest.mark.parametrize("name", LOADED.split())
def test_the_verifier_agrees(write_module: MakeModule, name: str) -> None:
    """The arguments are of the kinds that the kernel's own prototype has."""
    spec = compile_program(write_module(source_of(name)).prog, target=running_target())
    try:
        Collection.load(CollectionSpec({"prog": spec}, dict(spec.maps))).close()
    except VerifierError as error:
        pytest.fail(f"{name}: {error}")


def test_bytes_come_with_their_size(write_module: MakeModule) -> None:
    """What is written is 16 bytes long, and the program sees what the kernel wrote."""
    module = write_module(
        HEAD
        + """
@bpf.tc
def prog(ctx: SkBuff) -> int:
    buffer = Buffer(4)
    if h.skb_load_bytes_relative(ctx, 12, buffer, 0) != 0:
        return 7
    return 1 if buffer[0] == 0x45 and len(buffer) == 4 else 2
"""
    )
    spec = compile_program(module.prog)
    with Collection.load(CollectionSpec({"prog": spec}, {})) as loaded:
        packet = bytes(12) + b"\x08\x00" + b"\x45" + bytes(60)
        assert loaded.programs["prog"].run(bytes(12) + b"\x45\x00\x08\x00" + packet).retval == 1


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        ("h.clone_redirect(1, 1, 0)", "this is int where SkBuff is wanted"),
        ("h.skb_get_tunnel_opt(ctx, b'abc')", "a struct, an array or text that can be written is wanted here"),
        ("h.setsockopt(5, 1, 2, Buffer(4))", "an object of the kernel's is wanted here, this is int"),
        ("h.redirect(1)", "redirect(): missing a required argument: 'flags'"),
        ("h.get_socket_uid(ctx, 1)", "get_socket_uid(): too many positional arguments"),
    ],
)
def test_wrong_arguments_are_told(write_module: MakeModule, call: str, reason: str) -> None:
    """At the argument, in the language's words."""
    module = write_module(f"{HEAD}\n@bpf.tc\ndef prog(ctx: SkBuff) -> int:\n    {call}\n    return 1\n")
    with pytest.raises(CompileError) as caught:
        compile_program(module.prog)
    assert caught.value.reason.startswith(reason)


def test_a_target_that_lacks_it(write_module: MakeModule) -> None:
    """It is told at the call, by name; a younger target has it."""
    module = write_module(source_of("xdp_get_buff_len"))
    with pytest.raises(CompileError, match=r"Linux 5\.10, for which this is compiled, has no helper xdp_get_buff_len"):
        compile_program(module.prog, target=named_target("5.10"))
    assert compile_program(module.prog, target=named_target("6.12")).name == "prog"
