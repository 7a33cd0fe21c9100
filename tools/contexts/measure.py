"""What the running kernel lets programs do with their contexts: one JSON object on standard output.

    python -m tools.contexts.measure

Every access is tried in a program of its own, with each width, at a field's first byte and, in an array, at its last
element's. A hook that the kernel lacks is not in the answer.
"""

import errno
import json
import os
import sys

from pybpfasm import isa
from pybpfasm.errors import KernelError, UnsupportedFeatureError
from pybpfasm.isa import Instruction
from pybpfasm.kernel.probes.sample_programs import sample_program
from pybpfasm.kernel.programs import Program
from pybpfasm.kernel.verifier import VerifierError
from pybpfasm.records import evolve
from pybpfasm.uapi import AttachType, ProgramType
from tools.contexts.hooks import HOOKS, STRUCTS, Member, hook_name, members

_WIDTHS = (1, 2, 4, 8)
_REASON_ALONE = 4  # BPF_LOG_STATS of include/linux/bpf_verifier.h: no instructions

# In struct bpf_sock: a field that each socket shows, and one that only a full socket does.
_FAMILY, _TYPE = 4, 8


def measure() -> dict[str, object]:
    """The kernel's release, its structs, which of them each hook's context is, and the accesses that it allows.

    Of a field: the sum of the widths in bytes that can be read, then of those that can be written; of a pointer to a
    socket, too, whether it is a full one and whether it may be None.
    """
    structs = {name: members(name) for name in STRUCTS}
    hooks: dict[str, dict[str, list[object]]] = {}
    contexts: dict[str, str] = {}
    for program_type, (struct, attach_types) in HOOKS.items():
        for hook in attach_types:
            if _loads(program_type, hook):
                fields = structs[struct] or []
                contexts[hook_name(program_type, hook)] = struct
                hooks[hook_name(program_type, hook)] = {
                    field.name: _accesses(program_type, hook, field) for field in fields
                }
    shown = {
        name: [[each.name, each.offset, each.width, each.count, each.pointer] for each in fields]
        for name, fields in structs.items()
        if fields is not None
    }
    return {"release": os.uname().release, "structs": shown, "contexts": contexts, "hooks": hooks}


def _accesses(program_type: ProgramType, hook: AttachType, field: Member) -> list[object]:
    places = {field.offset, field.offset + field.width * max(field.count - 1, 0)}
    readable = sum(
        width for width in _WIDTHS if all(_loads(program_type, hook, isa.load(width, 2, 1, place)) for place in places)
    )
    writable = sum(
        width
        for width in _WIDTHS
        if all(_loads(program_type, hook, isa.mov_imm(2, 0), isa.store(width, 1, place, 2)) for place in places)
    )
    if field.name not in ("sk", "migrating_sk") or not readable:
        return [readable, writable]
    return [readable, writable, _socket(program_type, hook, field.offset)]


def _socket(program_type: ProgramType, hook: AttachType, offset: int) -> str:
    read = isa.load(8, 2, 1, offset)
    test = isa.jump_if_imm(isa.Jump.JEQ, 2, 0, "none")
    label = isa.Label("none")

    def shows(at: int, *, tested: bool) -> bool:
        code = (read, *((test,) if tested else ()), isa.load(4, 2, 2, at), label)
        return _loads(program_type, hook, *code)

    if not shows(_FAMILY, tested=True):
        return "unknown"
    full = "socket" if shows(_TYPE, tested=True) else "common"
    return full if shows(_FAMILY, tested=False) else f"{full} or None"


def _loads(program_type: ProgramType, hook: AttachType, *first: Instruction | isa.Label) -> bool:
    """Whether a program that begins so is taken; a refusal by the verifier, or of the hook itself, is a no.

    It answers 1, which is within the bounds of every hook here.
    """
    code = tuple(isa.resolve_labels((*first, isa.mov_imm(0, 1), isa.exit_program())))
    spec = evolve(sample_program(program_type, hook), instructions=code)
    try:
        Program.load(spec, log_level=_REASON_ALONE).close()
    except VerifierError:
        return False
    except UnsupportedFeatureError:
        return False
    except KernelError as error:
        if error.errno == errno.EINVAL and not first:
            return False
        raise
    return True


if __name__ == "__main__":
    json.dump(measure(), sys.stdout)
