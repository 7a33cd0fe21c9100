"""pytest fixtures for programs on the real kernel: `pytest_plugins = ["pybpfasm.testing"]` in a conftest.py.

| fixture | what a test gets |
|---|---|
| `bpf_cgroup` | a cgroup (v2) of its own, and a way to run code in a process in it |
| `bpf_network` | two network namespaces, joined by a veth pair with addresses |
| `bpf_file_system` | a bpf file system of its own, to pin in |
| `bpf_load` | a function that loads programs, closed at the test's end |

They are gone when the test ends, also when it fails. They need root; without it a test is an error that says so, and is
not skipped: what has not run has not been tested.
"""

from pybpfasm.testing.cgroups import Cgroup
from pybpfasm.testing.fixtures import Load, bpf_cgroup, bpf_file_system, bpf_load, bpf_network
from pybpfasm.testing.networks import Namespace, Network

__all__ = [
    "Cgroup",
    "Load",
    "Namespace",
    "Network",
    "bpf_cgroup",
    "bpf_file_system",
    "bpf_load",
    "bpf_network",
]
