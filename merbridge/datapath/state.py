"""What the agent keeps for `status` beside the programs' own maps: who is known and why, and what is wrong.

It lies in pinned maps too, so `status` answers also when no agent runs.
"""

from typing import Annotated

from programs.maps import Address
from pybpfasm import BPF_F_NO_PREALLOC, HashMap, Length, Struct, be32, u32, u64

_UID, _SHORT, _LONG, _SENTENCES = 40, 64, 256, 512

Uid = Annotated[bytes, Length(_UID)]
ShortText = Annotated[bytes, Length(_SHORT)]
LongText = Annotated[bytes, Length(_LONG)]
Sentences = Annotated[bytes, Length(_SENTENCES)]


class PodKey(Struct):
    """A pod's UID."""

    uid: Uid


class PodRecord(Struct):
    """A pod of this node. `flags` are those of its `PodInfo`, `netns` and `cgroups` count what is known of it.

    `netns_cookie` is that of a network namespace it was seen in last, 0 if none, for the next agent to remember.
    """

    netns_cookie: u64
    flags: u32
    ip4: be32
    ip6: Address
    netns: u32
    cgroups: u32
    namespace: ShortText
    name: LongText
    reason: LongText


class AgentRecord(Struct):
    """What the agent says of itself. `problem` is one line, empty when there is none; so is `no_ztunnel`.

    The numbers of drift are those of `merbridge.datapath.drift`; `process_events` is the way by which it is told of
    processes, as `merbridge.watchers.process_events` names it.
    """

    out_port: u32
    pid: u32
    capture_dns: u32
    drifted_pins: u32
    drifted_programs: u32
    drifted_entries: u32
    process_events_lost: u32
    process_events: ShortText
    node_name: LongText
    cgroup_root: LongText
    ztunnel: LongText
    no_ztunnel: LongText
    problem: LongText


class SourceRecord(Struct):
    """How one part of the agent's source is: see `merbridge.sources.SourceState`. `heard` is in seconds since 1970."""

    heard: u64
    synced: u32
    reserved: u32
    version: ShortText
    name: LongText
    problem: Sentences


AGENT = 0

pod_records = HashMap[PodKey, PodRecord](name="pods", max_entries=4096, flags=BPF_F_NO_PREALLOC)
agent_record = HashMap[u32, AgentRecord](name="agent", max_entries=1, flags=BPF_F_NO_PREALLOC)
source_records = HashMap[u32, SourceRecord](name="source", max_entries=8, flags=BPF_F_NO_PREALLOC)


def to_text(text: str, size: int = _LONG) -> bytes:
    """Text cut to `size` bytes of UTF-8; bytes of a path that are none are shown as escapes."""
    return text.encode(errors="backslashreplace")[:size].decode(errors="ignore").encode()


def to_uid(text: str) -> bytes:
    """A UID; the API's have 36 characters."""
    return to_text(text, _UID)


def to_sentences(text: str) -> bytes:
    """Text cut to what `Sentences` hold."""
    return to_text(text, _SENTENCES)


def to_short_text(text: str) -> bytes:
    """Text cut to what a `ShortText` holds."""
    return to_text(text, _SHORT)
