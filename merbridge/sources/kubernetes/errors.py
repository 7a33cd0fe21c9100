"""What goes wrong between the agent and the API, as one line each."""

import ssl
from collections.abc import Iterator, Mapping
from http.client import HTTPException
from typing import Any

_TOO_NEW = "Too large resource version"
_LONGEST_MESSAGE = 300
_LONGEST_RETRY_AFTER_SECONDS = 120.0


class ApiError(Exception):
    """The API answered with an error.

    `status` is the HTTP status or, in a watch, the code of an ERROR event; `message` is the API's own line, perhaps "".
    `retry_after_seconds` is what the server asks for, 0 if it does not.
    """

    def __init__(self, status: int, message: str, retry_after_seconds: float = 0.0) -> None:
        super().__init__(f"HTTP {status}: {message}" if message else f"HTTP {status}")
        self.status = status
        self.message = message
        self.retry_after_seconds = retry_after_seconds

    @classmethod
    def from_status(cls, body: Mapping[str, Any], http_status: int = 0, retry_after: str = "") -> "ApiError":
        """The error in a `Status` object; the header Retry-After comes before the object's own seconds."""
        details = body.get("details")
        seconds = details.get("retryAfterSeconds") if isinstance(details, dict) else None
        code = body.get("code")
        return cls(
            http_status or (code if isinstance(code, int) else 0),
            one_line(str(body.get("message") or body.get("reason") or "")),
            _seconds(retry_after) or _seconds(str(seconds)),
        )

    @property
    def outdated(self) -> bool:
        """Whether the version that was asked for is of no use: too old, or of another history than the server's."""
        return self.status in (400, 404, 410) or _TOO_NEW in self.message


class UnreachableError(Exception):
    """No answer, or one that broke off. One line, the same each time for the same cause."""


def cause_of(error: BaseException) -> str:
    """The innermost reason of a failed request, in words that do not change from one attempt to the next."""
    reasons = list(_reasons(error))
    for reason in reasons:
        if isinstance(reason, ssl.SSLCertVerificationError):
            return f"its certificate is not trusted: {reason.verify_message}"
    for reason in reasons:
        if isinstance(reason, TimeoutError) or "Timeout" in type(reason).__name__:
            return "no answer in time"
        if isinstance(reason, OSError) and reason.strerror:
            return one_line(reason.strerror)
    if any(isinstance(reason, HTTPException) for reason in reasons) or type(error).__name__ == "ProtocolError":
        return "the connection broke off"  # what it says besides are counts of bytes
    return one_line(str(error)) or type(error).__name__


def _reasons(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what caused it, innermost first."""
    if error is not None:
        yield from _reasons(error.__cause__ or error.__context__)
        yield from (argument for argument in error.args if isinstance(argument, BaseException))
        yield error


def one_line(text: str) -> str:
    """The text as one line of printable characters, cut where it is very long."""
    line = " ".join(text.split())
    return "".join(char if char.isprintable() else "?" for char in line)[:_LONGEST_MESSAGE]


def _seconds(text: str) -> float:
    # A date is allowed there, too; the API does not write one.
    return min(float(text), _LONGEST_RETRY_AFTER_SECONDS) if text.isascii() and text.isdecimal() else 0.0
