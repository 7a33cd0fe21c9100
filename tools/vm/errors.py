"""The runner's error: one line that says what failed, where, and what to do."""

from merbridge.errors import MerbridgeError


class VmError(MerbridgeError):
    """A virtual machine could not be prepared, or did not do its work; its text is one line, shown as it is."""
