"""Refuse connects of a cgroup to the IPv4 addresses of a long list.

    python examples/blocklist.py /sys/fs/cgroup/my.slice addresses.txt

A bloom filter answers first: for most addresses that are not on the list it says so by itself, out of a few bits that
stay in the CPU's cache. Only what may be on the list is looked for in the list. Needs root and Linux 5.16.
"""

import argparse
from ipaddress import AddressValueError, IPv4Address
from pathlib import Path

import pybpfasm as bpf
from pybpfasm import BloomFilter, HashMap, RingBuf, SockAddr, Struct, be16, be32, htonl, ntohl, ntohs, u32
from pybpfasm import helpers as h
from pybpfasm.compiler import compile_collection
from pybpfasm.errors import BpfError
from pybpfasm.kernel import Collection, RingBuffer, TypedMap, maps
from pybpfasm.scripts import run_script


class Address(Struct):
    """Of IPv4."""

    ip4: be32


class Listed(Struct):
    """That an address is on the list."""

    line: u32


class Refused(Struct):
    """A connect that was refused, by which process, because of which line."""

    ip4: be32
    port: be16
    pid: u32
    line: u32


maybe_listed = BloomFilter[Address](max_entries=1 << 16)
listed = HashMap[Address, Listed](max_entries=1 << 16)
refusals = RingBuf(max_entries=1 << 16)


@bpf.connect4
def guard(ctx: SockAddr) -> int:
    """Ask the filter, then the list."""
    address = Address(ip4=ctx.user_ip4)
    if maybe_listed.peek(address) != 0:
        return 1
    entry = listed.lookup(address)
    if entry is None:
        return 1
    pid = h.get_current_pid_tgid() >> 32
    refusals.output(Refused(ip4=ctx.user_ip4, port=ctx.user_port, pid=pid, line=entry.line))
    return 0


def addresses_of(path: Path) -> dict[int, int]:
    """The addresses of a file, one a line, as numbers, each with its line's number; `#` begins a comment."""
    found: dict[int, int] = {}
    for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
        text = line.partition("#")[0].strip()
        try:
            if text:
                found[int(IPv4Address(text))] = number
        except AddressValueError as error:
            raise BpfError(f"{path}:{number}: {error}: write one IPv4 address a line") from None
    return found


def main() -> None:
    """Fill filter and list, attach, and print what is refused."""
    parser = argparse.ArgumentParser(description="Refuse connects of a cgroup to the addresses of a list.")
    parser.add_argument("cgroup", type=Path, help="a directory of cgroup v2")
    parser.add_argument("file", type=Path, help="IPv4 addresses, one a line")
    arguments = parser.parse_args()
    lines = addresses_of(arguments.file)
    with Collection.load(compile_collection([guard])) as loaded:
        entries = {Address(ip4=htonl(number)): Listed(line=line) for number, line in lines.items()}
        TypedMap(listed, loaded.maps["listed"]).update_batch(entries)
        bloom: maps.BloomFilter[Address] = maps.BloomFilter(loaded.maps["maybe_listed"], Address)
        for address in entries:
            bloom.add(address)
        loaded.attach_all(cgroup=arguments.cgroup)
        print(f"{len(lines)} addresses are out of reach for {arguments.cgroup}; Ctrl-C ends it")
        with RingBuffer(loaded.maps["refusals"], Refused) as events:
            for event in events:
                target = f"{IPv4Address(ntohl(event.ip4))}:{ntohs(event.port)}"
                print(f"refused {target} to process {event.pid}: {arguments.file.name}:{event.line}")


if __name__ == "__main__":
    run_script(main)
