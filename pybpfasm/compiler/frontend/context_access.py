"""Which fields of its context a program may touch on the kernel that it is compiled for."""

import re
from functools import lru_cache

from pybpfasm.lang.context_access import HOOKS, KERNELS
from pybpfasm.lang.context_fields import ContextField
from pybpfasm.lang.programs import ProgramKind

# Hooks that may touch a field are named if they are not more than these.
_FEW = 8


def refusal(kind: ProgramKind, name: str, field: ContextField, target: str, *, write: bool) -> str | None:
    """Why the kernel called `target` refuses the access, in words to follow the field's name; None if it allows it.

    A hook that no kernel was asked about may do everything. A kernel between two that were asked has what the older
    one has.
    """
    hook = kind.attach_type.name.lower() if kind.attach_type else ""
    if hook not in HOOKS:
        hook = kind.program_type.name.lower()  # of one hook alone
    if hook not in HOOKS:
        return None
    verb = "assigned" if write else "read"
    allowed = _allowed(hook, name, field.width, write)
    if allowed[_nearest(target)]:
        return None
    if any(allowed):
        since = KERNELS[allowed.index(True)]
        return f"can be {verb} by {hook} programs on Linux {since}, this is compiled for {target}: give a target"
    struct = HOOKS[hook].partition(":")[0]
    alike = (each for each, text in HOOKS.items() if text.startswith(f"{struct}:"))
    others = [each for each in alike if any(_allowed(each, name, field.width, write))]
    told = f": {', '.join(others)} programs can" if 0 < len(others) <= _FEW else ""
    return f"cannot be {verb} by {hook} programs{told}"


def _allowed(hook: str, name: str, width: int, write: bool) -> list[bool]:
    """For each kernel."""
    pairs = _fields(hook).get(name, "00")
    alone = pairs * len(KERNELS) if len(pairs) == 2 else pairs
    digits = alone[int(write) :: 2]
    return [digit != "-" and bool(int(digit, 16) & width) for digit in digits]


@lru_cache
def _fields(hook: str) -> dict[str, str]:
    _, _, fields = HOOKS[hook].partition(":")
    return dict(each.split() for each in fields.split(","))


@lru_cache
def _nearest(target: str) -> int:
    """Which of the kernels stands for a target: the newest that is not newer."""
    wanted = _version(target)
    return max((index for index, each in enumerate(KERNELS) if _version(each) <= wanted), default=0)


def _version(name: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", name)[:2]]
