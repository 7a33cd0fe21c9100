"""The twins: the programs in C, as a BPF author would write them, and what clang makes of them."""

import shutil
import subprocess
import tempfile
from pathlib import Path

import attrs

from pybpfasm.interop import read_elf
from pybpfasm.spec import ProgramSpec

TWINS = Path(__file__).parent / "twins"

# One file for each of programs/ that has programs in it.
SOURCES = ("connect.c", "dns.c", "getpeername.c", "getsockopt.c", "redirect.c", "sockops.c")

# A function of C cannot have the name of its section.
_NAMES = {"socket_event": "sockops"}

# -g: the maps are described by BTF, as libbpf wants them.
_FLAGS = ("-O2", "-g", "-Wall", "-Wextra", "-Werror", "-target", "bpf")


@attrs.frozen
class Clang:
    """A clang, and the level of BPF's instructions that it may use."""

    command: str
    cpu: str

    def __str__(self) -> str:
        return f"{self.command} {self.cpu}"

    def is_installed(self) -> bool:
        """Whether it is on PATH."""
        return shutil.which(self.command) is not None

    def version(self) -> str:
        """What it says of itself, in one line."""
        said = subprocess.run([self.command, "--version"], capture_output=True, text=True, check=True)
        return said.stdout.partition("\n")[0]

    def compile(self, source: str, to: Path) -> None:
        """Compile one of the twins. Raises `CalledProcessError`; warnings are errors."""
        path = str(TWINS / source)
        subprocess.run([self.command, *_FLAGS, f"-mcpu={self.cpu}", "-c", path, "-o", str(to)], check=True)

    def programs(self) -> dict[str, ProgramSpec]:
        """The twins of all programs, by the programs' names."""
        found: dict[str, ProgramSpec] = {}
        with tempfile.TemporaryDirectory() as folder:
            to = Path(folder) / "twin.o"
            for source in SOURCES:
                self.compile(source, to)
                for name, spec in read_elf(to.read_bytes()).programs.items():
                    ours = _NAMES.get(name, name)
                    found[ours] = attrs.evolve(spec, name=ours)
        return found


CLANG_14 = Clang("clang-14", "v3")
CLANG_19 = Clang("clang-19", "v4")
