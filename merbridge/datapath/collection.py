"""The programs and maps for one configuration: settings become constants and sizes."""

import resource

import attrs

from merbridge.datapath import state
from programs import PROGRAMS
from pybpfasm.compiler import compile_collection
from pybpfasm.records import evolve
from pybpfasm.spec import CollectionSpec

# Containers a pod, on average, that membership by cgroup has room for.
_CGROUPS_PER_POD = 4


@attrs.frozen
class DatapathSettings:
    """What the datapath is made for: ztunnel's port for outbound connections, its room, what it splices.

    `splice` is "off", "to-ztunnel" or "both".
    """

    out_port: int = 15001
    max_pods: int = 4096
    max_connections: int = 65536
    splice: str = "to-ztunnel"


def collection(settings: DatapathSettings) -> CollectionSpec:
    """The programs, compiled for these settings, and all maps, the agent's own ones too."""
    compiled = compile_collection(
        PROGRAMS,
        constants={
            "OUT_PORT": settings.out_port,
            "PAGE_SIZE": resource.getpagesize(),
            "REDIRECT_TO_ZTUNNEL": settings.splice != "off",
            "REDIRECT_TO_APP": settings.splice == "both",
        },
        max_entries={
            "netns_info_map": settings.max_pods,
            "cgroup_info_map": settings.max_pods * _CGROUPS_PER_POD,
            "original_dst": settings.max_connections,
            "sockets": settings.max_connections * 2,
        },
    )
    own = [
        state.pod_records.spec("pods", max_entries=settings.max_pods),
        state.agent_record.spec("agent"),
    ]
    return evolve(compiled, maps={**compiled.maps, **{spec.name: spec for spec in own}})
