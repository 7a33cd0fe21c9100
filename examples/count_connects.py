"""Count the IPv4 TCP connections that a command makes, by destination.

    python examples/count_connects.py CGROUP -- COMMAND [ARGUMENT …]

CGROUP is a cgroup v2 directory; the command runs in it. Needs root.
"""

import argparse
import subprocess
from ipaddress import IPv4Address
from pathlib import Path

import pybpfasm as bpf
from pybpfasm import HashMap, SockAddr, Struct, be16, be32, ntohl, ntohs, u64
from pybpfasm.compiler import compile_collection
from pybpfasm.kernel import Collection, TypedMap
from pybpfasm.scripts import run_script

IPPROTO_TCP = 6


class Destination(Struct):
    """Where a connection goes."""

    ip4: be32
    port: be16


class Count(Struct):
    """How many went there."""

    connects: u64


counts = HashMap[Destination, Count](max_entries=4096)


@bpf.connect4
def count_connects(ctx: SockAddr) -> int:
    """Count, and let everything pass."""
    if ctx.protocol != IPPROTO_TCP:
        return 1
    destination = Destination(ip4=ctx.user_ip4, port=ctx.user_port)
    count = counts.lookup(destination)
    if count is None:
        counts.update(destination, Count(connects=1))
        return 1
    count.connects += 1
    return 1


def run_in(cgroup: Path, command: list[str]) -> None:
    """Run a command in the cgroup; a shell joins it first, then becomes the command."""
    join = 'echo $$ > "$0/cgroup.procs" && exec "$@"'
    subprocess.run(["/bin/sh", "-c", join, str(cgroup), *command], check=False)


def main() -> None:
    """Attach, run, print."""
    parser = argparse.ArgumentParser(description="Count the TCP connections that a command makes.")
    parser.add_argument("cgroup", type=Path, help="a directory of cgroup v2")
    parser.add_argument("command", nargs="+", help="behind --")
    arguments = parser.parse_args()
    with Collection.load(compile_collection([count_connects])) as loaded:
        loaded.attach_all(cgroup=arguments.cgroup)
        run_in(arguments.cgroup, arguments.command)
        for destination, count in TypedMap(counts, loaded.maps["counts"]).items():
            print(f"{IPv4Address(ntohl(destination.ip4))}:{ntohs(destination.port)}  {count.connects}")


if __name__ == "__main__":
    run_script(main)
