"""`python -m tools.vm`."""

import sys

from tools.vm.cli import main

sys.exit(main(sys.argv[1:]))
