"""Tells the agent of processes that may change its picture of the node, and of nothing else.

The picture are pairs: a cgroup, and a network namespace in which it has a process. A pair that was told of once is
known, and its other processes start without a word; the host's own namespace is no part of it. So a storm of processes
costs a look at three pointers each outside pods, and a look-up more within one.

    fork, exec, cgroup.procs, setns ─> look_at: pair known? ─> pictures, process_changes ─> the agent
    exit ───────────────────────────> ended: a witness? ─────>           process_changes    fills witnesses

Where the kernel lets nobody trace, `connector` lets through what the agent needs of the proc connector's messages.
Nothing here is pinned: programs and maps end with the agent.
"""

from enum import IntEnum

import pybpfasm as bpf
from programs.maps import Counter
from pybpfasm import (
    BPF_F_NO_PREALLOC,
    HashMap,
    KernelStruct,
    LruHash,
    PerCpuArray,
    RingBuf,
    SkBuff,
    Struct,
    i32,
    u32,
    u64,
)

# The cookie of the host's network namespace.
HOST_NETNS = 1


class KernfsNode(KernelStruct, name="kernfs_node"):
    """A directory of the cgroup2 tree; its number is what is called the cgroup's id."""

    id: u64


class Cgroup(KernelStruct, name="cgroup"):
    """A cgroup."""

    kn: KernfsNode


class Cgroups(KernelStruct, name="css_set"):
    """The cgroups of a thread, of which that of the default hierarchy counts here."""

    dfl_cgrp: Cgroup


class Net(KernelStruct, name="net"):
    """A network namespace; its cookie is never given out again (Linux 5.12)."""

    net_cookie: u64


class Namespaces(KernelStruct, name="nsproxy"):
    """The namespaces of a thread."""

    net_ns: Net


class Task(KernelStruct, name="task_struct"):
    """A thread; of a process's first one `pid` and `tgid` are the same. One that has nearly ended has no namespaces."""

    pid: i32
    tgid: i32
    cgroups: Cgroups
    nsproxy: Namespaces | None


class Kind(IntEnum):
    """What a process did: it is the first that is in this cgroup and namespace, or it ended."""

    CAME = 0
    WENT = 1


class Pair(Struct):
    """A cgroup's id, and the cookie of a network namespace: neither is given out again."""

    cgroup: u64
    netns: u64


class Change(Struct):
    """`pid` is what the initial PID namespace calls the process."""

    pair: Pair
    pid: u32
    kind: u32


class Known(Struct):
    """Says that a pair was told of."""

    told: u32


class ProcEvent(Struct):
    """What a message of the proc connector says: `struct proc_event`, as far as exec and exit go.

    `pid` is the thread's, `tgid` its process's.
    """

    what: u32
    cpu: u32
    at_ns: u64
    pid: u32
    tgid: u32


class Witness(Struct):
    """Says that the agent knows a namespace by a process."""

    watched: u32


process_changes = RingBuf(max_entries=1 << 16)
process_losses = PerCpuArray[u32, Counter](max_entries=1)

# A pair that has to make room is told of once more.
pictures = LruHash[Pair, Known](max_entries=16384)

# Filled by the agent, by PID.
witnesses = HashMap[u32, Witness](max_entries=65536, flags=BPF_F_NO_PREALLOC)


# Of enum proc_cn_event, include/uapi/linux/cn_proc.h.
PROC_EVENT_NONE = 0
PROC_EVENT_EXEC = 2
PROC_EVENT_EXIT = 0x80000000

# A message begins with struct nlmsghdr and struct cn_msg.
PROC_EVENT_OFFSET = 36
WHOLE = 0xFFFFFFFF


@bpf.inline
def tell(kind: int, task: Task, pair: Pair) -> None:
    """Tell of it; if there is no room, count that: a pair that was not told of stays new."""
    change = process_changes.reserve(Change)
    if change is None:
        lost = process_losses.lookup(0)
        if lost is not None:
            lost.count += 1
        return
    if kind == Kind.CAME:
        pictures.update(pair, Known(told=1))
    change.pair = pair
    change.pid = task.tgid
    change.kind = kind
    process_changes.submit(change)


@bpf.inline
def look_at(task: Task) -> int:
    """Tell of a process whose pair is new; a thread goes by its process's first one, as /proc shows that."""
    namespaces = task.nsproxy
    if namespaces is None or task.pid != task.tgid:
        return 0
    cookie = namespaces.net_ns.net_cookie
    if cookie == HOST_NETNS:
        return 0
    pair = Pair(cgroup=task.cgroups.dfl_cgrp.kn.id, netns=cookie)
    if pictures.lookup(pair) is None:
        tell(Kind.CAME, task, pair)
    return 0


@bpf.tp_btf("sched_process_fork")
def forked(_parent: Task, child: Task) -> int:
    """A process was made, perhaps by one that has entered a namespace."""
    return look_at(child)


@bpf.tp_btf("sched_process_exec")
def executed(task: Task) -> int:
    """A process runs another program, as runtimes do when cgroup and namespaces are the container's."""
    return look_at(task)


@bpf.tp_btf("cgroup_attach_task")
def moved(_to: Cgroup, _path: u64, task: Task) -> int:
    """A process, or one of its threads, was put into another cgroup, of any hierarchy."""
    return look_at(task)


@bpf.fexit("switch_task_namespaces")
def entered(task: Task) -> int:
    """A process is in other namespaces by now: setns(2), unshare(2). Not all kernels let this be traced."""
    return look_at(task)


@bpf.tp_btf("sched_process_exit")
def ended(task: Task) -> int:
    """A process ends; one that the agent knows a namespace by takes its pair along, so that others tell of it again."""
    if task.pid != task.tgid or witnesses.lookup(task.tgid) is None:
        return 0
    pair = Pair(cgroup=task.cgroups.dfl_cgrp.kn.id, netns=0)
    namespaces = task.nsproxy
    if namespaces is not None:
        pair.netns = namespaces.net_ns.net_cookie
    pictures.delete(pair)
    tell(Kind.WENT, task, pair)
    return 0


@bpf.socket_filter
def connector(ctx: SkBuff) -> int:
    """Of the proc connector's messages those that a process runs another program, and that a witness has ended."""
    event = ctx.load(ProcEvent, PROC_EVENT_OFFSET)
    if event is None:
        return 0
    if event.what == PROC_EVENT_NONE or event.what == PROC_EVENT_EXEC:
        return WHOLE
    if event.what != PROC_EVENT_EXIT or event.pid != event.tgid:
        return 0
    return 0 if witnesses.lookup(event.tgid) is None else WHOLE
