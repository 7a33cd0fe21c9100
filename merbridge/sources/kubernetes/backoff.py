"""How long to wait before the next attempt."""

import random

import attrs


@attrs.define
class Backoff:
    """Exponential pauses with jitter, so that the agents of a thousand nodes do not come back in step.

    A pause is between half of and the whole of first · 2ⁿ seconds after n failures more, at most `longest_seconds`.
    """

    first_seconds: float
    longest_seconds: float
    failures: int = 0
    _random: random.Random = attrs.field(factory=random.Random)

    def next_seconds(self, at_least: float = 0.0) -> float:
        """Count a failure, and say how long to wait; `at_least` is what a server has asked for."""
        # Beyond 2³⁰ the cap holds for any sensible first pause.
        whole = min(self.longest_seconds, self.first_seconds * 2.0 ** min(self.failures, 30))
        self.failures += 1
        return max(at_least, 0.0) + whole * self._random.uniform(0.5, 1.0)

    def spread(self, seconds: float) -> float:
        """About so many seconds, a fifth more or less."""
        return seconds * self._random.uniform(0.8, 1.2)

    def reset(self) -> None:
        """Something worked."""
        self.failures = 0
