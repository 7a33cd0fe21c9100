"""The types of a written object: those that come with the programs, those of maps, and of what the kernel has."""

from collections.abc import Iterable

from pybpfasm import btf
from pybpfasm.btf import Btf, BtfBuilder, Kind, Linkage, NotFoundError, kinds
from pybpfasm.btf.kinds import Record
from pybpfasm.interop.error import ElfError
from pybpfasm.spec import ProgramSpec

_INT = btf.Int("int", 4, signed=True)


class TypesToWrite:
    """Collects types. Those of the first program that has any keep their ids: instructions may hold such ids."""

    def __init__(self, programs: Iterable[ProgramSpec]) -> None:
        self.builder = BtfBuilder()
        self._imported: dict[bytes, tuple[Btf, int]] = {}
        shift = 0
        for program in programs:
            if program.types is None or program.types in self._imported:
                continue
            source = Btf.parse(program.types)
            self._imported[program.types] = source, shift
            for _, record in source:
                self.builder.add(_shifted(record, shift))
            shift += len(source)

    def function(self, program: ProgramSpec, slot: int, name: str) -> int:
        """The id of the FUNC of a program's function; one is made up where the program does not tell."""
        for info in program.functions:
            if info.slot == slot and program.types is not None:
                source, shift = self._imported[program.types]
                if source.kind(info.type_id) is not Kind.FUNC:
                    raise ElfError(f"program {program.name!r}: type {info.type_id} of {name!r} is no function")
                return info.type_id + shift
        context = btf.Pointer(btf.Struct(program.context, 0) if program.context else btf.Void())
        parameters = (btf.Parameter("ctx", context),) if slot == 0 else ()
        return self.builder.function_id(btf.Function(name, parameters, _INT))

    def kernel_function(self, program: ProgramSpec, name: str) -> int:
        """A FUNC for a function of the kernel: its prototype is among the program's types, under its name."""
        found = self._kernel_function(program, name)
        if found is None:
            raise ElfError(
                f"program {program.name!r} calls the kernel's {name!r}, whose prototype its types do not have:"
                " an object needs it"
            )
        return found

    def kernel_variable(self, program: ProgramSpec, name: str, *, typed: bool) -> int:
        """A VAR for a variable of the kernel, or a FUNC, whose address is taken; not `typed`: only an address."""
        if not typed:
            return self.builder.add(kinds.Var(name, 0, Linkage.EXTERN))
        found = self._named(program, name, Kind.VAR)
        if found is not None and isinstance(found[2], kinds.Var):
            return self.builder.add(kinds.Var(name, _id(found[2].type_id, found[1]), Linkage.EXTERN))
        function = self._kernel_function(program, name)
        if function is None:
            raise ElfError(f"program {program.name!r} uses the kernel's variable {name!r}, which its types do not have")
        return function

    def _kernel_function(self, program: ProgramSpec, name: str) -> int | None:
        found = self._named(program, name, Kind.TYPEDEF)
        if found is None:
            return None
        source, shift, record = found
        if not isinstance(record, kinds.Typedef) or source.kind(record.type_id) is not Kind.FUNC_PROTO:
            return None
        return self.builder.add(kinds.Func(name, record.type_id + shift, Linkage.EXTERN))

    def _named(self, program: ProgramSpec, name: str, kind: Kind) -> tuple[Btf, int, Record] | None:
        if program.types is None:
            return None
        source, shift = self._imported[program.types]
        try:
            return source, shift, source.type(source.find(name, kind))
        except NotFoundError:
            return None


def _shifted(record: Record, shift: int) -> Record:
    """The record with larger ids. Sections and variables, which the object has new ones of, become harmless others."""
    match record:
        case kinds.DataSec():
            return kinds.Struct("", 0)
        case kinds.Var():
            return kinds.Typedef(record.name, _id(record.type_id, shift))
        case kinds.DeclTag():
            return kinds.DeclTag(record.name, record.type_id + shift, record.component, record.attribute)
        case kinds.TypeTag():
            return kinds.TypeTag(record.name, _id(record.type_id, shift), record.attribute)
        case kinds.Ptr() | kinds.Const() | kinds.Volatile() | kinds.Restrict():
            return type(record)(_id(record.type_id, shift))
        case kinds.Typedef():
            return kinds.Typedef(record.name, _id(record.type_id, shift))
        case kinds.Func():
            return kinds.Func(record.name, record.type_id + shift, record.linkage)
        case kinds.Array():
            return kinds.Array(_id(record.type_id, shift), _id(record.index_type_id, shift), record.count)
        case kinds.FuncProto():
            parameters = [kinds.Parameter(each.name, _id(each.type_id, shift)) for each in record.parameters]
            return kinds.FuncProto(_id(record.return_type_id, shift), tuple(parameters))
        case kinds.Struct() | kinds.Union():
            members = [
                kinds.Member(each.name, _id(each.type_id, shift), each.bit_offset, each.bit_size)
                for each in record.members
            ]
            return type(record)(record.name, record.size, tuple(members), record.kind_flag)
        case kinds.Other():
            raise ElfError(f"types of kind {record.number} are newer than this library: they cannot be written")
    return record


def _id(type_id: int, shift: int) -> int:
    return type_id + shift if type_id else 0
