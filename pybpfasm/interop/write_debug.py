"""Section .BTF.ext of a written object: types and source lines of its functions, by section."""

from collections.abc import Iterable

from pybpfasm.btf import BtfBuilder, Ext, FuncInfo, LineInfo, SectionFuncInfo, SectionLineInfo
from pybpfasm.interop.functions import SLOT_BYTES
from pybpfasm.spec import SourceLine

# struct bpf_line_info keeps 22 bits for the line and 10 for the column.
_MOST_LINE, _MOST_COLUMN = (1 << 22) - 1, (1 << 10) - 1


class DebugTables:
    """Collects what is known of each function."""

    def __init__(self, builder: BtfBuilder) -> None:
        self._builder = builder
        self._functions: dict[str, list[FuncInfo]] = {}
        self._lines: dict[str, list[LineInfo]] = {}

    def add(self, section: str, offset: int, type_id: int, lines: Iterable[SourceLine]) -> None:
        """A function at an offset of a section; its lines count slots from there."""
        self._functions.setdefault(section, []).append(FuncInfo(offset, type_id))
        string = self._builder.string_offset
        found = [
            LineInfo(
                offset + line.slot * SLOT_BYTES,
                string(line.file),
                string(line.text),
                min(line.line, _MOST_LINE),
                min(line.column, _MOST_COLUMN),
            )
            for line in lines
        ]
        if found:
            self._lines.setdefault(section, []).extend(found)

    def ext(self) -> Ext | None:
        """The tables; None without any lines, for libbpf refuses an empty table of them."""
        if not self._lines:
            return None
        string = self._builder.string_offset
        return Ext(
            tuple([SectionFuncInfo(string(name), tuple(records)) for name, records in self._functions.items()]),
            tuple([SectionLineInfo(string(name), tuple(records)) for name, records in self._lines.items()]),
        )
