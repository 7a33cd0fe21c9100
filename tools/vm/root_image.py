"""The guest's root file system: the calling interpreter with its virtual environment, a shell and a few tools.

Each file lies in the guest where it lies here, with every symbolic link on the way and every shared library it needs.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tools.vm.cache import Cache
from tools.vm.disk import make_root_disk
from tools.vm.programs import find_program, search_path

SHELL = ("sh", "bash", "env", "true", "false", "sleep", "timeout", "date", "seq", "tr", "cut", "sort", "grep", "sed")
FILES = (
    "ls",
    "cat",
    "cp",
    "mv",
    "rm",
    "mkdir",
    "ln",
    "touch",
    "chmod",
    "stat",
    "head",
    "tail",
    "wc",
    "tee",
    "df",
    "dd",
)
SYSTEM = ("mount", "umount", "id", "uname", "dmesg", "sysctl", "ps", "kill", "unshare", "nsenter", "ip", "tc", "ss")
TOOLS = (*SHELL, *FILES, *SYSTEM, "haproxy", "bpftool")
NOT_IN_GUEST = {"test", "tests", "idlelib", "lib2to3", "ensurepip", "turtledemo", "tkinter", "site-packages"}
NOT_FOR_TESTS_THERE = {"helm_python"}  # 250 MB; what it is for needs no kernel
FOLDERS = ("proc", "sys", "dev", "run", "tmp", "var/tmp", "root", "vm", "etc", "usr/bin", "usr/sbin", "usr/lib")
ETC = {
    "passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n",
    "group": "root:x:0:\nnogroup:x:65534:\n",
    "hosts": "127.0.0.1 localhost\n::1 localhost\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
}
GUEST_INIT = Path(__file__).with_name("guest_init.py")
IMAGE_SOURCES = (Path(__file__), GUEST_INIT, Path(__file__).with_name("disk.py"))


def native_root_image(cache: Cache) -> Path:
    """The image for this interpreter; built anew when the interpreter, its packages or a tool has changed."""

    def build(image: Path) -> None:
        stage = Stage(image.with_suffix(".tree"))
        _fill(stage)
        make_root_disk(stage.top, image)
        shutil.rmtree(stage.top)

    cache.remove_unused("roots")
    return cache.entry(f"roots/{_fingerprint()}.img", build)


class Stage:
    """A directory that becomes the guest's root; files are linked into it where the file system allows."""

    def __init__(self, top: Path) -> None:
        """Create the folders and files that every guest has."""
        self.top = top
        self._real_folders = {Path("/")}
        for folder in FOLDERS:
            (top / folder).mkdir(parents=True, exist_ok=True)
        for name, text in ETC.items():
            (top / "etc" / name).write_text(text)
        (top / "tmp").chmod(0o1777)

    def add(self, path: Path) -> None:
        """Add a file or folder (without its content); a link on the way is added too, and followed."""
        for part in (*reversed(path.parents), path):
            if part in self._real_folders:
                continue
            if part.is_symlink():
                self._add_link(part)
                leads_to = Path(os.path.normpath(part.parent / part.readlink()))
                self.add(leads_to / path.relative_to(part))
                return
            if part.is_dir():
                self._real_folders.add(part)
                (self._inside(part)).mkdir(parents=True, exist_ok=True)
            elif part.is_file() and not self._inside(part).exists():
                link_or_copy(part, self._inside(part))

    def add_tree(self, top: Path, leave_out: set[str] | None = None) -> None:
        """Add a folder and all that is in it, but for folders of some names."""
        self.add(top)
        for directory, folders, files in os.walk(top):
            folders[:] = [name for name in folders if name not in (leave_out or ())]
            for name in (*folders, *files):
                self.add(Path(directory, name))

    def add_shared_libraries(self) -> None:
        """Add what the programs and libraries added so far are linked with."""
        found = [Path("/", path.relative_to(self.top)) for path in self.top.rglob("*") if _may_be_elf(path)]
        command = [find_program("ldd"), *map(str, found)]
        printed = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False
        ).stdout
        for library in sorted(set(re.findall(r"(/\S+) \(0x", printed))):
            self.add(Path(library))

    def _add_link(self, path: Path) -> None:
        inside = self._inside(path)
        if not os.path.lexists(inside):
            inside.symlink_to(path.readlink())

    def _inside(self, path: Path) -> Path:
        return self.top / path.relative_to("/")


def link_or_copy(source: Path | str, target: Path | str) -> None:
    """A hard link, or a copy where links are not possible (another file system, a foreign owner)."""
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, target, follow_symlinks=False)


def write_init(top: Path, interpreter: str) -> None:
    """Write /init; -I and -S keep what is installed in the environment from running before it."""
    init = top / "init"
    init.write_text(f"#!{interpreter} -IS\n{GUEST_INIT.read_text()}")
    init.chmod(0o755)


def _fill(stage: Stage) -> None:
    interpreter = Path(sys.executable)
    for name in ("/bin", "/sbin", "/lib", "/lib64"):
        stage.add(Path(name))
    for tool in TOOLS:
        if found := shutil.which(tool, path=search_path()):
            stage.add(Path(found))
    stage.add(interpreter)
    stage.add_tree(Path(os.__file__).parent, NOT_IN_GUEST)
    for folder in _package_folders():
        stage.add_tree(folder, NOT_FOR_TESTS_THERE)
    stage.add_shared_libraries()
    write_init(stage.top, str(interpreter.resolve()))


def _package_folders() -> list[Path]:
    """Where the interpreter's packages are: its virtual environment, or else the folders it has on its path."""
    if sys.prefix != sys.base_prefix:
        return [Path(sys.prefix)]
    return [Path(entry) for entry in sys.path if entry.endswith("-packages") and Path(entry).is_dir()]


def _may_be_elf(path: Path) -> bool:
    return not path.is_symlink() and path.is_file() and (".so" in path.name or os.access(path, os.X_OK))


def _fingerprint() -> str:
    """Changes when the image would: by names, sizes and times, since reading everything would take seconds."""
    state: list[object] = [sys.executable, sys.version]
    installed = [path for folder in _package_folders() for path in _files(folder)]
    tools = [found for tool in TOOLS if (found := shutil.which(tool, path=search_path()))]
    for path in sorted([*installed, *tools]):
        status = os.lstat(path)
        state.append((path, status.st_size, status.st_mtime_ns))
    state += [source.read_text() for source in IMAGE_SOURCES]
    return hashlib.sha256(repr(state).encode()).hexdigest()[:16]


def _files(top: Path) -> Iterator[str]:
    """All files below a folder but what is left out, and compiled bytecode, which Python writes when it likes."""
    for directory, folders, files in os.walk(top):
        folders[:] = [name for name in folders if name not in {"__pycache__", *NOT_FOR_TESTS_THERE}]
        yield from (os.path.join(directory, name) for name in files)
