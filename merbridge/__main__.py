"""`python -m merbridge`."""

import sys

from merbridge.cli import main

if __name__ == "__main__":
    sys.exit(main())
