"""The programs and maps for one configuration: settings become constants and sizes."""

import resource

import attrs

from merbridge.datapath import state
from programs import PROGRAMS
from pybpfasm.compiler import Target, compile_collection
from pybpfasm.records import evolve
from pybpfasm.spec import CollectionSpec

# The oldest kernel that has all that the programs need: see `merbridge.datapath.datapath.NEEDED`.
TARGET = Target("5.15", fetching_atomics=True)

# Hooks of datagrams, which are there for DNS alone.
DNS_HOOKS = ("recvmsg6", "recvmsg4", "sendmsg6", "sendmsg4")

# No pod may have more than this part of the connections without a slot that can be in set-up at one time.
SHARES = 4
_LEAST_SHARE = 16

# Entries are allocated one by one, so that room costs nothing.
_HOST_ADDRESSES = 32768

# Containers a pod, on average, that membership by cgroup has room for.
_CGROUPS_PER_POD = 4


@attrs.frozen
class DatapathSettings:
    """What the datapath is made for: ztunnel's ports, its room, what it splices, DNS, what happens without ztunnel.

    `splice` is "off", "to-ztunnel" or "both".
    """

    out_port: int = 15001
    in_port: int = 15006
    hbone_port: int = 15008
    dns_port: int = 15053
    max_pods: int = 4096
    max_connections: int = 65536
    splice: str = "to-ztunnel"
    fail_open: bool = False
    capture_dns: bool = True


def share_of(connections: int) -> int:
    """How many of the connections without a slot that can be in set-up at one time a single pod may have."""
    return max(_LEAST_SHARE, connections // SHARES)


def slots_for(connections: int) -> int:
    """How many slots there are for that many connections: a power of two."""
    return 1 << (connections - 1).bit_length()


def collection(settings: DatapathSettings) -> CollectionSpec:
    """The programs, compiled for these settings, and all maps, the agent's own ones too."""
    slots = slots_for(settings.max_connections)
    compiled = compile_collection(
        [each for each in PROGRAMS if settings.capture_dns or each.name not in DNS_HOOKS],
        constants={
            "OUT_PORT": settings.out_port,
            "IN_PORT": settings.in_port,
            "HBONE_PORT": settings.hbone_port,
            "DNS_PORT": settings.dns_port,
            "CAPTURE_DNS": settings.capture_dns,
            "CONNECTIONS": slots,
            "FAIL_OPEN": settings.fail_open,
            "MOST_PER_NETNS": share_of(settings.max_connections),
            "PAGE_SIZE": resource.getpagesize(),
            "REDIRECT_TO_ZTUNNEL": settings.splice != "off",
            "REDIRECT_TO_APP": settings.splice == "both",
        },
        max_entries={
            "netns_info_map": settings.max_pods,
            "cgroup_info_map": settings.max_pods * _CGROUPS_PER_POD,
            "mesh_pods": settings.max_pods,
            # Pods have two addresses at most; the host has those of all Services, where kube-proxy uses IPVS.
            "places": settings.max_pods * 2 + _HOST_ADDRESSES,
            "connections": slots,
            "original_dst": settings.max_connections,
            "shares": settings.max_pods + 1,  # the host has one, too
            "sockets": slots * 2,
        },
        target=TARGET,
    )
    own = [
        state.pod_records.spec("pods", max_entries=settings.max_pods),
        state.agent_record.spec("agent"),
        state.source_records.spec("source"),
    ]
    return evolve(compiled, maps={**compiled.maps, **{spec.name: spec for spec in own}})
