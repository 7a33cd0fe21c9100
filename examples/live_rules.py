"""Refuse a cgroup's connects to IPv4 addresses by rules that are typed in while it runs.

    python examples/live_rules.py /sys/fs/cgroup/my.slice
    block 192.0.2.1
    allow 192.0.2.1

Rules go to the program through a user ring buffer, without a system call each; it reads them when the next connect is
made, and keeps them in a map of its own. Ctrl-D or Ctrl-C ends it. Needs root and Linux 6.1.
"""

import argparse
import sys
from ipaddress import AddressValueError, IPv4Address
from pathlib import Path

import pybpfasm as bpf
from pybpfasm import Dynptr, HashMap, SockAddr, Struct, UserRingBuf, atomic_add, be32, htonl, ntohl, u32, u64
from pybpfasm.compiler import compile_collection
from pybpfasm.kernel import Collection, TypedMap, UserRingBuffer, running_target
from pybpfasm.scripts import run_script


class Rule(Struct):
    """What user space sends."""

    ip4: be32
    refuse: u32


class Refused(Struct):
    """How many connects were refused."""

    connects: u64


rules = UserRingBuf(max_entries=4096)
blocked = HashMap[be32, Refused](max_entries=1024)


@bpf.callback
def apply(data: Dynptr) -> int:
    """Take one rule over."""
    rule = Rule(ip4=htonl(0), refuse=0)
    if data.read(rule, 0) != 0:
        return 0
    if rule.refuse != 0:
        blocked.update(rule.ip4, Refused(connects=0))
    else:
        blocked.delete(rule.ip4)
    return 0


@bpf.connect4
def guard(ctx: SockAddr) -> int:
    """Take new rules over, then decide."""
    rules.drain(apply)
    refused = blocked.lookup(ctx.user_ip4)
    if refused is None:
        return 1
    atomic_add(refused.connects, 1)
    return 0


def rule_of(line: str) -> Rule | None:
    """What a line says; None, and a word about it, for one that says nothing."""
    verb, _, text = line.strip().partition(" ")
    try:
        if verb in ("block", "allow"):
            return Rule(ip4=htonl(int(IPv4Address(text.strip()))), refuse=int(verb == "block"))
    except AddressValueError as error:
        print(f"{error}: write an IPv4 address")
        return None
    print(f"{verb!r}: write `block ADDRESS` or `allow ADDRESS`")
    return None


def main() -> None:
    """Attach, and send what is typed in."""
    parser = argparse.ArgumentParser(description="Refuse connects by rules that are typed in: block and allow.")
    parser.add_argument("cgroup", type=Path, help="a directory of cgroup v2")
    arguments = parser.parse_args()
    with Collection.load(compile_collection([guard], target=running_target())) as loaded:
        loaded.attach_all(cgroup=arguments.cgroup)
        print(f"rules for {arguments.cgroup}: block ADDRESS, allow ADDRESS; Ctrl-C ends it")
        with UserRingBuffer(loaded.maps["rules"], Rule) as sender:
            for line in sys.stdin:
                rule = rule_of(line)
                if rule is not None:
                    sender.write(rule)
                    print(f"sent: {line.strip()}")
        for address, refused in TypedMap(blocked, loaded.maps["blocked"]).items():
            print(f"{IPv4Address(ntohl(address))}  {refused.connects} connects refused")


if __name__ == "__main__":
    run_script(main)
