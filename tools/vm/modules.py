"""The kernel modules that the guest loads, unpacked and in an order in which each finds what it needs."""

import gzip
import lzma
import re
import subprocess
from pathlib import Path

from tools.vm.errors import VmError
from tools.vm.programs import find_program

WANTED = (
    "veth",
    "bridge",
    "dummy",
    "tun",
    "overlay",
    "sch_ingress",
    "cls_bpf",
    "inet_diag",
    "tcp_diag",
    "udp_diag",
    "unix_diag",
    "tls",
)


def place_modules(modules: Path | None, target: Path) -> None:
    """Write the wanted modules of a kernel below `target`, named so that sorted by name they load."""
    target.mkdir()
    if modules is None:
        return
    for number, (name, content) in enumerate(load_order(modules, WANTED).items()):
        (target / f"{number:03}-{name}.ko").write_bytes(content)


def load_order(modules: Path, wanted: tuple[str, ...]) -> dict[str, bytes]:
    """Name and content of the wanted modules and of those they depend on, the latter first.

    A module that is not there is left out: it is built into that kernel, or what needs it fails with its own words.
    """
    files = {path.name.partition(".ko")[0].replace("-", "_"): path for path in modules.rglob("*.ko*")}
    ordered: dict[str, bytes] = {}

    def visit(name: str) -> None:
        if name in ordered or name not in files:
            return
        content = _unpack(files[name])
        for dependency in _dependencies(content):
            visit(dependency)
        ordered[name] = content

    for name in wanted:
        visit(name)
    return ordered


def _dependencies(content: bytes) -> list[str]:
    """The names in the module's .modinfo: packages unpacked by dpkg -x have no modules.dep."""
    found = re.search(rb"\0depends=([^\0]*)\0", content)
    names = found[1].decode() if found else ""
    return [name.replace("-", "_") for name in names.split(",") if name]


def _unpack(path: Path) -> bytes:
    packed = path.read_bytes()
    match path.suffix:
        case ".ko":
            return packed
        case ".xz":
            return lzma.decompress(packed)
        case ".gz":
            return gzip.decompress(packed)
        case ".zst":
            command = [find_program("zstd"), "-dcq", str(path)]
            return subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
        case other:
            raise VmError(f"kernel module {path}: compression {other} is not known here; use .xz, .gz, .zst or none")
