"""What a name of a program means: a local, or a Python object of the module or closure it was written in."""

import ast
import builtins
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any

from pybpfasm.compiler.frontend.diagnostics import SilentError
from pybpfasm.compiler.frontend.paths import Unknown
from pybpfasm.compiler.frontend.values import Constant, Value
from pybpfasm.compiler.frontend.variables import is_variable
from pybpfasm.errors import BpfError
from pybpfasm.lang.globals import Global, ReadOnly
from pybpfasm.lang.maps import MapDeclaration
from pybpfasm.spec import MapSpec

if TYPE_CHECKING:
    from pybpfasm.compiler.frontend.lowering import Lowering


class NameResolver:
    """Looks names up, puts the caller's constants in place of the module's, and collects the maps that are named."""

    def __init__(self, lowering: "Lowering", constants: Mapping[str, Any]) -> None:
        self._lowering = lowering
        self._constants = constants
        self._declared_as: dict[int, tuple[MapDeclaration[Any, Any], str]] = {}
        self.used_constants: set[str] = set()
        self.maps: dict[str, MapSpec] = {}

    def resolve(self, node: ast.Name) -> Value:
        """The value of a name."""
        frame = self._lowering.frame
        local = (frame.names or {}).get(node.id)
        if isinstance(local, Unknown):
            if local.silent:
                raise SilentError(self._lowering.location(node), local.reason)
            self._lowering.fail(node, local.reason)
        if local is not None:
            return local
        if node.id in frame.assigned or node.id in frame.source.function.__code__.co_varnames:
            self._lowering.fail(node, f"`{node.id}` has no value yet")
        return self.constant(node, node.id, self._outer(node))

    def visit(self, function: Callable[..., Any]) -> None:
        """Note the constants that a function refers to, on whatever path."""
        named = {*function.__code__.co_names, *function.__code__.co_freevars}
        self.used_constants |= named & self._constants.keys()

    def constant(self, node: ast.AST, name: str, value: Any) -> Constant:
        """A Python object of a module or a closure that the program refers to as `name`."""
        if (
            name in self._constants
            and not isinstance(value, MapDeclaration | ModuleType | Global | ReadOnly)
            and not callable(value)
        ):
            return Constant(self._constants[name])
        return self.member(node, name, value)

    def member(self, node: ast.AST, name: str, value: Any) -> Constant:
        """A Python object that has the name for itself, such as an enum's member: nothing is put in its place."""
        if isinstance(value, MapDeclaration):
            self._declare(node, name, value)
        if is_variable(value):
            self._lowering.variables.declare(name, value)
        return Constant(value)

    def map_spec(self, node: ast.AST, declaration: MapDeclaration[Any, Any]) -> MapSpec:
        """The spec of a map that was named."""
        if id(declaration) not in self._declared_as:
            if declaration.name is None:
                self._lowering.fail(
                    node, "this map has no name here: write it by its own name, or declare it with name=…"
                )
            self._declare(node, declaration.name, declaration)
        return self.maps[self._declared_as[id(declaration)][1]]

    def _outer(self, node: ast.Name) -> Any:
        function = self._lowering.frame.source.function
        enclosing = function.__code__.co_freevars
        if node.id in enclosing and function.__closure__ is not None:
            try:
                return function.__closure__[enclosing.index(node.id)].cell_contents
            except ValueError:
                self._lowering.fail(node, f"`{node.id}` has no value yet")
        for scope in (function.__globals__, vars(builtins)):
            if node.id in scope:
                return scope[node.id]
        self._lowering.fail(node, f"`{node.id}` is not defined")

    def _declare(self, node: ast.AST, name: str, declaration: MapDeclaration[Any, Any]) -> None:
        if self._declared_as.get(id(declaration), (None, None))[1] == (declaration.name or name):
            return
        try:
            spec = declaration.spec(name)
        except BpfError as error:
            self._lowering.fail(node, f"map `{name}`: {error}")
        known = self._declared_as.setdefault(id(declaration), (declaration, spec.name))
        if known[1] != spec.name:
            reason = f"this map is called `{known[1]}` elsewhere: use one name, or declare it with name=…"
            self._lowering.fail(node, reason)
        if self.maps.setdefault(spec.name, spec) != spec:
            self._lowering.fail(node, f"two different maps are called `{spec.name}`")
