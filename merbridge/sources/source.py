"""What each source gives to the agent's loop."""

from pathlib import Path
from typing import Protocol

import attrs

from merbridge.model import Snapshot


@attrs.frozen
class SourceState:
    """How one part of a source is, for `status`.

    `version` is the API's resourceVersion, "" for a file. `heard` is when the part was known to be true last, in
    seconds since 1970, 0 for never. `problem` is one line, "" when there is none; what was known before it still holds.
    """

    name: str
    synced: bool
    version: str
    heard: int
    problem: str


class Source(Protocol):
    """Pods and namespaces, and how well they are known."""

    @property
    def watched_file(self) -> Path | None:
        """A file whose changes are a reason to ask for the latest, None where there is no file."""

    def start(self) -> None:
        """Begin; raises `SourceError` for what only the user can mend."""

    def close(self) -> None:
        """End within a moment, whatever the source is waiting for."""

    def descriptors(self) -> tuple[int, ...]:
        """What `select` finds readable when there is a reason to ask for the latest."""

    def latest(self) -> Snapshot | None:
        """The last good state, the same object until it changes; None as long as there is none. It never blocks."""

    def states(self) -> tuple[SourceState, ...]:
        """How its parts are."""
