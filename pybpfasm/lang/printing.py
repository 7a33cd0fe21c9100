"""Lines in the kernel's trace, for debugging."""

from pybpfasm.lang.maps import only_in_program


def printk(text: str, *arguments: object) -> None:
    """Write a line to /sys/kernel/tracing/trace_pipe: `printk("%d of %d", a, b)`."""
    del text, arguments
    only_in_program("printk")
