"""The running kernel's types: byte for byte, found quickly, and the same as others read them."""

import json
import subprocess
import sys
from array import array
from pathlib import Path

import pytest

from pybpfasm.btf import Btf, Kind, kernel_btf, kinds
from pybpfasm.btf.header import parse_header
from pybpfasm.btf.words import encode

FIELDS = [
    "task_struct.pid",
    "task_struct.mm",
    "task_struct.comm",
    "task_struct.nsproxy",
    "sock.sk_protocol",
    "sock_common.skc_family",
    "sk_buff.len",
    "sk_buff.cb",
    "net.ns",
    "file.f_inode",
    "inode.i_ino",
    "cgroup.kn",
    "tcp_sock.mss_cache",
    "socket.ops",
]


def test_each_record_is_encoded_to_the_bytes_it_came_from(kernel: Btf) -> None:
    """All types, decoded and encoded again, are the section of types byte for byte."""
    data = kernel.encode()
    header = parse_header(data)
    strings = data[header.strings.start : header.strings.stop]
    offsets: dict[str, int] = {}
    at = 0
    for text in strings[:-1].split(b"\0"):
        offsets.setdefault(text.decode(), at)
        at += len(text) + 1
    words = array("I")
    for _, record in kernel:
        words.extend(encode(record, offsets.__getitem__))
    assert words.tobytes() == data[header.types.start : header.types.stop]
    assert data == Path("/sys/kernel/btf/vmlinux").read_bytes()


def test_modules_continue_the_kernel(kernel: Btf) -> None:
    """Each loaded module's types can be read."""
    modules = [each.name for each in Path("/sys/kernel/btf").iterdir() if each.name != "vmlinux"]
    if not modules:
        pytest.skip("no module with BTF is loaded: the split blobs of test_btf_blob.py are made by hand")
    for name in modules:
        read = kernel_btf(name)
        assert read.first_id == len(kernel) + 1
        assert len(list(read)) == len(read)
        assert read.encode() == Path("/sys/kernel/btf", name).read_bytes()


def test_offsets_are_those_that_bpftool_reads(kernel: Btf, bpftool: str) -> None:
    """A dozen fields of structs of the kernel."""
    command = [bpftool, "-j", "btf", "dump", "file", "/sys/kernel/btf/vmlinux"]
    types = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)["types"]
    structs = {each["name"]: each for each in reversed(types) if each["kind"] == "STRUCT"}
    for path in FIELDS:
        name, member = path.split(".")
        theirs = next((each for each in structs[name]["members"] if each["name"] == member), None)
        assert theirs is not None, path
        assert kernel.field(path).bit_offset == theirs["bits_offset"], path
        assert kernel.find(name, Kind.STRUCT) == structs[name]["id"]
        assert kernel.size_of(structs[name]["id"]) == structs[name]["size"]


def test_every_type_can_be_asked(kernel: Btf) -> None:
    """Sizes, alignments and trees of every tenth struct."""
    for number, record in kernel:
        if number % 10 == 0 and isinstance(record, kinds.Struct | kinds.Union):
            assert kernel.size_of(number) == record.size
            assert kernel.alignment_of(number) in (1, 2, 4, 8, 16)
            assert kernel.value_type(number).size == record.size


def test_importing_costs_no_attrs() -> None:
    """What looks a field up loads neither attrs nor dataclasses nor inspect."""
    script = (
        "import sys; from pybpfasm.btf import kernel_btf, Ext, BtfBuilder, Struct;"
        "print([each for each in ('attr', 'attrs', 'dataclasses', 'inspect', 'cffi') if each in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"
