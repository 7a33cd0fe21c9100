"""Python in a process of its own, with fewer rights than this one."""

import subprocess
import sys
import textwrap
from collections.abc import Sequence

from pybpfasm.kernel.permissions import Capability

# What each child imports before its rights are of interest: it may not be able to read the sources later.
PRELUDE = """
import errno, os, resource, sys
from pathlib import Path
sys.path[:] = {path!r}
from pybpfasm import isa
from pybpfasm.errors import BpfError, KernelError
from pybpfasm.kernel.collection import Collection
from pybpfasm.kernel.events import PerfBuffer, RingBuffer
from pybpfasm.kernel.links import attach_cgroup
from pybpfasm.kernel.maps import Map
from pybpfasm.kernel.programs import Program
from pybpfasm.spec import CollectionSpec, MapSpec, ProgramSpec, Untyped
from pybpfasm.uapi import AttachType, MapType, ProgramType

def map_(kind, name="values", key=4, value=8, entries=16):
    return Map.create(MapSpec(name, kind, Untyped(key), Untyped(value), entries))

def program(kind, hook=0, name="test"):
    code = (isa.mov_imm(0, 1), isa.exit_program())
    return Program.load(ProgramSpec(name, kind, AttachType(hook), "ctx", code, {{}}))

def attempt(name, action):
    try:
        made = action()
    except BpfError as error:
        print(f"{{name}}: {{error}}")
    else:
        print(f"{{name}}: done")
        return made

"""


# capset(2) with version 3, which has 64 bits in two words; linux/capability.h has the numbers.
DROP = """
import ctypes

def keep_only(numbers):
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    kept = sum(1 << number for number in numbers)
    low, high = kept & 0xFFFFFFFF, kept >> 32
    data = (ctypes.c_uint32 * 6)(low, low, low, high, high, high)
    assert ctypes.CDLL(None, use_errno=True).capset(header, data) == 0

keep_only({numbers!r})
"""


def python(source: str, *prefix: str, keep: Sequence[Capability] | None = None) -> list[str]:
    """The lines that a child prints, which runs the source by way of `prefix`, with the capabilities to `keep` only.

    It may say nothing on stderr, and ends well.
    """
    drop = "" if keep is None else DROP.format(numbers=[int(each) for each in keep])
    text = PRELUDE.format(path=sys.path) + drop + textwrap.dedent(source)
    command = [*prefix, sys.executable, "-c", text]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
    assert (done.stderr, done.returncode) == ("", 0)
    return done.stdout.splitlines()
