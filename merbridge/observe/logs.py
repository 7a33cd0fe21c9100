"""The log: one event a line on standard error, as text or JSON, with fixed snake_case event names."""

import logging
import sys
from contextlib import suppress

import structlog

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def configure_log(level: str, format_: str) -> None:
    """Set up the log for this process. `level` is a key of LEVELS, `format_` is text or json."""
    renderer: structlog.typing.Processor
    if format_ == "json":
        renderer = structlog.processors.JSONRenderer()
    else:
        renderer = structlog.dev.ConsoleRenderer(colors=False, pad_event_to=0)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=_LineLogger,
        cache_logger_on_first_use=False,
    )


class _LineLogger:
    """Writes lines to standard error; when its reader is gone they are lost, and the agent goes on."""

    def __init__(self, *_: object) -> None: ...

    def msg(self, line: str) -> None:
        """Write one line."""
        with suppress(OSError):
            sys.stderr.write(line + "\n")
            sys.stderr.flush()

    debug = info = warning = error = msg


def logger() -> structlog.typing.FilteringBoundLogger:
    """The log of this process."""
    log: structlog.typing.FilteringBoundLogger = structlog.get_logger()
    return log
