"""Packages of a Debian suite, fetched with apt in a directory of its own: the host's apt and its lists stay untouched.

Signatures are checked with Debian's installed keyring. The mirror is the one that the host's apt is configured for.
"""

import os
import re
from pathlib import Path

import attrs

from tools.vm.errors import VmError
from tools.vm.programs import run_program

MIRROR_VARIABLE = "MERBRIDGE_VM_MIRROR"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"

# Settings come after the host's own, so that its proxy and its trust stay; its hooks must not run for our lists.
CONFIGURATION = """
#clear APT::Update;
#clear DPkg::Post-Invoke;
Dir::Etc::sourcelist "{directory}/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Dir::State "{directory}/state";
Dir::State::status "/dev/null";
Dir::Cache "{directory}/cache";
APT::Architecture "{architecture}";
APT::Architectures {{ "{architecture}"; }};
APT::Install-Recommends "false";
APT::Sandbox::User "";
APT::Update::Error-Mode "any";
Acquire::Languages "none";
Acquire::Retries "2";
"""


@attrs.frozen
class Suite:
    """One suite for one architecture, with its package lists below `directory`."""

    name: str
    architecture: str
    directory: Path

    def update(self) -> None:
        """Fetch the package lists; raises VmError when there is no network, no mirror or no valid signature."""
        for folder in ("state/lists/partial", "cache/archives/partial"):
            (self.directory / folder).mkdir(parents=True, exist_ok=True)
        line = f"deb [arch={self.architecture} signed-by={KEYRING}] {debian_mirror()} {self.name} main\n"
        (self.directory / "sources.list").write_text(line)
        configuration = CONFIGURATION.format(directory=self.directory, architecture=self.architecture)
        (self.directory / "apt.conf").write_text(configuration)
        self._apt("apt-get", "-qq", "update", attempted=f"fetch the package lists of Debian {self.name}")

    def field(self, package: str, name: str) -> str:
        """A field of a package's newest version, such as Version or Depends; raises VmError for an unknown package."""
        attempted = f"find {package} in Debian {self.name}"
        text = self._apt("apt-cache", "show", "--no-all-versions", package, attempted=attempted)
        found = re.search(rf"^{name}: (.*)$", text, re.MULTILINE)
        return found[1] if found else ""

    def unpack(self, packages: list[str], workspace: Path, target: Path) -> None:
        """Download packages into `workspace` and unpack them below `target`; raises VmError when that fails.

        base-files comes first: it makes /bin, /lib and their like a link each.
        """
        what = f"download {', '.join(packages[:3])}{' …' if packages[3:] else ''} of Debian {self.name}"
        self._apt("apt-get", "-qq", "download", *packages, attempted=what, directory=workspace)
        for archive in sorted(workspace.glob("*.deb"), key=lambda path: not path.name.startswith("base-files_")):
            run_program("dpkg", "-x", str(archive), str(target), attempted=f"unpack {archive.name}")
            archive.unlink()

    def with_dependencies(self, packages: list[str]) -> list[str]:
        """The packages, base-files, and all that they need to be installed."""
        attempted = f"choose packages of Debian {self.name}"
        plan = self._apt("apt-get", "-s", "install", "base-files", *packages, attempted=attempted)
        return re.findall(r"^Inst (\S+)", plan, re.MULTILINE)

    def _apt(self, *command: str, attempted: str, directory: Path | None = None) -> str:
        program, *arguments = command
        configuration = str(self.directory / "apt.conf")
        return run_program(program, "-c", configuration, *arguments, attempted=attempted, directory=directory)


def debian_mirror() -> str:
    """The address of the Debian mirror that the host's apt uses, or of $MERBRIDGE_VM_MIRROR."""
    if given := os.environ.get(MIRROR_VARIABLE):
        return given
    addresses = run_program("apt-get", "update", "--print-uris", attempted="read the mirror from apt's configuration")
    found = re.search(r"'(\S+/debian)/+dists/", addresses)
    if found is None:
        raise VmError(f"apt here is not configured for a Debian mirror: set {MIRROR_VARIABLE} to the address of one")
    return found[1]
