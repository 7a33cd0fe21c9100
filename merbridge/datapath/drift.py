"""What somebody else has changed of the datapath, and the agent has put right."""

import attrs


@attrs.define
class Drift:
    """How often since the agent's start: pins that were gone, programs that were not attached, entries of maps."""

    pins: int = 0
    programs: int = 0
    entries: int = 0

    def since(self, before: "Drift") -> "Drift":
        """What has come to it."""
        return Drift(self.pins - before.pins, self.programs - before.programs, self.entries - before.entries)

    def any(self) -> bool:
        """Whether there was anything."""
        return self != Drift()
