"""Memory of the kernel and of processes, copied at addresses that may be wrong; and who is running."""

from typing import Any, TypeVar

from pybpfasm.lang.buffers import Buffer
from pybpfasm.lang.kernel_structs import KernelStruct
from pybpfasm.lang.maps import only_in_program
from pybpfasm.lang.types import Record

T = TypeVar("T", bound=Record)
K = TypeVar("K", bound=KernelStruct)


def probe_read_kernel(as_type: type[T], address: int | KernelStruct) -> T | None:
    """A copy of the kernel's memory as a struct of the program's own; None if it cannot be read."""
    del as_type, address
    only_in_program("probe_read_kernel")


def probe_read_user(as_type: type[T], address: int) -> T | None:
    """A copy of the current process's memory as a struct; None if it cannot be read."""
    del as_type, address
    only_in_program("probe_read_user")


def read_kernel_number(number_type: Any, address: int | KernelStruct) -> int:
    """A number in the kernel's memory, `read_kernel_number(u32, p)`; 0 if it cannot be read."""
    del number_type, address
    only_in_program("read_kernel_number")


def read_user_number(number_type: Any, address: int) -> int:
    """A number in the current process's memory, `read_user_number(u64, p)`; 0 if it cannot be read."""
    del number_type, address
    only_in_program("read_user_number")


def probe_read_kernel_str(into: bytes | Buffer, address: int | KernelStruct) -> int:
    """Copy text of the kernel, up to its zero: how many bytes, with the zero, or a negative errno."""
    del into, address
    only_in_program("probe_read_kernel_str")


def probe_read_user_str(into: bytes | Buffer, address: int) -> int:
    """Copy text of the current process, up to its zero: how many bytes, with the zero, or a negative errno."""
    del into, address
    only_in_program("probe_read_user_str")


def get_current_comm(into: bytes | Buffer) -> int:
    """Copy the current task's name: 0, or a negative errno."""
    del into
    only_in_program("get_current_comm")


def get_current_task(as_type: type[K]) -> K:
    """The current task, `get_current_task(task_struct)`, read by copies."""
    del as_type
    only_in_program("get_current_task")


def get_current_task_btf(as_type: type[K]) -> K:
    """The current task, read at once (Linux 5.11)."""
    del as_type
    only_in_program("get_current_task_btf")


def snprintf(into: bytes | Buffer, text: str, *arguments: int | bytes) -> int:
    """Write text into a text or a buffer (Linux 5.13): how many bytes it takes, with its zero, or a negative errno."""
    del into, text, arguments
    only_in_program("snprintf")


def seq_printf(seq: KernelStruct, text: str, *arguments: int | bytes) -> int:
    """Write text for the reader of an iterator, `seq_printf(meta.seq, "%d %s", n, comm)`: 0, or a negative errno."""
    del seq, text, arguments
    only_in_program("seq_printf")
