"""Random programs: the reference, the interpreter and the kernel agree, for the code of every target.

pytest tests/pybpfasm/reference --programs 5000 --seed 0      (300 by default)
"""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from reference_evaluator import Evaluator, FieldType, Layout, Memory
from reference_programs import DECLARATIONS, Writer
from written_modules import PRELUDE, import_source

from pybpfasm import sim
from pybpfasm.compiler import compile_program
from pybpfasm.kernel import Map, Program, named_target
from pybpfasm.kernel.target import TARGET_NAMES, running_target

_BATCH = 25
_INPUTS = 3
_KEY = bytes(4)

_NUMBERS = {
    f"{sign}{bits}": FieldType(kind, bits) for sign, kind in (("u", "u"), ("i", "s")) for bits in (8, 16, 32, 64)
}
_INNER: Layout = {"x": _NUMBERS["u16"], "y": _NUMBERS["u32"], "z": _NUMBERS["i16"]}
_DATA: Layout = {
    **{
        name: _NUMBERS[type_]
        for name, type_ in zip(
            "abstcndmek", ["u64", "u64", "i64", "i64", "u32", "i32", "u16", "i16", "u8", "i8"], strict=True
        )
    },
    "p": FieldType("n", 16),
    "q": FieldType("n", 16),
    "f": FieldType("n", 32),
    "low": FieldType("u", 3),
    "mid": FieldType("u", 7),
    "high": FieldType("s", 5),
    "words": FieldType("u", 32, 8),
    "inner": _INNER,
}
_LAYOUTS = {"Inner": _INNER, "Data": _DATA}


def batches(config: pytest.Config) -> Iterator[range]:
    """The programs' seeds, in parts."""
    first, count = config.getoption("--seed"), config.getoption("--programs")
    for start in range(first, first + count, _BATCH):
        yield range(start, min(start + _BATCH, first + count))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test for each part."""
    if "seeds" in metafunc.fixturenames:
        found = list(batches(metafunc.config))
        metafunc.parametrize("seeds", found, ids=[f"{each.start}-{each.stop - 1}" for each in found])


def test_they_agree(seeds: range, tmp_path: Path) -> None:
    """Result and map are the same everywhere."""
    for seed in seeds:
        compare(seed, tmp_path)


def compare(seed: int, folder: Path) -> None:
    """One program, for all targets."""
    text = Writer(seed).source()
    module: Any = import_source(PRELUDE + DECLARATIONS + text, folder)
    evaluator = Evaluator(text, _LAYOUTS)
    inputs = [_values(random.Random(seed * 100 + number)) for number in range(_INPUTS)]  # noqa: S311 - for a test
    expected = [_expected(evaluator, module, each) for each in inputs]
    targets = (*map(named_target, TARGET_NAMES), running_target())
    specs: dict[str, Any] = {}
    for target in targets:
        spec = compile_program(module.program, target=target)
        if all(spec.instructions != each.instructions for each in specs.values()):
            specs[target.name] = spec
    with Map.create(module.data.spec("data")) as map_:
        for name, spec in specs.items():
            with Program.load(spec, {"data": map_}) as program:
                for given, wanted in zip(inputs, expected, strict=True):
                    map_.update(_KEY, bytes(_struct(module, given)))
                    run = program.run(bytes(64))
                    found = (run.retval, _fields(module.Data.from_bytes(map_.lookup(_KEY))))
                    assert found == wanted, f"in the kernel, for {name}, seed {seed}, of {given}:\n{text}"
            for given, wanted in zip(inputs, expected, strict=True):
                assert _simulated(module, spec, given) == wanted, (
                    f"in the interpreter, for {name}, seed {seed}:\n{text}"
                )


def _simulated(module: Any, spec: Any, given: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    maps = sim.create_maps(spec.maps)
    maps["data"].update(_KEY, bytes(_struct(module, given)))
    result = sim.run(spec, sim.SkBuff(packet=bytes(64)), maps=maps)
    found = maps["data"].lookup(_KEY)
    assert found is not None
    return result.ret & 0xFFFFFFFF, _fields(module.Data.from_bytes(bytes(found)))


def _expected(evaluator: Evaluator, module: Any, given: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    memory = Memory(_DATA, {**given, "words": list(given["words"]), "inner": Memory(_INNER, dict(given["inner"]))})
    result = evaluator.run("program", memory)
    inner = memory.fields["inner"]
    return result, {**memory.fields, "inner": {**dict.fromkeys(_INNER, 0), **inner.fields}}


def _values(source: random.Random) -> dict[str, Any]:
    def number(type_: FieldType) -> int:
        edge = source.choice((0, 1, 2, 7, (1 << type_.bits - 1) - 1, 1 << type_.bits - 1, (1 << type_.bits) - 1))
        value = source.choice((edge, source.getrandbits(type_.bits), source.getrandbits(4))) & (1 << type_.bits) - 1
        return value - (1 << type_.bits) if type_.kind == "s" and value >> type_.bits - 1 else value

    def struct(layout: Layout) -> dict[str, Any]:
        return {
            name: (
                struct(type_)
                if not isinstance(type_, FieldType)
                else [number(type_) for _ in range(type_.count)]
                if type_.count
                else number(type_)
            )
            for name, type_ in layout.items()
        }

    return struct(_DATA)


def _struct(module: Any, given: dict[str, Any]) -> Any:
    """A `Data` of the library's, from plain numbers."""
    network = {name: getattr(module, f"be{_DATA[name].bits}") for name in ("p", "q", "f")}  # type: ignore[union-attr]  # fields
    values = {name: network[name](given[name].to_bytes(_DATA[name].bits // 8, "big")) for name in network}  # type: ignore[union-attr]
    return module.Data(**{**given, **values, "inner": module.Inner(**given["inner"])})


def _fields(data: Any) -> dict[str, Any]:
    """Plain numbers, from a `Data`."""
    found = {name: getattr(data, name) for name in _DATA}
    for name in ("p", "q", "f"):
        found[name] = int.from_bytes(found[name].packed, "big")
    return {**found, "words": list(data.words), "inner": {name: getattr(data.inner, name) for name in _INNER}}
