"""Runs a body of statements in the kernel on one struct of the test's own, `v`, behind a pointer into a map's value."""

from typing import Any

from cgroup_caller import Caller
from semantics_bench import attached
from written_modules import MakeModule

from pybpfasm.compiler import compile_program
from pybpfasm.kernel.maps import Map, TypedMap
from pybpfasm.kernel.programs import Program

HEAD = """
data = Array[u32, Data](max_entries=1)

@bpf.connect4
def prog(ctx: SockAddr) -> int:
    v = data.lookup(0)
    if v is None:
        return 0
"""


def with_statements(declarations: str, body: str) -> str:
    """A module: what it declares, `Data` among it, and a program of these statements."""
    return declarations + HEAD + "".join(f"    {row}\n" for row in body.strip("\n").splitlines()) + "    return 1\n"


class DataBench:
    """Where such programs run."""

    def __init__(self, caller: Caller, write_module: MakeModule) -> None:
        self._caller = caller
        self._write_module = write_module

    def run(self, declarations: str, body: str, fields: dict[str, Any], target: Any = None) -> Any:
        """The struct after the program has run once, from a struct of zeros but for these fields."""
        module = self._write_module(with_statements(declarations, body))
        spec = compile_program(module.prog, target=target)
        start = module.Data.from_bytes(bytes(module.Data.__layout__.size))
        for name, value in fields.items():
            setattr(start, name, value)
        maps = {name: Map.create(each) for name, each in spec.maps.items()}
        try:
            view: TypedMap[int, Any] = TypedMap(module.data, maps["data"])
            view.set(0, start)
            with Program.load(spec, maps) as program, attached(program, self._caller.cgroup):
                self._caller.connect()
            return view[0]
        finally:
            for each in maps.values():
                each.close()
