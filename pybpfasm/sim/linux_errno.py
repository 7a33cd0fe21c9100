"""Linux's error numbers (uapi asm-generic/errno.h): a program's answers are the same on whatever system it runs."""

from enum import IntEnum


class Errno(IntEnum):
    """Why the kernel refuses something."""

    EPERM = 1
    ENOENT = 2
    E2BIG = 7
    EAGAIN = 11
    ENOMEM = 12
    EACCES = 13
    EFAULT = 14
    EEXIST = 17
    EINVAL = 22
    ENOSPC = 28
    ERANGE = 34
    ENOMSG = 42
    EPROTOTYPE = 91
    ENOPROTOOPT = 92
    EOPNOTSUPP = 95
    EAFNOSUPPORT = 97
    ENOTSUPP = 524  # include/linux/errno.h: the kernel's own
