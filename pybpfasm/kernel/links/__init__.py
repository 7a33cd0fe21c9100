"""Links: programs at their hooks. A module a kind of target; `base` has what all links can do."""

from typing import TYPE_CHECKING

from pybpfasm.lazy import lazy_attributes

if TYPE_CHECKING:
    from pybpfasm.kernel.links.base import Attachment, LegacyAttachment, Link, create
    from pybpfasm.kernel.links.cgroup import (
        CGROUP_HOOKS,
        CgroupMode,
        attach_cgroup,
        attach_cgroup_directly,
        detach_cgroup_directly,
        query_cgroup,
    )
    from pybpfasm.kernel.links.direct import DirectAttachment
    from pybpfasm.kernel.links.iterator import IteratorLink, attach_iterator
    from pybpfasm.kernel.links.kprobe import attach_kprobe, attach_kprobes
    from pybpfasm.kernel.links.netfilter import NetfilterFamily, NetfilterHook, attach_netfilter
    from pybpfasm.kernel.links.netkit import NetkitEnd, attach_netkit, query_netkit
    from pybpfasm.kernel.links.netns import attach_netns, query_netns
    from pybpfasm.kernel.links.order import FIRST, LAST, LinkId, Order, ProgramId, after, before
    from pybpfasm.kernel.links.perf import PerfEvent, attach_perf_event
    from pybpfasm.kernel.links.query import Attached, AttachedProgram
    from pybpfasm.kernel.links.raw_tracepoint import attach_raw_tracepoint
    from pybpfasm.kernel.links.sockmap import attach_sockmap
    from pybpfasm.kernel.links.struct_ops import StructOpsLink, attach_struct_ops
    from pybpfasm.kernel.links.tc import TcFilter, attach_tc, attach_traffic, remove_clsact
    from pybpfasm.kernel.links.tcx import Direction, attach_tcx, query_tcx
    from pybpfasm.kernel.links.tracepoint import attach_tracepoint
    from pybpfasm.kernel.links.tracing import attach_to_program, attach_tracing
    from pybpfasm.kernel.links.uprobe import attach_uprobe, attach_uprobes
    from pybpfasm.kernel.links.usdt import UsdtProbe, attach_usdt, usdt_probes
    from pybpfasm.kernel.links.xdp import XdpMode, attach_xdp

__getattr__ = lazy_attributes(
    __name__,
    {
        "base": "Attachment LegacyAttachment Link create",
        "cgroup": "CGROUP_HOOKS CgroupMode attach_cgroup attach_cgroup_directly detach_cgroup_directly query_cgroup",
        "direct": "DirectAttachment",
        "iterator": "IteratorLink attach_iterator",
        "kprobe": "attach_kprobe attach_kprobes",
        "netfilter": "NetfilterFamily NetfilterHook attach_netfilter",
        "netkit": "NetkitEnd attach_netkit query_netkit",
        "netns": "attach_netns query_netns",
        "order": "FIRST LAST LinkId Order ProgramId after before",
        "perf": "PerfEvent attach_perf_event",
        "query": "Attached AttachedProgram",
        "raw_tracepoint": "attach_raw_tracepoint",
        "sockmap": "attach_sockmap",
        "struct_ops": "StructOpsLink attach_struct_ops",
        "tc": "TcFilter attach_tc attach_traffic remove_clsact",
        "tcx": "Direction attach_tcx query_tcx",
        "tracepoint": "attach_tracepoint",
        "tracing": "attach_to_program attach_tracing",
        "uprobe": "attach_uprobe attach_uprobes",
        "usdt": "UsdtProbe attach_usdt usdt_probes",
        "xdp": "XdpMode attach_xdp",
    },
)

__all__ = [
    "CGROUP_HOOKS",
    "FIRST",
    "LAST",
    "Attached",
    "AttachedProgram",
    "Attachment",
    "CgroupMode",
    "DirectAttachment",
    "Direction",
    "IteratorLink",
    "LegacyAttachment",
    "Link",
    "LinkId",
    "NetfilterFamily",
    "NetfilterHook",
    "NetkitEnd",
    "Order",
    "PerfEvent",
    "ProgramId",
    "StructOpsLink",
    "TcFilter",
    "UsdtProbe",
    "XdpMode",
    "after",
    "attach_cgroup",
    "attach_cgroup_directly",
    "attach_iterator",
    "attach_kprobe",
    "attach_kprobes",
    "attach_netfilter",
    "attach_netkit",
    "attach_netns",
    "attach_perf_event",
    "attach_raw_tracepoint",
    "attach_sockmap",
    "attach_struct_ops",
    "attach_tc",
    "attach_tcx",
    "attach_to_program",
    "attach_tracepoint",
    "attach_tracing",
    "attach_traffic",
    "attach_uprobe",
    "attach_uprobes",
    "attach_usdt",
    "attach_xdp",
    "before",
    "create",
    "detach_cgroup_directly",
    "query_cgroup",
    "query_netkit",
    "query_netns",
    "query_tcx",
    "remove_clsact",
    "usdt_probes",
]
