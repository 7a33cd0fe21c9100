"""Global variables: `count.value` is a place in the map of its section."""

import ast
from typing import TYPE_CHECKING, Any

from pybpfasm.compiler.frontend.sections import READ_ONLY, Sections
from pybpfasm.compiler.frontend.values import Place
from pybpfasm.ir.operations import MapValueAddress
from pybpfasm.ir.operations import Value as IrValue
from pybpfasm.ir.types import Kind
from pybpfasm.lang.globals import Global, ReadOnly, Variable
from pybpfasm.lang.types import LayoutError
from pybpfasm.spec import MapSpec
from pybpfasm.uapi import ProgramType

if TYPE_CHECKING:
    from pybpfasm.compiler.frontend.lowering import Lowering


class Variables:
    """Compiles the use of global variables; `used` are the sections that the program refers to."""

    def __init__(self, lowering: "Lowering", sections: Sections) -> None:
        self._lowering = lowering
        self._sections = sections
        self._names: dict[int, str] = {}
        self.used: set[str] = set()

    def declare(self, name: str, variable: Variable) -> None:
        """Note by which name a program refers to a variable."""
        self._names.setdefault(id(variable), name)

    def place(self, node: ast.AST, variable: Variable) -> Place:
        """Where a variable lies."""
        name = self._names.get(id(variable), "variable")
        try:
            section, address, type_ = self._sections.address(name, variable)
        except LayoutError as error:
            self._lowering.fail(node, f"variable `{name}`: {error}")
        self.used.add(section)
        return Place(address, 0, type_)

    def text(self, data: bytes) -> MapValueAddress:
        """Constant bytes that a helper reads."""
        self.used.add(READ_ONLY)
        return self._sections.text(data)

    def map(self, section: str) -> MapSpec:
        """The map of a section."""
        return self._sections.map(section)

    def check_writable(self, node: ast.AST, place: Place) -> None:
        """Refuse to assign what is read-only."""
        guarded = {Kind.CONTEXT, Kind.KERNEL}
        if self._lowering.kind.program_type == ProgramType.SYSCALL:
            guarded.remove(Kind.CONTEXT)  # there it is what user space has handed over
        if isinstance(place.base, IrValue) and place.base.type.kind in guarded:
            self._lowering.fail(node, "the kernel's memory cannot be assigned")
        if isinstance(place.base, MapValueAddress) and place.base.map.name == READ_ONLY:
            self._lowering.fail(node, "this is read-only: make it a Global, so that it can be assigned")

    def check_nameable(self, node: ast.AST, place: Place) -> None:
        """Refuse a second name of what is read-only: through a pointer it could be written to."""
        if isinstance(place.base, MapValueAddress) and place.base.map.name == READ_ONLY:
            self._lowering.fail(node, "what is read-only cannot be given another name: use its fields")


def is_variable(value: Any) -> bool:
    """Whether a Python object is a global variable."""
    return isinstance(value, Global | ReadOnly)
