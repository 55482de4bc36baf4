"""Logging of the server's processes: one JSON object a line on standard error.

Fields, not formatted strings: what came from outside is a value, escaped by JSON.
"""

from __future__ import annotations

import logging
import sys
from typing import TextIO

import structlog

from lockgate.server import tracing

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def configure_logs(level: str = "info", stream: TextIO | None = None) -> None:
    """For the start of a process. level: a key of LEVELS."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            tracing.add_trace_id,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        # Line and line end in one write: several processes share the file.
        logger_factory=structlog.WriteLoggerFactory(file=stream or sys.stderr),
        cache_logger_on_first_use=False,
    )
