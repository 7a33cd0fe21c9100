"""How a program became what it is: the Python line beside the operations, the instructions, the verifier's state.

from pybpfasm.explain import explanation, as_page, as_text

table = explanation(spec, operations, states)     # operations: of the IR; states: of the verifier, both may be empty
Path("program.html").write_text(as_page(table))
"""

from pybpfasm.explain.page import as_page
from pybpfasm.explain.table import Explanation, Group, Line, explanation
from pybpfasm.explain.terminal import as_text

__all__ = ["Explanation", "Group", "Line", "as_page", "as_text", "explanation"]
