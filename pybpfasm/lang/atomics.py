"""Changes of a field at once, whatever other CPUs do to it. The first argument is the field itself, `entry.count`."""

from pybpfasm.lang.maps import only_in_program


def atomic_add(field: int, number: int) -> None:
    """`field += number`."""
    del field, number
    only_in_program("atomic_add")


def atomic_or(field: int, number: int) -> None:
    """`field |= number` (Linux 5.12)."""
    del field, number
    only_in_program("atomic_or")


def atomic_and(field: int, number: int) -> None:
    """`field &= number` (Linux 5.12)."""
    del field, number
    only_in_program("atomic_and")


def atomic_xor(field: int, number: int) -> None:
    """`field ^= number` (Linux 5.12)."""
    del field, number
    only_in_program("atomic_xor")


def fetch_add(field: int, number: int) -> int:
    """`field += number`; what it was before (Linux 5.12, as all that follow)."""
    del field, number
    only_in_program("fetch_add")


def fetch_or(field: int, number: int) -> int:
    """`field |= number`; what it was before."""
    del field, number
    only_in_program("fetch_or")


def fetch_and(field: int, number: int) -> int:
    """`field &= number`; what it was before."""
    del field, number
    only_in_program("fetch_and")


def fetch_xor(field: int, number: int) -> int:
    """`field ^= number`; what it was before."""
    del field, number
    only_in_program("fetch_xor")


def exchange(field: int, number: int) -> int:
    """`field = number`; what it was before."""
    del field, number
    only_in_program("exchange")


def compare_exchange(field: int, expected: int, number: int) -> int:
    """`field = number` if it is `expected`; what it was before."""
    del field, expected, number
    only_in_program("compare_exchange")


def load_acquire(field: int) -> int:
    """What the field holds; nothing that the program does afterwards happens before (Linux 6.15)."""
    del field
    only_in_program("load_acquire")


def store_release(field: int, number: int) -> None:
    """`field = number`; nothing that the program has done before happens after it (Linux 6.15)."""
    del field, number
    only_in_program("store_release")
