"""The helpers that are found: some that everybody knows, and all against what bpftool finds."""

import json
import os
import re
import subprocess

import pytest

from pybpfasm.errors import BpfError
from pybpfasm.kernel.probes import find_helpers
from pybpfasm.uapi import AttachType, Helper, ProgramType


@pytest.mark.parametrize(
    ("program_type", "has", "lacks"),
    [
        (ProgramType.XDP, Helper.XDP_ADJUST_HEAD, Helper.SKB_STORE_BYTES),
        (ProgramType.SCHED_CLS, Helper.SKB_STORE_BYTES, Helper.XDP_ADJUST_HEAD),
        (ProgramType.CGROUP_SOCK_ADDR, Helper.GET_NETNS_COOKIE, Helper.MSG_REDIRECT_HASH),
        (ProgramType.SK_MSG, Helper.MSG_REDIRECT_HASH, Helper.BIND),
        (ProgramType.RAW_TRACEPOINT, Helper.PERF_EVENT_OUTPUT, Helper.SK_ASSIGN),
    ],
)
def test_helpers_of_types(program_type: ProgramType, has: Helper, lacks: Helper) -> None:
    """A type of program has its own helpers, and not another's; maps are everybody's."""
    found = find_helpers(program_type)
    assert has in found
    assert lacks not in found
    assert Helper.MAP_LOOKUP_ELEM in found


def test_the_hook_matters() -> None:
    """bpf_bind is for connect hooks alone (sock_addr_func_proto)."""
    kind = ProgramType.CGROUP_SOCK_ADDR
    assert Helper.BIND in find_helpers(kind, AttachType.CGROUP_INET4_CONNECT)
    assert Helper.BIND not in find_helpers(kind, AttachType.CGROUP_INET4_BIND)


def test_helpers_that_leave_traces_are_tried_on_request_only() -> None:
    """trace_printk is there for all, and found only when asked for."""
    assert Helper.TRACE_PRINTK not in find_helpers(ProgramType.SOCKET_FILTER)
    assert Helper.TRACE_PRINTK in find_helpers(ProgramType.SOCKET_FILTER, noisy=True)


def test_helpers_that_sleep_are_not_for_programs_that_do_not() -> None:
    """bpf_copy_from_user is known to raw tracepoints, which may not sleep."""
    assert Helper.COPY_FROM_USER not in find_helpers(ProgramType.RAW_TRACEPOINT)


def test_extensions_have_none() -> None:
    """They have those of what they extend, which nobody has named."""
    with pytest.raises(BpfError, match="no helpers of their own"):
        find_helpers(ProgramType.EXT)


def test_bpftool_finds_the_same() -> None:
    """All that it can know: it is older than some helpers, and does not see how kernels since 6.10 refuse one."""
    report = json.loads(subprocess.run(["bpftool", "-j", "feature", "probe"], capture_output=True, check=True).stdout)
    theirs = {name.removesuffix("_available_helpers"): set(found) for name, found in report["helpers"].items()}
    known = set().union(*theirs.values())
    release = re.match(r"(\d+)\.(\d+)", os.uname().release)
    assert release
    understands = (int(release[1]), int(release[2])) < (6, 10)
    for name in ("socket_filter", "sched_cls", "xdp", "cgroup_sock_addr", "sk_msg", "sk_lookup"):
        ours = {f"bpf_{each.name.lower()}" for each in find_helpers(ProgramType[name.upper()])} & known
        assert ours <= theirs[name]
        if understands:
            assert ours == theirs[name]
