"""From a relocation to the patch of its instruction: candidates are tried, and all that match have to agree."""

from pybpfasm.btf import Btf, BtfError, CoreRelocation, CoreRelocationKind
from pybpfasm.interop.core.access import Access, local_access
from pybpfasm.interop.core.candidates import Candidates
from pybpfasm.interop.core.compatible import TypeComparison
from pybpfasm.interop.core.matching import matching_access
from pybpfasm.interop.core.patch import Patch, patched, resizable
from pybpfasm.interop.core.values import value_of, value_of_missing
from pybpfasm.interop.error import ElfError
from pybpfasm.isa import Instruction

_K = CoreRelocationKind


class Resolver:
    """Resolves an object's relocations against a target; without one, only those that need none."""

    def __init__(self, local: Btf, target: Btf | None) -> None:
        self._local = local
        self._target = target
        self._candidates = Candidates(target) if target is not None else None
        self._comparison = TypeComparison(local, target) if target is not None else None
        self._patches: dict[tuple[int, int, CoreRelocationKind], Patch] = {}
        # Candidates that went with an earlier relocation of the same type: only they are asked again.
        self._left: dict[int, list[int]] = {}

    def resolve(self, instruction: Instruction, relocation: CoreRelocation) -> tuple[Instruction, ...]:
        """The instruction for the target, in as many slots as before.

        Raises `ElfError` if candidates disagree, if the instruction does not fit the relocation, and if a target is
        needed.
        """
        key = (relocation.type_id, relocation.access_offset, relocation.kind)
        if key not in self._patches:
            self._patches[key] = self._patch(relocation)
        return patched(instruction, self._patches[key])

    def _patch(self, relocation: CoreRelocation) -> Patch:
        try:
            local = local_access(self._local, relocation)
            if relocation.kind == _K.TYPE_ID_LOCAL:
                return Patch(value_of(local), value_of(local))
            return self._found(local)
        except BtfError as error:
            raise ElfError(f"a relocation of type {relocation.type_id}: {error}") from None

    def _found(self, local: Access) -> Patch:
        if self._target is None or self._candidates is None:
            raise ElfError(
                f"it depends on the kernel's {self._local.name(local.root) or 'types'} (CO-RE): give the kernel's"
                " types, as in read_elf(data, target=pybpfasm.btf.kernel_btf())"
            )
        old = value_of(local)
        candidates = self._left.get(local.root)
        if candidates is None:
            candidates = self._candidates.of(self._local, local.root)
        found = [access for each in candidates if (access := self._matching(local, self._target, each)) is not None]
        if not found:
            return Patch(old, value_of_missing(local.kind))
        self._left[local.root] = [access.root for access in found]
        new = value_of(found[0])
        for other in found[1:]:
            if other.bit_offset != found[0].bit_offset or value_of(other).number != new.number:
                raise ElfError(
                    f"types {found[0].root} and {other.root} of the target are both"
                    f" {self._local.name(local.root)!r} and answer a relocation differently"
                )
        return Patch(old, new, resizable(local, old, found[0], new))

    def _matching(self, local: Access, target: Btf, type_id: int) -> Access | None:
        access = matching_access(local, target, type_id)
        if local.steps:
            return access
        assert self._comparison is not None  # noqa: S101 - there is one where there is a target
        same = self._comparison.match if local.kind == _K.TYPE_MATCHES else self._comparison.compatible
        return access if same(local.root, type_id) else None
