"""What a command or a script has around it: failures in one line, an end by Ctrl-C, output that comes at once."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from pybpfasm.errors import BpfError


def run_script(main: Callable[[], object]) -> NoReturn:
    """Call a script's `main` and exit: with 0; 1 and one line on standard error for what failed; 130 after Ctrl-C.

    Lines that it prints come at once, also where standard output is no terminal.
    """
    if sys.stdout is not None:
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # unless it was replaced: a text file

    def run() -> int:
        main()
        return 0

    sys.exit(exit_status(Path(sys.argv[0]).stem, run))


def exit_status(name: str, run: Callable[[], int]) -> int:
    """The exit status that `run` gives; where it fails in a way that its user can mend, one line says so.

    1 for such a failure, 130 for Ctrl-C, 141 where who reads the output has gone. `name` begins the line.
    """
    try:
        status = run()
        if sys.stdout is not None:
            sys.stdout.flush()  # here, where a reader that has gone can be told from a failure
    except BrokenPipeError:
        _forget_output()
        return 141
    except KeyboardInterrupt:
        return 130
    except BpfError as error:
        complain(name, str(error))
        return 1
    except MemoryError:
        complain(name, "there is not enough memory for this input")
        return 1
    except OSError as error:
        # What the machine refuses at a place where nobody expected it: a full disk, an input/output error.
        complain(name, f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror or error))
        _forget_output()
        return 1
    return status


def complain(name: str, message: str) -> None:
    """Say it on standard error, without what a terminal would obey."""
    visible = "".join(each if each.isprintable() or each in "\n\t" else "\ufffd" for each in message)
    print(f"{name}: {visible}", file=sys.stderr)


def _forget_output() -> None:
    """What is still in the buffer goes nowhere, or the interpreter would complain when it ends."""
    if sys.stdout is None:
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
