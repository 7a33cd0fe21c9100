"""The library's exceptions. Each text is one line: what failed, where, and what to do about it."""


class BpfError(Exception):
    """Base of every error that this library raises on purpose."""


class KernelError(BpfError, OSError):
    """A system call failed; `errno` is kept, the text says what was attempted and what usually mends it."""

    def __init__(self, errno: int, message: str) -> None:
        super().__init__(errno, message)
        self.message = message

    def __str__(self) -> str:
        return self.message


class UnsupportedFeatureError(BpfError):
    """The running kernel lacks a feature.

    `feature` names it, `since` is the Linux version it came in, `option` what such a kernel may be built without.
    """

    def __init__(self, feature: str, since: str, option: str | None = None) -> None:
        built = f", built with {option}" if option else ""
        super().__init__(f"this kernel does not support {feature}: it needs Linux {since} or later{built}")
        self.feature = feature
        self.since = since
        self.option = option
