"""The machines that can be emulated: one row each, with all that differs between them."""

import os

import attrs

from tools.vm.errors import VmError


@attrs.frozen
class Machine:
    """An emulated machine: Debian's name of the architecture, QEMU's arguments, Linux's names of its serial ports."""

    architecture: str  # Debian's name
    linux_name: str  # what `uname -m` says
    qemu: str
    board: tuple[str, ...]
    emulated_cpu: tuple[str, ...]
    host_cpu: tuple[str, ...]  # under KVM
    ports: tuple[str, ...]  # QEMU's devices for the character devices console, output and status
    console: str
    output: str
    status: str
    kernel_arguments: str

    @property
    def is_native(self) -> bool:
        """The calling interpreter and its libraries run on it."""
        return os.uname().machine == self.linux_name


# QEMU 7.2 without KVM corrupts its guest when it emulates two CPUs, or when the kernel uses cmpxchg16b: there is one
# CPU, and clearcpuid hides cx16 (feature 141) from the kernel alone, since Debian's haproxy needs it. Without it
# kmalloc_nolock of newer kernels gives memory from caches with debugging only (seen on 7.2: no socket storage for BPF
# programs): F is the cheapest kind. Without rdrand the kernel has no random numbers when Python starts as the first
# process, and Python ends.
AMD64 = Machine(
    architecture="amd64",
    linux_name="x86_64",
    qemu="qemu-system-x86_64",
    board=("-machine", "q35"),
    emulated_cpu=("-accel", "tcg", "-cpu", "Nehalem,+rdrand,+cx16", "-smp", "1"),
    host_cpu=("-accel", "kvm", "-cpu", "host", "-smp", "2"),
    ports=("-serial", "chardev:console", "-serial", "chardev:output", "-serial", "chardev:status"),
    console="ttyS0",
    output="ttyS1",
    status="ttyS2",
    kernel_arguments="mitigations=off clearcpuid=141 slab_debug=F,kmalloc-*",
)

# The board has one serial port; the others are on a PCI card.
ARM64 = Machine(
    architecture="arm64",
    linux_name="aarch64",
    qemu="qemu-system-aarch64",
    board=("-machine", "virt"),
    emulated_cpu=("-accel", "tcg", "-cpu", "cortex-a72", "-smp", "1"),
    host_cpu=("-accel", "kvm", "-cpu", "host", "-smp", "2"),
    ports=("-serial", "chardev:console", "-device", "pci-serial-2x,chardev1=output,chardev2=status"),
    console="ttyAMA0",
    output="ttyS0",
    status="ttyS1",
    kernel_arguments="",
)

MACHINES = {machine.architecture: machine for machine in (AMD64, ARM64)}


def native_architecture() -> str:
    """Debian's name of the architecture that this process runs on; raises VmError when no machine is like it."""
    for machine in MACHINES.values():
        if machine.is_native:
            return machine.architecture
    raise VmError(f"no virtual machine is like this one, {os.uname().machine}: choose --arch {' or '.join(MACHINES)}")
