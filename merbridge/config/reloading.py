"""Settings that come from a file, taken over when it changes."""

from collections.abc import Callable
from pathlib import Path

from merbridge.config.config import Config
from merbridge.config.load import ConfigError

# What a running agent cannot be without for a moment, or what would leave the old one's traces elsewhere.
FIXED = ("source", "kubeconfig", "context", "node_name", "cgroup_root", "bpffs", "proc", "host_pid", "annotate")


class Reloading:
    """The settings in force. `problem` is one line on why the file as it is now does not count, "" when it does."""

    def __init__(self, load: Callable[[], Config]) -> None:
        """Load them. Raises `ConfigError`."""
        self._load = load
        self.config = load()
        self.problem = ""
        self._proven: Config | None = None
        self._stamp = _stamp(self.config.config)

    def has_other(self) -> bool:
        """Whether the file has changed and says something else: `config` is that from now on."""
        stamp = _stamp(self.config.config)
        if stamp == self._stamp:
            return False
        self._stamp = stamp
        try:
            latest = self._load()
        except ConfigError as error:
            self._refuse(str(error))
            return False
        fixed = [name.replace("_", "-") for name in FIXED if getattr(latest, name) != getattr(self.config, name)]
        if fixed:
            names = ", ".join(fixed)
            self._refuse(f"{self.config.config}: another {names} counts when the agent is started again")
            return False
        self.problem = ""
        is_other = latest != self.config
        self.config = latest
        return is_other

    def is_proven(self) -> None:
        """The agent has become ready with the settings in force."""
        self._proven = self.config

    def fall_back(self, problem: str) -> bool:
        """Go back to the last settings that the agent was ready with; False if there are none.

        Those that could not be are tried again when the file is written again.
        """
        if self._proven is None or self._proven == self.config:
            return False
        self._refuse(f"{self.config.config}: {problem}")
        self.config = self._proven
        return True

    def _refuse(self, reason: str) -> None:
        self.problem = f"{reason}; the settings from before stay in force"


def _stamp(path: Path | None) -> tuple[int, ...] | None:
    """A cheap value that differs once the file may have changed, also by a swap of a symlink on the way to it."""
    if path is None:
        return None
    try:
        status = path.stat()
    except OSError as error:
        return (error.errno or 0,)
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
