"""How many CPUs there may be: a per-CPU map has a value for each of them, running or not."""

from functools import lru_cache


@lru_cache(maxsize=1)
def possible_cpus() -> int:
    """How many CPUs this kernel may ever have, which does not change until it is booted again."""
    with open("/sys/devices/system/cpu/possible") as file:
        return count_cpus(file.read())


def count_cpus(listed: str) -> int:
    """How many CPUs a list such as `0-3,8` names: 5."""
    ranges = [part.split("-") for part in listed.strip().split(",")]
    return sum(int(each[-1]) - int(each[0]) + 1 for each in ranges)


def per_cpu_stride(value_size: int) -> int:
    """Bytes from one CPU's value to the next: each starts at a multiple of 8."""
    return -(-value_size // 8) * 8
