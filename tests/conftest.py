"""Options that all tests share, and how a test declares what it needs of the kernel."""

import pytest

pytest_plugins = ["kernel_matrix.needs", "pytester"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Golden files, written anew and reviewed as a diff; and the lengths of tests that can be long."""
    parser.addoption("--update-golden", action="store_true", help="write golden files instead of comparing with them")
    parser.addoption("--programs", type=int, default=300, help="how many random programs to compare (default 300)")
    parser.addoption("--starts", type=int, default=300, help="how many containers to start that connect at once")
    parser.addoption("--connections", type=int, default=2000, help="how many connections the long run makes")
    parser.addoption("--seed", type=int, default=0, help="the first random program's number (default 0)")
