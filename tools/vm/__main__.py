"""`python -m tools.vm`."""

import sys

try:
    from tools.vm.cli import main  # within the try: Ctrl-C may come while modules are read

    status = main(sys.argv[1:])
except KeyboardInterrupt:
    print("tools.vm: interrupted", file=sys.stderr)
    status = 130  # 128 + SIGINT
sys.exit(status)
