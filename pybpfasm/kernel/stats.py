"""Statistics of programs' runs: counted only while somebody asks for it, as it costs some 20 ns a run.

with enable_stats():
    ...
print(program.stats.run_count)
"""

from pybpfasm.kernel import sys
from pybpfasm.kernel.descriptor import Descriptor
from pybpfasm.uapi import Command, StatsType


def enable_stats() -> Descriptor:
    """Have the kernel count runs and their time, of all programs, until the descriptor is closed (Linux 5.8).

    Others may ask for the same at the same time; the setting kernel.bpf_stats_enabled is left alone. Raises
    `KernelError`: EPERM without CAP_SYS_ADMIN.
    """
    attributes = sys.new("enable_stats", type=StatsType.RUN_TIME)
    return Descriptor(sys.bpf(Command.ENABLE_STATS, attributes, "count the runs of programs"))
