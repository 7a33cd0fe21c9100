"""The kernel's own structs, as far as a program reads them. Where a field lies is found in the kernel's types (BTF)."""

from typing import Any, ClassVar, TypeVar

from pybpfasm.lang.maps import only_in_program


class KernelStruct:
    """Base of such declarations: `class task_struct(KernelStruct): pid: i32; real_parent: "task_struct"`.

    Named as the kernel names it, or by `name="…"`; what follows three underscores does not count. Fields may be left
    out, and stand in any order. A field that is declared as another `KernelStruct` is one in place or a pointer to one,
    whichever the kernel has.
    """

    kernel_name: ClassVar[str]

    def __init_subclass__(cls, *, name: str | None = None) -> None:
        cls.kernel_name = (name or cls.__name__).split("___")[0]

    def __init__(self, *_: Any) -> None:
        only_in_program(f"struct {self.kernel_name}")


K = TypeVar("K", bound=KernelStruct)


def kernel_pointer(as_type: type[K], address: int | KernelStruct) -> K:
    """An address as a pointer to a struct of the kernel. Its fields are read by copies: 0 if it is wrong."""
    del as_type, address
    only_in_program("kernel_pointer")
