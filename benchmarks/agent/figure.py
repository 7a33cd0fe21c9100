"""What is measured."""

import attrs


@attrs.frozen
class Figure:
    """A value, and what is wanted of it at most; nothing is, where that is None."""

    name: str
    value: float
    unit: str
    wanted: float | None = None
