"""Sphinx: the pages of docs/ as HTML. `make docs` builds them; examples in pages that ask for it are run first.

A page asks with the comment `<!-- examples: run -->`; its fenced `python` blocks are then one program.
"""

import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from tools.page_examples import run_page  # noqa: E402 - after the path is set

project = "pybpfasm and merbridge"
extensions = ["myst_parser", "sphinx.ext.autodoc"]
html_theme = "furo"
html_title = project
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
exclude_patterns = ["README.md"]
nitpicky = False
suppress_warnings = ["myst.xref_missing"]  # links to files outside docs/ are for readers of the repository


def setup(app: Any) -> None:
    """Run each page's examples as the page is read."""
    app.connect("source-read", lambda _, name, __: run_page(ROOT / "docs" / f"{name}.md"))
