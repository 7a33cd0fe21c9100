"""What the running kernel can do, found by trying: tables of features by program type, hook, link and instruction.

Single features by name are in `pybpfasm.kernel.features`; here they are in tables, to be asked as a whole.
A `Feature` keeps its answer for the life of the process, if it was conclusive; no probe attaches anything.
"""

from typing import TYPE_CHECKING

from pybpfasm.lazy import lazy_attributes

if TYPE_CHECKING:
    from pybpfasm.kernel.probes.attach_types import ATTACH_TYPES
    from pybpfasm.kernel.probes.context_stores import CONTEXT_STORES
    from pybpfasm.kernel.probes.helpers import find_helpers
    from pybpfasm.kernel.probes.instructions import INSTRUCTIONS, IsaLevel, find_isa_level
    from pybpfasm.kernel.probes.link_types import LINK_TYPES
    from pybpfasm.kernel.probes.program_types import PROGRAM_TYPES
    from pybpfasm.kernel.probes.tables import TABLES, Answer, probe

__getattr__ = lazy_attributes(
    __name__,
    {
        "attach_types": "ATTACH_TYPES",
        "context_stores": "CONTEXT_STORES",
        "helpers": "find_helpers",
        "instructions": "INSTRUCTIONS IsaLevel find_isa_level",
        "link_types": "LINK_TYPES",
        "program_types": "PROGRAM_TYPES",
        "tables": "TABLES Answer probe",
    },
)

__all__ = [
    "ATTACH_TYPES",
    "CONTEXT_STORES",
    "INSTRUCTIONS",
    "LINK_TYPES",
    "PROGRAM_TYPES",
    "TABLES",
    "Answer",
    "IsaLevel",
    "find_helpers",
    "find_isa_level",
    "probe",
]
