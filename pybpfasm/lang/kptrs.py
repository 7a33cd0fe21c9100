"""Pointers to structs of the kernel that a map holds (Linux 5.19)."""

from typing import Any, Generic, TypeVar, get_args

from pybpfasm.lang.kernel_structs import KernelStruct
from pybpfasm.lang.layout import KptrType, LayoutError
from pybpfasm.lang.maps import only_in_program

K = TypeVar("K", bound=KernelStruct)


class Kptr(Generic[K]):
    """A field of a map's value, `task: Kptr[task_struct] = Kptr()`, which is empty at first."""

    @staticmethod
    def __layout_of__(annotation: Any) -> KptrType:
        (struct,) = get_args(annotation)
        if not (isinstance(struct, type) and issubclass(struct, KernelStruct)):
            raise LayoutError(f"Kptr[…] points to a KernelStruct, not to {struct!r}")
        return KptrType(struct.kernel_name, struct)


def kptr_xchg(place: Kptr[K], pointer: K | None) -> K | None:
    """Put a pointer that was acquired, or None, into a map; what was there, which has to be given back."""
    del place, pointer
    only_in_program("kptr_xchg")
