"""What ends a command."""

from pybpfasm.errors import BpfError


class InputError(BpfError):
    """The input is bad: what, where, and what to do about it. Exit status 1."""


class UsageError(BpfError):
    """The command is: options that do not go together, a value that cannot be meant. Exit status 2."""
