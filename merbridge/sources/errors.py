"""The error of a source that cannot tell what pods there are."""

from merbridge.errors import MerbridgeError


class SourceError(MerbridgeError):
    """A source cannot be read now; what it said before still holds. One line: where, and what is wrong."""


class MalformedError(Exception):
    """A text is not what a source should hold; the source adds its own name and raises `SourceError`."""
