"""The running kernel's types, which it shows in /sys/kernel/btf (CONFIG_DEBUG_INFO_BTF, Linux 5.4; modules 5.11)."""

from __future__ import annotations

import os

from pybpfasm.btf.blob import Btf
from pybpfasm.btf.error import BtfError, NotFoundError

VMLINUX = "/sys/kernel/btf/vmlinux"


def kernel_btf(module: str | None = None, *, vmlinux: str | os.PathLike[str] = VMLINUX) -> Btf:
    """The kernel's types; with `module` those of that module, which continue the kernel's.

    `vmlinux` is another file with a kernel's raw BTF; its modules' files are beside it. Nothing is decoded yet.
    Raises `NotFoundError` if there is no such file, `BtfError` if it cannot be read or is no BTF.
    """
    base = Btf.parse(_read(os.fspath(vmlinux)))
    if module is None:
        return base
    if "/" in module or module in ("", ".", ".."):
        raise BtfError(f"{module!r} is no name of a module")
    return Btf.parse(_read(os.path.join(os.path.dirname(os.fspath(vmlinux)), module)), base)


def _read(path: str) -> bytes:
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read()
    except FileNotFoundError:
        reason = "the kernel is built without CONFIG_DEBUG_INFO_BTF, or the module is not loaded"
        raise NotFoundError(f"there is no {path}: {reason}") from None
    except OSError as error:
        raise BtfError(f"{path} cannot be read: {error.strerror}") from error
