"""What goes wrong with ELF objects."""

from pybpfasm.errors import BpfError


class ElfError(BpfError, ValueError):
    """An object that cannot be read or written; the text names the offset, section or symbol, and what to do."""
