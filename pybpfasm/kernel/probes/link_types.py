"""Kinds of link, each tried with a target that cannot be."""

import errno

from pybpfasm.errors import KernelError
from pybpfasm.kernel import features
from pybpfasm.kernel.features import Feature
from pybpfasm.kernel.links.raw_tracepoint import attach_raw_tracepoint
from pybpfasm.kernel.probes.sample_programs import sample_program
from pybpfasm.kernel.programs import Program
from pybpfasm.uapi import LinkType, ProgramType


def _opening_no_tracepoint() -> str | None:
    with Program.load(sample_program(ProgramType.RAW_TRACEPOINT)) as program:
        try:
            attach_raw_tracepoint(program, "pybpfasm: no such tracepoint").close()
        except KernelError as error:
            if error.errno == errno.ENOENT:
                return None
            if error.errno == errno.EINVAL:
                return str(error)
            raise
    raise AssertionError("the kernel attached a program to a tracepoint that does not exist")


LINK_TYPES: dict[LinkType, Feature] = {
    LinkType.RAW_TRACEPOINT: Feature("raw tracepoints", "4.17", _opening_no_tracepoint, "CONFIG_BPF_EVENTS"),
    LinkType.TRACING: features.FENTRY,
    LinkType.CGROUP: features.CGROUP_LINK,
    LinkType.ITER: features.ITERATORS,
    LinkType.NETNS: features.NETNS_LINK,
    LinkType.XDP: features.XDP_LINK,
    LinkType.PERF_EVENT: features.PERF_LINK,
    LinkType.KPROBE_MULTI: features.KPROBE_MULTI,
    LinkType.STRUCT_OPS: features.STRUCT_OPS_LINK,
    LinkType.NETFILTER: features.NETFILTER_LINK,
    LinkType.TCX: features.TCX_LINK,
    LinkType.UPROBE_MULTI: features.UPROBE_MULTI,
    LinkType.NETKIT: features.NETKIT_LINK,
    LinkType.SOCKMAP: features.SOCKMAP_LINK,
}
