"""The agent on a node full of pods: what a start, a change and a second without one cost."""

import sys
from pathlib import Path

# The API server that the tests have.
sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "merbridge"))
