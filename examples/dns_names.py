"""Count the names that this machine asks DNS servers for, over an interface.

    python examples/dns_names.py eth0

It sees questions that leave by IPv4 and UDP to port 53, each as its first name. Needs root; Linux 5.12.
"""

import argparse
from contextlib import suppress
from signal import pause
from typing import Annotated

import pybpfasm as bpf
from pybpfasm import HashMap, Length, SkBuff, Struct, be16, htons, u8, u64
from pybpfasm.compiler import compile_collection
from pybpfasm.kernel import Collection, TypedMap, running_target
from pybpfasm.kernel.links import Direction, attach_traffic
from pybpfasm.scripts import run_script
from pybpfasm.uapi import TcxAction

ETHERTYPE_IPV4 = 0x0800
PROTOCOL_UDP = 17
DNS_PORT = 53
# Ethernet, IPv4 without options, UDP; the name stands behind the 12 bytes of DNS's own header (RFC 1035, 4.1).
NAME_AT = 14 + 20 + 8 + 12
NAME_BYTES = 64


class Headers(Struct, packed=True):
    """Ethernet, IPv4 without options, and UDP's ports."""

    addresses: Annotated[bytes, Length(12)]
    type: be16
    version_and_words: u8
    before: Annotated[bytes, Length(8)]
    protocol: u8
    rest: Annotated[bytes, Length(10)]
    source_port: be16
    destination_port: be16


class Byte(Struct):
    """One of a name's."""

    value: u8


class Name(Struct):
    """A name as it is sent: each label behind its length; zeros behind it."""

    octets: Annotated[list[u8], Length(NAME_BYTES)]


class Count(Struct):
    """How often it was asked for."""

    questions: u64


names = HashMap[Name, Count](max_entries=4096)


@bpf.tc
def question(ctx: SkBuff) -> int:
    """Copy the name of a question, byte by byte up to its zero, and count it."""
    headers = ctx.load(Headers, 0)
    if headers is None or headers.type != htons(ETHERTYPE_IPV4) or headers.version_and_words != 0x45:
        return TcxAction.NEXT
    if headers.protocol != PROTOCOL_UDP or headers.destination_port != htons(DNS_PORT):
        return TcxAction.NEXT
    name = Name(octets=[0] * NAME_BYTES)
    for index in range(NAME_BYTES):
        byte = ctx.load(Byte, NAME_AT + index)
        if byte is None or byte.value == 0:
            break
        name.octets[index] = byte.value
    count = names.lookup(name)
    if count is None:
        names.update(name, Count(questions=1))
    else:
        count.questions += 1
    return TcxAction.NEXT


def text_of(name: Name) -> str:
    """A name as it is written: its labels with dots between."""
    labels: list[str] = []
    left = bytes(name.octets)
    while left and left[0]:
        labels.append(left[1 : 1 + left[0]].decode(errors="replace"))
        left = left[1 + left[0] :]
    return ".".join(labels) or "."


def main() -> None:
    """Attach, wait, print the table."""
    parser = argparse.ArgumentParser(description="Count the names that this machine asks DNS servers for.")
    parser.add_argument("interface")
    arguments = parser.parse_args()
    with Collection.load(compile_collection([question], target=running_target())) as loaded:
        link = attach_traffic(loaded.programs["question"], arguments.interface, Direction.EGRESS)
        loaded.attach("question", link)
        with suppress(KeyboardInterrupt):
            print(f"listening at {arguments.interface}; Ctrl-C ends it")
            pause()
        found = TypedMap(names, loaded.maps["names"]).items()
        for name, count in sorted(found, key=lambda entry: -entry[1].questions):
            print(f"{count.questions:>8}  {text_of(name)}")


if __name__ == "__main__":
    run_script(main)
