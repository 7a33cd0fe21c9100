"""The architecture page is true to the folders."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "architecture.md").read_text()
NOT_ROOMS = {"__init__.py", "__main__.py", "py.typed", "__pycache__"}


def rooms(package: str) -> set[str]:
    """The modules and folders directly below a package."""
    found = (entry for entry in (ROOT / package).iterdir() if entry.name not in NOT_ROOMS)
    return {f"{package}/{entry.name}{'/' if entry.is_dir() else ''}" for entry in found}


def test_each_room_is_on_the_page_and_no_other() -> None:
    """Whoever adds or removes a room changes the page."""
    on_page = set(re.findall(r"`((?:pybpfasm|merbridge)/[^`]*)`", PAGE))
    assert on_page == rooms("pybpfasm") | rooms("merbridge")


def test_the_compilers_parts_are_named() -> None:
    """Each file of the compiler is described."""
    parts = {path.name for path in (ROOT / "pybpfasm" / "compiler").glob("*.py")} - NOT_ROOMS
    stems = {part for part in parts if part in PAGE or part.removesuffix(".py") in PAGE}
    assert stems == parts
