"""The root file system of a guest of another architecture: Debian's own Python, and the project's packages as wheels.

Nothing of it is run here: packages are unpacked, not configured.
"""

import configparser
import hashlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tools.vm.apt import Suite
from tools.vm.cache import Cache
from tools.vm.disk import make_root_disk
from tools.vm.errors import VmError
from tools.vm.machine import Machine
from tools.vm.root_image import IMAGE_SOURCES, Stage, write_init

SUITE = "trixie"
PACKAGES = (
    *("python3", "haproxy", "iproute2", "mount", "util-linux", "procps"),
    *("dash", "bash", "coreutils", "grep", "sed"),
)
TEST_PACKAGES = {"hypothesis", "pytest", "pytest-timeout"}
WHEEL_PLATFORMS = ("manylinux2014", "manylinux_2_17", "manylinux_2_28", "manylinux_2_34")
SETUP = Path(__file__).parents[2] / "setup.cfg"
SOURCES = (SETUP, Path(__file__), *IMAGE_SOURCES)


def debian_root_image(machine: Machine, cache: Cache) -> Path:
    """The image for a machine; made once for what setup.cfg asks for and how it is made here. Raises VmError."""
    fingerprint = hashlib.sha256(b"\0".join(source.read_bytes() for source in SOURCES)).hexdigest()[:16]

    def build(image: Path) -> None:
        suite = Suite(SUITE, machine.architecture, cache.directory / "apt" / machine.architecture / SUITE)
        top = image.with_suffix(".tree")
        print(f"tools.vm: building a root image of Debian {SUITE} for {machine.architecture}", file=sys.stderr)
        _fill(top, suite, machine, image.with_suffix(".packages"))
        make_root_disk(top, image)
        shutil.rmtree(top)

    return cache.entry(f"roots/{machine.architecture}-{fingerprint}.img", build)


def _fill(top: Path, suite: Suite, machine: Machine, downloads: Path) -> None:
    suite.update()
    downloads.mkdir()
    suite.unpack(suite.with_dependencies(list(PACKAGES)), downloads, top)
    Stage(top)  # after base-files: /bin and its like are links then
    python = next(top.glob("usr/bin/python3.[0-9]*")).name
    _install_wheels(top / "usr/local/lib" / python / "dist-packages", machine, python.removeprefix("python"))
    (top / "usr/bin/python").symlink_to("python3")
    write_init(top, "/usr/bin/python3")


def _install_wheels(target: Path, machine: Machine, version: str) -> None:
    """Ask pip for the wheels of the other architecture and Debian's Python; none is built."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"]
    command += ["--target", str(target), "--only-binary", ":all:", "--implementation", "cp"]
    command += ["--python-version", version, "--abi", f"cp{version.replace('.', '')}", "--abi", "abi3", "--abi", "none"]
    for platform in WHEEL_PLATFORMS:
        command += ["--platform", f"{platform}_{machine.linux_name}"]
    result = subprocess.run(
        [*command, *_requirements()], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if result.returncode:
        errors = [line for line in result.stderr.splitlines() if line.startswith("ERROR")]
        reason = next(iter(errors), f"exit status {result.returncode}")
        raise VmError(f"cannot fetch Python packages for {machine.linux_name}: pip: {reason}")


def _requirements() -> list[str]:
    """What setup.cfg asks for, but for linters and types."""
    setup = configparser.ConfigParser()
    setup.read(SETUP)
    extras = setup["options.extras_require"]
    tests = [line for line in _lines(extras["dev"]) if re.split(r"[ <>=]", line)[0] in TEST_PACKAGES]
    return _lines(setup["options"]["install_requires"]) + _lines(extras["agent"]) + tests


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]
