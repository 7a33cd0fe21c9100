"""Options that all tests share, and how a test declares what it needs of the kernel."""

import pytest

pytest_plugins = ["kernel_matrix.needs"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Golden files are written anew with --update-golden, and reviewed as a diff."""
    parser.addoption("--update-golden", action="store_true", help="write golden files instead of comparing with them")
