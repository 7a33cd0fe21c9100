"""The source `file:PATH`: a file that holds what `kubectl get namespaces,pods -A -o yaml` (or `-o json`) prints."""

import os
import stat
import time
from pathlib import Path

from merbridge.model import Snapshot
from merbridge.sources.documents import parse_documents
from merbridge.sources.errors import MalformedError, SourceError
from merbridge.sources.objects import snapshot_of
from merbridge.sources.source import SourceState


class FileSource:
    """Pods and namespaces from one file."""

    def __init__(self, path: Path) -> None:
        """The file need not exist yet."""
        self.path = path
        self._last_good: Snapshot | None = None
        self._stamp: tuple[int, ...] | None = None
        self._heard = 0
        self._problem = ""

    @property
    def watched_file(self) -> Path:
        """The file itself."""
        return self.path

    def start(self) -> None:
        """Read it for the first time; raises `SourceError` when that fails: then it is the user's to mend."""
        self.latest()
        if self._last_good is None:
            raise SourceError(self._problem)

    def close(self) -> None:
        """Nothing is open."""

    def descriptors(self) -> tuple[int, ...]:
        """None: who watches the file knows when to ask."""
        return ()

    def latest(self) -> Snapshot | None:
        """What the file held when it could be read last; read anew if it may have changed."""
        stamp = self.stamp()
        if stamp != self._stamp:
            self._stamp = stamp
            try:
                self._last_good = self.read()
            except SourceError as err:
                self._problem = str(err)
            else:
                self._problem = ""
        if not self._problem:
            self._heard = int(time.time())
        return self._last_good

    def states(self) -> tuple[SourceState, ...]:
        """The file."""
        return (SourceState(f"file:{self.path}", self._last_good is not None, "", self._heard, self._problem),)

    def read(self) -> Snapshot:
        """Read the whole file; raises `SourceError` when it is unreadable, half-written or not a list of pods."""
        text = self._text()
        try:
            return snapshot_of(parse_documents(text))
        except MalformedError as err:
            raise SourceError(f"{self.path}: {err}") from None

    def stamp(self) -> tuple[int, ...]:
        """A cheap value that differs once the file may have changed, also by a swap of a symlink on the way to it.

        Take it before `read`: then a change during the read shows as a new stamp.
        """
        try:
            status = self.path.stat()
        except OSError as err:
            return (err.errno or 0,)
        return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)

    def _text(self) -> str:
        try:
            content = self._content()
        except OSError as err:
            raise SourceError(f"{self.path}: cannot read the pod file: {os.strerror(err.errno or 0)}") from None
        try:
            return content.decode("utf-8-sig")
        except UnicodeDecodeError as err:
            line = content.count(b"\n", 0, err.start) + 1
            raise SourceError(f"{self.path}: line {line}: not UTF-8 text, or cut within a character") from None

    def _content(self) -> bytes:
        # A pipe would block the agent's loop and cannot be read again.
        if not stat.S_ISREG(self.path.stat().st_mode):
            raise SourceError(f"{self.path}: not a regular file: --source file: needs one that can be read again")
        return self.path.read_bytes()
