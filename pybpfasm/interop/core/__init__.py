"""CO-RE: relocations of instructions against the target kernel's types, resolved as libbpf does (src/relo_core.c).

access.py      which field, type or enumerator a relocation means, in the object's types
candidates.py  the target's types of that name
matching.py    the same field or enumerator in a candidate
compatible.py  when two types count as the same
values.py      the number that a relocation puts into its instruction
patch.py       the instruction with that number in it
resolver.py    puts these together
"""

from pybpfasm.interop.core.resolver import Resolver

__all__ = ["Resolver"]
