"""What the kernel says of a link: which program it attaches, and to what (struct bpf_link_info of uapi linux/bpf.h)."""

from collections.abc import Callable, Mapping
from typing import Any

from pybpfasm.kernel import sys
from pybpfasm.records import field, frozen
from pybpfasm.uapi import Command, LinkType, PerfEventType

# A path, or the name of a function: PATH_MAX, and KSYM_NAME_LEN is less.
_NAME_ROOM = 4096

Detail = int | tuple[int, ...]


@frozen
class LinkInfo:
    """A link. `type` is a `LinkType`, or a number newer than this library.

    `target` is what the program is attached to, as a number: a cgroup's or map's id, a network namespace's inode, an
    interface's index, the BTF id of a function or tracepoint; 0 when it is gone, or has no number. `name` is its name
    where it has one: a raw tracepoint's or tracepoint's, a kernel function's, a file's for uprobes, an iterator's kind.
    `details` are the other fields of that kind of link, named as in the header (`priority`, `offset`, `offsets`).
    Tracepoints' and probes' names are told from Linux 6.6 on, cookies from 6.9 on.
    """

    id: int
    type: int
    program_id: int
    target: int
    attach_type: int
    name: str = ""
    cookie: int = 0
    details: Mapping[str, Detail] = field(factory=dict)


def link_info(fd: int) -> LinkInfo:
    """What the kernel says of the link behind `fd` (Linux 5.8)."""
    info = _ask(fd, sys.new("link_info"))
    describe = _KINDS.get(info.type, _unknown)
    return describe(fd, info)


def _raw_tracepoint(fd: int, info: Any) -> LinkInfo:
    name = sys.buffer(_NAME_ROOM)
    fields = {"tp_name": sys.address(name), "tp_name_len": _NAME_ROOM}
    info = _ask(fd, sys.new("link_info", raw_tracepoint=fields))
    return _made(info, name=_text(name), cookie=info.raw_tracepoint.cookie)


def _tracing(_: int, info: Any) -> LinkInfo:
    tracing = info.tracing
    details: dict[str, Detail] = {"target_obj_id": tracing.target_obj_id}
    return _made(info, tracing.target_btf_id, tracing.attach_type, cookie=tracing.cookie, details=details)


def _cgroup(_: int, info: Any) -> LinkInfo:
    return _made(info, info.cgroup.cgroup_id, info.cgroup.attach_type)


def _iterator(fd: int, info: Any) -> LinkInfo:
    name = sys.buffer(_NAME_ROOM)
    fields = {"target_name": sys.address(name), "target_name_len": _NAME_ROOM}
    info = _ask(fd, sys.new("link_info", iter=fields))
    details: dict[str, Detail] = {"cgroup_or_task": info.iter.cgroup_or_task, "order": info.iter.order}
    return _made(info, info.iter.map_id, name=_text(name), details=details)


def _netns(_: int, info: Any) -> LinkInfo:
    return _made(info, info.netns.netns_ino, info.netns.attach_type)


def _device(_: int, info: Any) -> LinkInfo:
    return _made(info, info.device.ifindex, info.device.attach_type)


def _sockmap(_: int, info: Any) -> LinkInfo:
    return _made(info, info.sockmap.map_id, info.sockmap.attach_type)


def _struct_ops(_: int, info: Any) -> LinkInfo:
    return _made(info, info.struct_ops.map_id)


def _netfilter(_: int, info: Any) -> LinkInfo:
    hook = info.netfilter
    fields = {"pf": hook.pf, "hooknum": hook.hooknum, "priority": hook.priority, "flags": hook.flags}
    return _made(info, details=fields)


def _kprobe_multi(fd: int, info: Any) -> LinkInfo:
    count = info.kprobe_multi.count
    addresses, cookies = sys.buffer(count * 8), sys.buffer(count * 8)
    fields = {"addrs": sys.address(addresses), "cookies": sys.address(cookies), "count": count}
    probes = _ask(fd, sys.new("link_info", kprobe_multi=fields)).kprobe_multi
    details: dict[str, Detail] = {
        "addrs": _numbers(addresses),
        "cookies": _numbers(cookies),
        "flags": probes.flags,
        "missed": probes.missed,
    }
    return _made(info, details=details)


