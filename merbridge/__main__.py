"""`python -m merbridge`."""

import sys

try:
    from merbridge.cli import main
except ModuleNotFoundError as missing:
    sys.exit(f"merbridge needs the Python package {missing.name}: pip install 'merbridge[agent]'")

if __name__ == "__main__":
    sys.exit(main())
