"""One run of QEMU: its command line, its process and the files that its serial ports end in."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import attrs

from tools.vm.disk import ROOT_PARTUUID
from tools.vm.machine import Machine
from tools.vm.programs import ends_with_us, find_program

# A panic ends the machine at once (-no-reboot). What costs an emulated machine seconds and proves nothing is off.
KERNEL_ARGUMENTS = (
    f"quiet panic=-1 oops=panic root=PARTUUID={ROOT_PARTUUID} rootfstype=ext4 rw rootwait init=/init "
    "random.trust_cpu=1 cryptomgr.notests=1"
)


@attrs.frozen
class Hardware:
    """What the emulated machine is made of."""

    machine: Machine
    kernel: Path
    root: Path
    job: Path
    memory_mb: int
    kvm: bool


@attrs.frozen
class Ports:
    """Where the guest's serial ports and QEMU's own errors can be read."""

    console: Path
    status: Path
    complaints: Path

    @classmethod
    def below(cls, directory: Path) -> "Ports":
        """Files in a run's workspace, empty at first."""
        ports = cls(directory / "console", directory / "status", directory / "complaints")
        for path in (ports.console, ports.status, ports.complaints):
            path.touch()
        return ports


@contextlib.contextmanager
def emulator(hardware: Hardware, ports: Ports, workspace: Path) -> Iterator[IO[bytes]]:
    """Run the machine; yields the command's output as a pipe that ends with the machine. Kills it when left early."""
    with ports.complaints.open("wb") as complaints:
        process = subprocess.Popen(
            _command(hardware, ports),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=complaints,
            start_new_session=True,  # Ctrl-C is for the runner, which then ends the machine
            env={**os.environ, "TMPDIR": str(workspace)},  # where QEMU keeps what the guest writes to its root
        )
    try:
        assert process.stdout is not None  # noqa: S101 - it is a pipe, as asked for above
        with process.stdout:
            yield process.stdout
    finally:
        process.kill()
        process.wait()


def _command(hardware: Hardware, ports: Ports) -> list[str]:
    machine = hardware.machine
    return [
        *(*ends_with_us(), find_program(machine.qemu)),
        *machine.board,
        *(machine.host_cpu if hardware.kvm else machine.emulated_cpu),
        *("-m", str(hardware.memory_mb), "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
        *("-kernel", str(hardware.kernel)),
        *("-append", f"console={machine.console} {KERNEL_ARGUMENTS} {machine.kernel_arguments}"),
        *("-chardev", f"file,id=console,path={_escape(ports.console)}"),
        *("-chardev", "stdio,id=output,signal=off"),
        *("-chardev", f"file,id=status,path={_escape(ports.status)}"),
        *machine.ports,
        *_disk("root", hardware.root, "snapshot=on"),
        *_disk("job", hardware.job, "cache=unsafe"),
    ]


def _disk(serial: str, image: Path, option: str) -> tuple[str, ...]:
    """An NVMe disk: the one kind whose driver is built into Debian's cloud kernels."""
    drive = f"if=none,id={serial},format=raw,{option},file={_escape(image)}"
    return ("-drive", drive, "-device", f"nvme,drive={serial},serial={serial}")


def _escape(path: Path) -> str:
    """A comma ends a value in QEMU's options, unless doubled."""
    return str(path).replace(",", ",,")
