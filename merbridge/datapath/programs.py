"""The loaded programs, and which of those that earlier agents have attached are the same ones."""

from collections.abc import Mapping

from pybpfasm.errors import KernelError
from pybpfasm.kernel import Program, ProgramInfo


class LoadedPrograms:
    """This agent's programs by name. They may come after it was made.

    To put a program in place of another takes the kernel a moment for each link, so one that is the same stays: with
    the same instructions (the kernel's hash of them) and the same maps.
    """

    def __init__(self, programs: Mapping[str, Program]) -> None:
        self._programs = programs
        self._infos: dict[str, ProgramInfo] = {}
        self._answers: dict[tuple[str, int], bool] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._programs

    def __getitem__(self, name: str) -> Program:
        return self._programs[name]

    def is_same(self, name: str, attached: int) -> bool:
        """Whether the program with the id `attached` is the one of that name."""
        key = (name, attached)
        if key not in self._answers:
            self._answers[key] = self._compare(name, attached)
        return self._answers[key]

    def _compare(self, name: str, attached: int) -> bool:
        if name not in self._infos:
            self._infos[name] = self._programs[name].info()
        ours = self._infos[name]
        if ours.id == attached:
            return True
        try:
            with Program.by_id(attached) as other:
                theirs = other.info()
        except KernelError:
            return False  # it is gone by now, or may not be looked at
        return (theirs.type, theirs.tag, theirs.map_ids) == (ours.type, ours.tag, ours.map_ids)
