"""The agent's errors: each is one line that says what, where and what to do."""


class MerbridgeError(Exception):
    """A failure that a user can cause or mend; its text is one line, shown as it is."""