def _uprobe_multi(fd: int, info: Any) -> LinkInfo:
    count = info.uprobe_multi.count
    path, offsets, semaphores, cookies = (sys.buffer(size) for size in (_NAME_ROOM, count * 8, count * 8, count * 8))
    fields = {
        "path": sys.address(path),
        "path_size": _NAME_ROOM,
        "offsets": sys.address(offsets),
        "ref_ctr_offsets": sys.address(semaphores),
        "cookies": sys.address(cookies),
        "count": count,
    }
    probes = _ask(fd, sys.new("link_info", uprobe_multi=fields)).uprobe_multi
    details: dict[str, Detail] = {
        "offsets": _numbers(offsets),
        "ref_ctr_offsets": _numbers(semaphores),
        "cookies": _numbers(cookies),
        "flags": probes.flags,
        "pid": probes.pid,
    }
    return _made(info, name=_text(path), details=details)


def _perf_event(fd: int, info: Any) -> LinkInfo:
    kind = info.perf_event.type
    if kind in (PerfEventType.UNSPEC, PerfEventType.EVENT):
        return _software_or_hardware_event(info)
    name = sys.buffer(_NAME_ROOM)
    fields = {"name": sys.address(name), "name_len": _NAME_ROOM}
    event = _ask(fd, sys.new("link_info", perf_event=fields)).perf_event
    details: dict[str, Detail] = {"type": kind}
    if kind == PerfEventType.TRACEPOINT:
        return _made(info, name=_text(name), cookie=event.more[0], details=details)
    details["offset"] = event.offset
    if kind in (PerfEventType.UPROBE, PerfEventType.URETPROBE):
        return _made(info, name=_text(name), cookie=event.more[0], details=details)
    details["missed"] = event.more[1]
    return _made(info, event.more[0], name=_text(name), cookie=event.more[2], details=details)


def _software_or_hardware_event(info: Any) -> LinkInfo:
    """An event counted by a PMU: its fields lie where others have a name."""
    event = info.perf_event
    details = {"type": event.type, "event_type": event.name_len, "config": event.name}
    return _made(info, cookie=event.more[0], details=details)


def _unknown(_: int, info: Any) -> LinkInfo:
    return _made(info)


_KINDS: Mapping[int, Callable[[int, Any], LinkInfo]] = {
    LinkType.RAW_TRACEPOINT: _raw_tracepoint,
    LinkType.TRACING: _tracing,
    LinkType.CGROUP: _cgroup,
    LinkType.ITER: _iterator,
    LinkType.NETNS: _netns,
    LinkType.XDP: _device,
    LinkType.PERF_EVENT: _perf_event,
    LinkType.KPROBE_MULTI: _kprobe_multi,
    LinkType.STRUCT_OPS: _struct_ops,
    LinkType.NETFILTER: _netfilter,
    LinkType.TCX: _device,
    LinkType.UPROBE_MULTI: _uprobe_multi,
    LinkType.NETKIT: _device,
    LinkType.SOCKMAP: _sockmap,
}


def _made(
    info: Any,
    target: int = 0,
    attach_type: int = 0,
    *,
    name: str = "",
    cookie: int = 0,
    details: Mapping[str, Detail] | None = None,
) -> LinkInfo:
    return LinkInfo(info.id, info.type, info.prog_id, target, attach_type, name, cookie, details or {})


def _text(memory: Any) -> str:
    return sys.contents(memory).split(b"\0", 1)[0].decode(errors="replace")


def _numbers(memory: Any) -> tuple[int, ...]:
    return tuple(memoryview(sys.contents(memory)).cast("Q"))


def _ask(fd: int, info: Any) -> Any:
    request = sys.new("info_by_fd", bpf_fd=fd, info_len=sys.size_of(info), info=sys.address(info))
    sys.bpf(Command.OBJ_GET_INFO_BY_FD, request, "ask the kernel for link info")
    return info
