"""The guest's first process: it mounts what a command expects, loads modules, runs the command and powers off.

It is copied to /init of the root image and uses the standard library only. Its own words go to the console. The job
(a disk whose serial number is "job") says what is to be run.
"""

import ctypes
import fcntl
import json
import os
import shutil
import socket
import struct
import sys
import termios
import tty
from pathlib import Path
from typing import Any

JOB = Path("/vm")
FILE_SYSTEMS = (  # file system, where, what it is called
    ("proc", "/proc"),
    ("sysfs", "/sys"),
    ("devtmpfs", "/dev"),
    ("devpts", "/dev/pts"),
    ("tmpfs", "/dev/shm"),  # noqa: S108 - the guest's own, empty
    ("tmpfs", "/run"),
    ("cgroup2", "/sys/fs/cgroup"),
    ("tracefs", "/sys/kernel/tracing"),
    ("debugfs", "/sys/kernel/debug"),
)
MS_BIND = 0x1000
FINIT_MODULE = {"x86_64": 313, "aarch64": 273}  # glibc has no function for it
SIOCSIFFLAGS, IFF_UP = 0x8914, 0x1
POWER_OFF = 0x4321FEDC
FULL_BELOW_BYTES = 1 << 20

libc = ctypes.CDLL(None, use_errno=True)


def say(text: str) -> None:
    """A line for the console."""
    print(f"init: {text}", flush=True)


def mount(kind: str, target: str, source: str = "none", flags: int = 0) -> None:
    """Mount a file system; a failure is said and left to be noticed by who needs it."""
    Path(target).mkdir(parents=True, exist_ok=True)
    if libc.mount(source.encode(), target.encode(), kind.encode(), flags, None):
        say(f"cannot mount {kind} at {target}: {os.strerror(ctypes.get_errno())}")


def mount_system() -> None:
    """What every Linux program expects to find."""
    for kind, target in FILE_SYSTEMS:
        mount(kind, target)
    for name, target in (("fd", "fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")):
        Path("/dev", name).symlink_to(f"/proc/self/{target}")


def mount_job() -> Any:
    """Find the disk that holds the job, whatever the kernel named it; what is on it."""
    for disk in Path("/sys/block").iterdir():
        serial = disk / "device" / "serial"
        if serial.is_file() and serial.read_text().strip() == "job":
            mount("ext4", str(JOB), f"/dev/{disk.name}")
    return json.loads((JOB / "job.json").read_text())


def load_modules() -> None:
    """Load the modules in the order of their names; there is no modprobe here, nothing is loaded by itself later."""
    for path in sorted((JOB / "modules").glob("*.ko")):
        arguments = b"numdummies=0" if path.name.endswith("-dummy.ko") else b""
        with path.open("rb") as file:
            if libc.syscall(FINIT_MODULE[os.uname().machine], file.fileno(), arguments, 0):
                say(f"cannot load {path.name}: {os.strerror(ctypes.get_errno())}")


def start_loopback() -> None:
    """Set lo up."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sH22x", b"lo", IFF_UP))


def mount_project(directory: str, hidden: list[str]) -> None:
    """Put the project's copy at its own path; `hidden` lies below that path in the root image and must stay visible."""
    for number, path in enumerate(hidden):
        mount("", f"/run/hidden/{number}", path, MS_BIND)
    mount("", directory, str(JOB / "project"), MS_BIND)
    for number, path in enumerate(hidden):
        mount("", path, f"/run/hidden/{number}", MS_BIND)


def open_port(name: str) -> int:
    """A serial port that changes no byte."""
    port = os.open(f"/dev/{name}", os.O_RDWR | os.O_NOCTTY)
    tty.setraw(port)
    mode = termios.tcgetattr(port)
    mode[4] = mode[5] = termios.B115200
    termios.tcsetattr(port, termios.TCSANOW, mode)
    return port


def run(command: list[str], directory: str, environment: dict[str, str], output: int) -> int:
    """Run the command as root, in a session of its own; its exit status as a shell gives it."""
    pid = os.fork()
    if pid == 0:
        try:
            os.setsid()
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(output, 1)
            os.dup2(output, 2)
            os.chdir(directory)
            os.execvpe(command[0], command, environment)  # noqa: S606 - a list of arguments needs no shell
        except OSError as error:
            os.write(2, f"cannot run {command[0]}: {error.strerror}\n".encode())
        os._exit(127)
    while True:
        ended, status = os.wait()  # the first process also inherits whom others leave behind
        if ended == pid:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def full_disks(directory: str) -> list[str]:
    """The file systems that have no room left: the command's failure may come from that."""
    return [path for path in ("/", directory) if shutil.disk_usage(path).free < FULL_BELOW_BYTES]


def report(port: int, line: str) -> None:
    """A line for the runner."""
    os.write(port, f"{line}\n".encode())
    termios.tcdrain(port)


def main() -> None:
    """Do the job."""
    mount_system()
    job = mount_job()
    status = open_port(job["status"])
    output = open_port(job["output"])
    report(status, f"release {os.uname().release}")
    load_modules()
    start_loopback()
    socket.sethostname("vm")
    mount_project(job["directory"], job["hidden"])
    report(status, "started")
    code = run(job["command"], job["directory"], job["environment"], output)
    termios.tcdrain(output)
    for path in full_disks(job["directory"]):
        report(status, f"full {path}")
    report(status, f"exit {code}")


def power_off() -> None:
    """Write everything to the disks and end the machine."""
    os.sync()
    libc.mount(None, str(JOB).encode(), None, 33, None)  # read-only, so that the host can read it (MS_REMOUNT)
    libc.reboot(POWER_OFF)


try:
    main()
except BaseException as error:  # noqa: BLE001 - a first process that ends is a kernel panic, which hides the cause
    say(f"{type(error).__name__}: {error}")
    sys.stdout.flush()
power_off()
