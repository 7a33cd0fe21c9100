"""Let no more than so many packets a second leave by an interface: a token bucket.

    python examples/rate_limit.py eth0 --per-second 100 --burst 20

Time that has passed is credit, up to a burst; a packet costs its share of a second. A lock keeps two CPUs from spending
the same credit. Needs root.
"""

import argparse
import time

import pybpfasm as bpf
from pybpfasm import Array, SkBuff, SpinLock, Struct, spin_lock, u32, u64
from pybpfasm import helpers as h
from pybpfasm.compiler import compile_collection
from pybpfasm.kernel import Collection, TypedMap
from pybpfasm.kernel.links import Direction, attach_traffic
from pybpfasm.scripts import run_script
from pybpfasm.uapi import TcxAction

SECOND_NS = 1_000_000_000
# Other numbers are put in their place below, when the program is compiled.
COST_NS = 10_000_000
MOST_NS = 200_000_000


class Bucket(Struct):
    """The credit that is there, when it was counted, and what became of packets so far."""

    lock: SpinLock = SpinLock()
    credit_ns: u64 = 0
    counted_ns: u64 = 0
    passed: u64 = 0
    dropped: u64 = 0


bucket = Array[u32, Bucket](max_entries=1)


@bpf.tc
def limit(ctx: SkBuff) -> int:
    """Pass a packet that can be paid for, drop any other."""
    entry = bucket.lookup(0)
    if entry is None:
        return TcxAction.NEXT
    now = h.ktime_get_ns()  # before the lock: while it is held nothing is called
    verdict = 0
    with spin_lock(entry.lock):
        credit = entry.credit_ns
        if now > entry.counted_ns:  # a CPU that was quicker may have counted later
            credit = min(credit + now - entry.counted_ns, MOST_NS)
            entry.counted_ns = now
        if credit >= COST_NS:
            credit -= COST_NS
            entry.passed += 1
            verdict = 1
        else:
            entry.dropped += 1
        entry.credit_ns = credit
    return TcxAction.NEXT if verdict == 1 else TcxAction.DROP


def main() -> None:
    """Attach to what goes out, and tell each second what was dropped."""
    parser = argparse.ArgumentParser(description="Limit how many packets a second leave by an interface.")
    parser.add_argument("interface")
    parser.add_argument("--per-second", type=int, default=100, metavar="N")
    parser.add_argument("--burst", type=int, default=20, metavar="N", help="how many at once after a pause")
    arguments = parser.parse_args()
    if not 1 <= arguments.per_second <= SECOND_NS or arguments.burst < 1:
        parser.error("--per-second and --burst are 1 at least")
    cost = SECOND_NS // arguments.per_second
    constants = {"COST_NS": cost, "MOST_NS": cost * arguments.burst}
    with Collection.load(compile_collection([limit], constants)) as loaded:
        view = TypedMap(bucket, loaded.maps["bucket"])
        loaded.attach("limit", attach_traffic(loaded.programs["limit"], arguments.interface, Direction.EGRESS))
        print(f"{arguments.per_second} packets a second leave by {arguments.interface}; Ctrl-C ends it")
        told = 0
        while True:
            time.sleep(1)
            now = view[0]
            if now.dropped > told:
                told = now.dropped
                print(f"{now.passed} packets passed, {now.dropped} dropped")


if __name__ == "__main__":
    run_script(main)
