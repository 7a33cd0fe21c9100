"""Count the IPv4 TCP connections that a command makes, by destination.

    python examples/count_connects.py CGROUP -- COMMAND [ARGUMENT …]

CGROUP is a cgroup v2 directory; the command runs in it. Needs root.
"""

import ipaddress
import os
import subprocess
import sys
from pathlib import Path

import pybpfasm as bpf
from pybpfasm import HashMap, SockAddr, Struct, be16, be32, ntohl, ntohs, u64
from pybpfasm.compiler import compile_program
from pybpfasm.kernel import Map, Program, TypedMap, attach_cgroup

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
    cgroup, separator, *command = sys.argv[1:]
    if separator != "--" or not command:
        raise SystemExit(__doc__)
    spec = compile_program(count_connects)
    directory = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY)
    with Map.create(spec.maps["counts"]) as map_, Program.load(spec, {"counts": map_}) as program:
        with attach_cgroup(program, directory):
            run_in(Path(cgroup), command)
        for destination, count in TypedMap(counts, map_).items():
            address = ipaddress.IPv4Address(ntohl(destination.ip4))
            print(f"{address}:{ntohs(destination.port)}  {count.connects}")
    os.close(directory)


if __name__ == "__main__":
    main()
