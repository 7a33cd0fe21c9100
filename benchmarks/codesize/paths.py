"""The hot paths: what each connection, message and query goes through, and the instructions run on the way."""

from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from benchmarks.codesize.equality import run
from benchmarks.codesize.rivals import Pair
from benchmarks.codesize.scenes import ACCEPTED, CROWDED, PROGRAMS
from benchmarks.codesize.values import OTHER_POD6, SERVICE6, ZTUNNEL_IP
from pybpfasm.spec import ProgramSpec

# By program, then by what happens: how the scene differs from the usual one.
HOT: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "connect4": {
        "redirected": {},
        "redirected, without a slot": {"pending": "another's"},
        "redirected, known by cgroup": {"netns": "unknown", "cgroup": "in mesh"},
        "to the pod itself": {"to": "127.0.0.1"},
        "host to pod": {"netns": "host", "to": "10.0.0.6"},
        "host to elsewhere": {"netns": "host"},
        "outside the mesh": {"netns": "outside"},
        "nobody's namespace": {"netns": "unknown"},
        "UDP": {"protocol": 17},
        "DNS": {"protocol": 17, "netns": "dns", "port": 53},
    },
    "connect6": {
        "redirected": {},
        "redirected, without a slot": {"pending": "another's"},
        "redirected, known by cgroup": {"netns": "unknown", "cgroup": "in mesh"},
        "to the pod itself": {"to": "::1"},
        "host to pod": {"netns": "host", "to": "::ffff:10.0.0.6"},
        "host to elsewhere": {"netns": "host", "to": "2001:db8::1"},
        "IPv6 redirected": {"to": SERVICE6},
        "IPv6 host to pod": {"netns": "host", "to": OTHER_POD6},
        "refused": {"to": SERVICE6, "ztunnel": (ZTUNNEL_IP, "::")},
        "outside the mesh": {"netns": "outside"},
        "nobody's namespace": {"netns": "unknown"},
        "UDP": {"protocol": 17},
        "DNS": {"protocol": 17, "netns": "dns", "port": 53},
        "IPv6 DNS": {"protocol": 17, "netns": "dns", "port": 53, "to": SERVICE6},
    },
    "getpeername4": {
        "answered": {},
        "answered, without a slot": {"slot": "free", "side": 0},
        "another socket": {"slot": "free"},
    },
    "getpeername6": {
        "answered": {},
        "answered, without a slot": {"slot": "free", "side": 0},
        "another socket": {"slot": "free"},
    },
    "getsockopt": {
        "answered": {},
        "answered to IPv6": {"level": 41, "family": 10},
        "answered, without a slot": {"slot": "free", "state": 1},
        "another option": {"optname": 81},
        "another level": {"level": 1},
        "another socket": {"slot": "free"},
    },
    "recvmsg4": {"answered": {}, "connected": {"connected": True}, "another datagram": {"port": 53}},
    "recvmsg6": {
        "answered": {"from": f"::ffff:{ZTUNNEL_IP}"},
        "IPv6 answered": {},
        "connected": {"connected": True},
        "another datagram": {"port": 53},
    },
    "redirect": {
        "redirected": {},
        "by TCP": {"by_tcp": 1},
        "to the app": {"sender": "accepted"},
        "another socket": {"slot": "free"},
    },
    "sendmsg4": {
        "asked": {"storage": "there"},
        "first asked": {"storage": "new"},
        "another pod": {"netns": "in mesh"},
        "elsewhere": {"port": 80},
    },
    "sendmsg6": {
        "asked": {"storage": "there"},
        "first asked": {"storage": "new"},
        "another pod": {"netns": "in mesh"},
        "elsewhere": {"port": 80},
    },
    "sockops": {
        "SYN leaves": {"op": 3},
        "SYN leaves, without a slot": CROWDED,
        "client established": {"op": 4, "slot": "own"},
        "ztunnel established": {**ACCEPTED, "slot": "own"},
        "ztunnel established, without a slot": {**ACCEPTED, "entry": "same"},
        "first byte by TCP": {"op": 14, "slot": "own"},
        "client closed": {"op": 10, "slot": "own"},
        "client closed, without a slot": {"op": 10, "state": "there"},
        "another's SYN": {"op": 3, "pending": "free"},
        "another's client established": {"op": 4},
        "another's accept": ACCEPTED,
        "another port's accept": {"op": 5, "local_port": 40000},
        "another event": {"op": 2},
    },
}


@attrs.frozen
class Path:
    """A hot path and how many instructions ours and the twin run on it."""

    program: str
    name: str
    ours: int
    twin: int


def steps(program: ProgramSpec, pair: Pair, change: Mapping[str, Any]) -> int:
    """How many instructions a program runs in the usual scene with something changed."""
    make, choices = PROGRAMS[program.name]
    scene = {**{name: options[0] for name, options in choices.items()}, **change}
    return run(program, make(pair.ours, scene))[1].steps


def paths(pair: Pair) -> Iterator[Path]:
    """All hot paths, measured."""
    for name, changes in HOT.items():
        for what, change in changes.items():
            ours = steps(pair.ours.programs[name], pair, change)
            yield Path(name, what, ours, steps(pair.twins[name], pair, change))
