"""An attempt to attach, whose failure says what the kind of link knows about its cause."""

import errno
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from pybpfasm.errors import KernelError
from pybpfasm.kernel import sys
from pybpfasm.kernel.features import Feature

# What a kernel says of a command, a kind of link or a flag that it does not know.
_UNKNOWN = (errno.EINVAL, errno.EOPNOTSUPP, errno.E2BIG)


@contextmanager
def attempting(attempted: str, causes: Mapping[int, str], *needed: Feature) -> Iterator[None]:
    """Turn the kernel's errno into words: `attempted` completes "cannot …", `causes` has the cause by errno.

    Raises `UnsupportedFeatureError` if the kernel did not understand and a probe says that it lacks one of `needed`,
    else `KernelError` with the cause.
    """
    try:
        yield
    except KernelError as error:
        number = error.errno or 0
        if number in _UNKNOWN:
            for feature in needed:
                if lacks(feature):
                    raise feature.error() from None
        if number in causes:
            raise sys.failure(number, attempted, causes[number]) from None
        raise


def lacks(feature: Feature) -> bool:
    """Whether a probe says so; a probe that cannot tell (no privilege) does not."""
    try:
        return not feature.supported()
    except KernelError:
        return False
