"""Whether KVM can be used: by trying it, since a /dev/kvm that opens may still run nothing."""

import os
import subprocess
from pathlib import Path

from tools.vm.cache import Cache
from tools.vm.machine import Machine
from tools.vm.programs import ends_with_us, find_program

TRY_SECONDS = 5.0
_EXIT_PORT = 0xF4
_EXIT_CODE = 0x2A
_FIRMWARE_BYTES = 1 << 16
_RESET_VECTOR = _FIRMWARE_BYTES - 16


def kvm_works(machine: Machine, cache: Cache) -> bool:
    """Run the smallest possible guest under KVM, for at most 5 s; the answer is kept until this machine reboots."""
    if not (machine.is_native and machine.architecture == "amd64" and os.access("/dev/kvm", os.R_OK | os.W_OK)):
        return False
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    note = cache.directory / f"kvm-{boot}"
    if not note.exists():
        for old in cache.directory.glob("kvm-*"):
            old.unlink(missing_ok=True)
        with cache.workspace() as workspace:
            note.write_text("works" if _try_kvm(machine, workspace / "firmware") else "does not work")
    return note.read_text() == "works"


def _try_kvm(machine: Machine, firmware: Path) -> bool:
    """A firmware of two instructions: it asks QEMU to exit with a code that nothing else gives."""
    instructions = bytes([0xB0, _EXIT_CODE, 0xE6, _EXIT_PORT, 0xF4])  # mov al, code; out port, al; hlt
    firmware.write_bytes(bytes(_RESET_VECTOR) + instructions.ljust(16, b"\0"))
    device = f"isa-debug-exit,iobase={_EXIT_PORT:#x},iosize=4"
    command = [*ends_with_us(), find_program(machine.qemu), "-accel", "kvm", "-cpu", "host", "-nodefaults"]
    command += ["-display", "none", "-bios", str(firmware), "-device", device]
    try:
        result = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=TRY_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return False
    return result.returncode == _EXIT_CODE << 1 | 1
