"""Hooks that programs are attached to (attach types), each tried with a program and a target that cannot be."""

import errno
import functools

from pybpfasm import isa
from pybpfasm.errors import KernelError, UnsupportedFeatureError
from pybpfasm.kernel import features
from pybpfasm.kernel.features import Feature, attaching, loading, loading_spec
from pybpfasm.kernel.links.cgroup import CGROUP_HOOKS
from pybpfasm.kernel.maps import Map
from pybpfasm.kernel.probes.program_types import PROGRAM_TYPES
from pybpfasm.kernel.probes.sample_programs import sample_program
from pybpfasm.spec import MapSpec, Untyped
from pybpfasm.uapi import AttachType, MapType, ProgramType


def _attached(hook: AttachType, program_type: ProgramType, since: str, option: str | None = None) -> Feature:
    """Loaded for the hook, and attached to a descriptor that is none."""
    return Feature(_name(hook), since, functools.partial(attaching, program_type, hook), option)


def _loaded(hook: AttachType, program_type: ProgramType, since: str, option: str | None = None) -> Feature:
    """Loaded for the hook: the kernel looks at the hook then."""

    def probe() -> str | None:
        return loading_spec(sample_program(program_type, hook))

    return Feature(_name(hook), since, probe, option)


def _cgroup(hook: AttachType) -> Feature:
    if hook == AttachType.LSM_CGROUP:
        return features.LSM_CGROUP
    return _attached(hook, CGROUP_HOOKS[hook].program_type, CGROUP_HOOKS[hook].since)


def _name(hook: AttachType) -> str:
    return f"hook {hook.name.lower()}"


def _reading_egress_interface() -> str | None:
    """Only programs in a device map may read it, the last field of `struct xdp_md` (xdp_is_valid_access)."""
    code = (isa.load(4, 0, 1, _EGRESS_IFINDEX), isa.mov_imm(0, 2), isa.exit_program())
    return loading(ProgramType.XDP, AttachType.XDP_DEVMAP, code)


_EGRESS_IFINDEX = 20


def _reading_migrating_socket() -> str | None:
    """The last field of `struct sk_reuseport_md` came with the hook, which older kernels do not look at."""
    hook, reading = AttachType.SK_REUSEPORT_SELECT_OR_MIGRATE, isa.load(8, 2, 1, _MIGRATING_SK)
    return loading_spec(sample_program(ProgramType.SK_REUSEPORT, hook, (reading,)))


_MIGRATING_SK = 48


def _creating_map_of_cpus_with_programs() -> str | None:
    """The hook is not looked at when a program is loaded, but the map's values have a place for it (9216477449f3)."""
    spec = MapSpec("probe", MapType.CPUMAP, Untyped(4), Untyped(8), 1)
    try:
        Map.create(spec).close()
    except UnsupportedFeatureError as error:
        return str(error)
    except KernelError as error:
        if error.errno != errno.EINVAL:
            raise
        return str(error)
    return None


ATTACH_TYPES: dict[AttachType, Feature] = {
    **{hook: _cgroup(hook) for hook in sorted(CGROUP_HOOKS)},
    AttachType.SK_SKB_STREAM_PARSER: _attached(AttachType.SK_SKB_STREAM_PARSER, ProgramType.SK_SKB, "4.14"),
    AttachType.SK_SKB_STREAM_VERDICT: _attached(AttachType.SK_SKB_STREAM_VERDICT, ProgramType.SK_SKB, "4.14"),
    AttachType.SK_SKB_VERDICT: features.SK_SKB_VERDICT,
    AttachType.SK_MSG_VERDICT: _attached(AttachType.SK_MSG_VERDICT, ProgramType.SK_MSG, "4.17"),
    AttachType.LIRC_MODE2: PROGRAM_TYPES[ProgramType.LIRC_MODE2],
    AttachType.FLOW_DISSECTOR: PROGRAM_TYPES[ProgramType.FLOW_DISSECTOR],
    AttachType.SK_LOOKUP: PROGRAM_TYPES[ProgramType.SK_LOOKUP],
    AttachType.SK_REUSEPORT_SELECT: PROGRAM_TYPES[ProgramType.SK_REUSEPORT],
    AttachType.SK_REUSEPORT_SELECT_OR_MIGRATE: Feature(
        _name(AttachType.SK_REUSEPORT_SELECT_OR_MIGRATE), "5.14", _reading_migrating_socket
    ),
    AttachType.TRACE_RAW_TP: Feature(
        _name(AttachType.TRACE_RAW_TP),
        "5.5",
        lambda: features.loading_for(ProgramType.TRACING, AttachType.TRACE_RAW_TP, "sched_switch"),
        "CONFIG_DEBUG_INFO_BTF",
    ),
    AttachType.TRACE_FENTRY: features.FENTRY,
    AttachType.TRACE_FEXIT: _loaded(AttachType.TRACE_FEXIT, ProgramType.TRACING, "5.5", "CONFIG_DEBUG_INFO_BTF"),
    AttachType.TRACE_FSESSION: _loaded(AttachType.TRACE_FSESSION, ProgramType.TRACING, "7.0", "CONFIG_DEBUG_INFO_BTF"),
    AttachType.MODIFY_RETURN: features.FMOD_RET,
    AttachType.LSM_MAC: features.LSM,
    AttachType.TRACE_ITER: features.ITERATORS,
    AttachType.XDP: features.XDP_LINK,
    AttachType.XDP_DEVMAP: Feature(_name(AttachType.XDP_DEVMAP), "5.8", _reading_egress_interface),
    AttachType.XDP_CPUMAP: Feature(_name(AttachType.XDP_CPUMAP), "5.9", _creating_map_of_cpus_with_programs),
    AttachType.PERF_EVENT: features.PERF_LINK,
    AttachType.TRACE_KPROBE_MULTI: features.KPROBE_MULTI,
    AttachType.TRACE_UPROBE_MULTI: features.UPROBE_MULTI,
    AttachType.STRUCT_OPS: features.STRUCT_OPS_LINK,
    AttachType.NETFILTER: features.NETFILTER_LINK,
    AttachType.TCX_INGRESS: features.TCX_LINK,
    AttachType.TCX_EGRESS: features.TCX_LINK,
    AttachType.NETKIT_PRIMARY: features.NETKIT_LINK,
    AttachType.NETKIT_PEER: features.NETKIT_LINK,
}
