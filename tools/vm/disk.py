"""Disk images with an ext4 file system made from a directory, without a mount and without privilege."""

import os
import shutil
import struct
import tempfile
from pathlib import Path

from tools.vm.programs import run_program

BLOCK = 4096
SPARE_MB = 512  # free space for what the guest writes; a hole in the image file
ROOT_DISK_ID = 0x6D657362
ROOT_PARTUUID = f"{ROOT_DISK_ID:08x}-01"
_PARTITION_START = 1 << 20

# Named one by one: what mke2fs turns on by itself changes, and older kernels refuse to mount what they do not know.
FEATURES = "none,ext_attr,dir_index,filetype,extent,sparse_super,large_file,huge_file,extra_isize,flex_bg,uninit_bg"


def make_disk(tree: Path, image: Path) -> None:
    """Write a disk that is one file system holding the directory `tree`; raises VmError when it cannot."""
    _make_file_system(tree, image, 0)


def make_root_disk(tree: Path, image: Path) -> None:
    """The same as a disk's first partition: the kernel finds it by PARTUUID, whatever name the disk gets."""
    size = _make_file_system(tree, image, _PARTITION_START)
    with image.open("r+b") as file:
        file.truncate(_PARTITION_START + size)
        file.write(_partition_table(_PARTITION_START // 512, size // 512))


def _make_file_system(tree: Path, image: Path, offset: int) -> int:
    files, size = _measure(tree)
    size += SPARE_MB << 20
    command = ["mke2fs", "-q", "-F", "-t", "ext4", "-b", str(BLOCK), "-m", "0", "-N", str(files + 20000)]
    command += ["-O", FEATURES, "-E", f"root_owner=0:0,lazy_itable_init=1,offset={offset}", "-d", str(tree)]
    attempted = f"write the disk image {image} ({_free_mb(image)} MB free there)"
    run_program(*command, str(image), f"{size // 1024}k", attempted=attempted)
    return size


def _measure(tree: Path) -> tuple[int, int]:
    """Number of files, and the bytes that they take in whole blocks, with a margin for the file system's own."""
    count = size = 0
    for directory, folders, files in os.walk(tree):
        for name in (*folders, *files):
            count += 1
            size += -(-os.lstat(os.path.join(directory, name)).st_size // BLOCK) * BLOCK + BLOCK // 2
    return count, -(-size * 21 // 20 // BLOCK) * BLOCK


def _free_mb(image: Path) -> int:
    state = os.statvfs(image.parent)
    return state.f_bavail * state.f_frsize >> 20


def _partition_table(first_sector: int, sectors: int) -> bytes:
    """A master boot record: little-endian, 512 bytes.

    0          440      446                                    462                510
    | no code  | disk   | status, CHS, type 0x83, CHS, first,  | 3 empty entries  | 55 AA |
    |          | id     | number of sectors                    |                  |       |
    """
    entry = struct.pack("<B3xB3xII", 0, 0x83, first_sector, sectors)
    return bytes(440) + struct.pack("<I2x", ROOT_DISK_ID) + entry + bytes(48) + b"\x55\xaa"


def read_directory(image: Path, directory: str, target: Path) -> None:
    """Copy what lies in a directory of a disk made by `make_disk` into `target`, which must exist."""
    with tempfile.TemporaryDirectory(dir=image.parent) as copy:
        # Into the current directory: debugfs splits its request at spaces, which a path may have.
        request = f"rdump {directory} ."
        attempted = f"read results from {image}"
        run_program("debugfs", "-R", request, str(image), attempted=attempted, directory=Path(copy))
        shutil.copytree(Path(copy, Path(directory).name), target, dirs_exist_ok=True)
