"""Run the examples of a documentation page: its fenced `python` blocks, in order, as one program."""

import re
from pathlib import Path

MARK = "<!-- examples: run -->"
_BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)


def asks_to_be_run(page: Path) -> bool:
    """Whether the page says that its examples are to be run."""
    return MARK in page.read_text()


def program(page: Path) -> str:
    """The page's blocks as one program whose lines keep their numbers."""
    text = page.read_text()
    lines = [""] * text.count("\n")
    for block in _BLOCK.finditer(text):
        first = text.count("\n", 0, block.start(1))
        for number, line in enumerate(block[1].splitlines()):
            lines[first + number] = line
    return "\n".join(lines) + "\n"


def run_page(page: Path) -> None:
    """Run the examples of a page that asks for it; whatever goes wrong in one is raised."""
    if page.exists() and asks_to_be_run(page):
        exec(compile(program(page), str(page), "exec"), {"__name__": "__main__"})  # noqa: S102 - our own pages
