"""What ends a run: one line that says what, where, and what to do about it."""

from pybpfasm.errors import BpfError
from pybpfasm.spec import SourceLine


class SimError(BpfError):
    """A program did what no verifier lets pass, or what the interpreter cannot do.

    `slot` is the instruction's slot, `instruction` its text, `line` the source line it comes from; each is None as long
    as it is not known. `program` is the name of the program that was running.
    """

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what
        self.slot: int | None = None
        self.instruction: str | None = None
        self.line: SourceLine | None = None
        self.program: str | None = None

    def located(self, program: str, slot: int, instruction: str | None, line: SourceLine | None) -> "SimError":
        """This error, with the place where it happened; the innermost place is kept."""
        if self.slot is None:
            self.program, self.slot, self.instruction, self.line = program, slot, instruction, line
        return self

    def __str__(self) -> str:
        if self.slot is None:
            return self.what
        text = f"{self.program}, slot {self.slot}"
        if self.instruction is not None:
            text += f", {self.instruction}"
        if self.line is not None:
            text += f" ({self.line.file}:{self.line.line}: {self.line.text.strip()})"
        return f"{text}: {self.what}"


class AccessError(SimError):
    """Memory that the program may not touch: outside a region, read-only, ended, or never written.

    `region` is the region's name and `offset` a distance into it in bytes (both None for an address in no region);
    `size` counts the bytes that were asked for.
    """

    def __init__(self, what: str, region: str | None, offset: int | None, size: int) -> None:
        super().__init__(what)
        self.region = region
        self.offset = offset
        self.size = size


class UninitialisedError(SimError):
    """A register was read that nothing was put into, or that a call has emptied."""


class StepLimitError(SimError):
    """The program ran for more instructions than the run allows."""


class MissingHelperError(SimError):
    """A helper, or a function of the kernel, that the interpreter does not have; `helpers=` supplies one."""


class MapError(BpfError, OSError):
    """A map refused an operation; `errno` is what the kernel would return."""

    def __init__(self, errno: int, message: str) -> None:
        super().__init__(errno, message)
        self.message = message

    def __str__(self) -> str:
        return self.message
