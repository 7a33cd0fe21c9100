"""`python -m pybpfasm`."""

import sys

from pybpfasm.cli import main

if __name__ == "__main__":
    sys.exit(main())
