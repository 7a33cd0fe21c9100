"""Keeps objects pinned: it knows by the inode which pin is which object's, and pins again what somebody has taken."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from merbridge.datapath.drift import Drift
from merbridge.errors import MerbridgeError
from pybpfasm.errors import KernelError

Pin = Callable[[Path], None]

_NOT_YET = -1


class PinKeeper:
    """The pins of one datapath, as long as an agent holds what is pinned."""

    def __init__(self, drift: Drift) -> None:
        self._drift = drift
        self._kept: dict[Path, tuple[int | None, Pin]] = {}

    def pin(self, path: Path, pin: Pin) -> None:
        """Pin an object, in one step instead of whatever is pinned there.

        Raises `MerbridgeError`; then `mend` tries it again.
        """
        self._kept[path] = (_NOT_YET, pin)
        try:
            if os.path.lexists(path):
                aside = aside_of(path)
                aside.unlink(missing_ok=True)
                pin(aside)
                try:
                    aside.rename(path)
                except OSError:
                    aside.unlink()
                    raise
            else:
                pin(path)
        except KernelError as error:
            raise MerbridgeError(f"{error} (--bpffs)") from error
        except OSError as error:
            raise MerbridgeError(f"cannot pin {path} (--bpffs): {error.strerror}: remove what is there") from None
        self.adopt(path, pin)

    def adopt(self, path: Path, pin: Pin) -> None:
        """Keep what is pinned there already; `pin` does it again."""
        self._kept[path] = (_inode(path), pin)

    def drop(self, path: Path) -> None:
        """Take a pin away, if it is there."""
        self._kept.pop(path, None)
        path.unlink(missing_ok=True)

    def mend(self) -> Iterator[str]:
        """Pin again what is not pinned any more, or what something else is pinned instead of; counted as drift.

        Lines on what could not be done; the others are.
        """
        for path, (inode, pin) in list(self._kept.items()):
            if _inode(path) == inode:
                continue
            try:
                self.pin(path, pin)
            except MerbridgeError as error:
                yield str(error)
            else:
                self._drift.pins += 1


def aside_of(path: Path) -> Path:
    """The name that an object has on its way to `path`; a killed agent may leave it, and a link attached by it."""
    return path.with_name(f"{path.name}-new")


def _inode(path: Path) -> int | None:
    try:
        return os.lstat(path).st_ino
    except OSError:
        return None
