"""What the examples' tests share: places of their own to attach to, and a way to run an example as its user does."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from running_example import Example, Start

from pybpfasm.testing import bpf_cgroup, bpf_network

__all__ = ["bpf_cgroup", "bpf_network", "start"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start an example by its name, with arguments; what still runs at the test's end is killed."""
    with ExitStack() as started:
        yield lambda name, *arguments, **places: started.enter_context(Example(name, *arguments, **places))
