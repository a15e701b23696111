"""Structured logs: one JSON object a line on standard error, or coloured text on a terminal.

Rule: no key, token or certificate request is ever passed to a logger. Text that callers control
is truncated by `clip` and, in JSON, escaped, so that a line is always one line.
"""

import logging
import sys

import structlog

MAXIMUM_TEXT = 512


def clip(text: str, limit: int = MAXIMUM_TEXT) -> str:
    """Return `text` fit for a log line: at most `limit` characters, control characters replaced."""
    shown = "".join(c if c.isprintable() else "\ufffd" for c in text[:limit])
    return shown + "…" if len(text) > limit else shown


def configure(*, json: bool | None = None, level: str = "INFO") -> None:
    """Set up logging for the process; JSON unless standard error is a terminal."""
    as_json = not sys.stderr.isatty() if json is None else json
    renderer: structlog.types.Processor = (
        structlog.processors.JSONRenderer()
        if as_json
        else structlog.dev.ConsoleRenderer(
            # the default shows local variables, which may be keys and tokens
            exception_formatter=structlog.dev.plain_traceback
        )
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )


def get_logger(name: str) -> structlog.typing.FilteringBoundLogger:
    """Return the logger of one part of the service, e.g. `sds`."""
    logger: structlog.typing.FilteringBoundLogger = structlog.get_logger(part=name)
    return logger
