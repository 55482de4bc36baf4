"""`debuglog.log`: what the client service does, for whoever looks for a mistake.

One JSON object a line, through structlog. Level 3 is normal, level 5 detailed; no level holds a secret.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Any

import structlog

from lockgate.client.log_file import LogFile
from lockgate.model.text import printable
from lockgate.protocol.secret import Secret

FILE_NAME = "debuglog.log"
FILE_LIMIT = 10 * 1000 * 1000
"""Bytes before it is renamed to `debuglog.log.old`, as administrators know it from other clients."""

LEVELS = {3: logging.INFO, 5: logging.DEBUG}
"""The number that administrators give, and from which severity on lines are written."""

NOTE_LIMIT = 1000  # characters of an annotation
DEPTH = 8  # of containers in a field; ours have two or three

_HIDDEN = "<secret>"
_SECRET_NAMES = frozenset(
    {"password", "passphrase", "secret", "cookie", "token", "authorization", "private_key", "pin_code"}
)
"""Fields that hold a secret whatever their type is."""


class _FileLogger:
    """What structlog calls with a finished line."""

    def __init__(self, file: LogFile) -> None:
        self._file = file

    def msg(self, message: str) -> None:
        self._file.write(message)

    log = debug = info = warn = warning = error = err = critical = fatal = exception = failure = msg


_current: LogFile | None = None


def configure(directory: Path, level: int = 3) -> None:
    """Sends everything that is logged in this process to the file. level: a key of LEVELS.

    May be called again, with another level or directory.
    """
    global _current
    if _current is not None:
        _current.close()
    file = _current = LogFile(directory / FILE_NAME, FILE_LIMIT)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            hide_secrets,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=lambda *_: _FileLogger(file),
        cache_logger_on_first_use=False,
    )


def set_level(level: int) -> None:
    """From now on lines of this level are written, a key of LEVELS. After `configure`."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]))


def annotate(text: str, uid: int) -> None:
    """Writes a remark of the person with this account, to find the place again; at every level."""
    structlog.get_logger("annotation").error("annotation", text=printable(text, NOTE_LIMIT), uid=uid)


def hide_secrets(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
    """structlog processor: no Secret, no bytes and no field with the name of a secret goes further."""
    return {str(name): _harmless(name, value, DEPTH) for name, value in event.items()}


def _harmless(name: object, value: object, depth: int) -> object:
    if isinstance(name, str) and name.lower() in _SECRET_NAMES:
        return _HIDDEN
    match value:
        case None | bool() | int() | float() | str():
            return value
        case Secret():
            return _HIDDEN
        case bytes() | bytearray() | memoryview():
            return f"<{len(value)} bytes>"  # may be a key or a frame
        case _ if depth == 0:
            return "…"
        case Mapping():
            return {str(key): _harmless(key, each, depth - 1) for key, each in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_harmless(None, each, depth - 1) for each in value]
        case _ if dataclasses.is_dataclass(value) and not isinstance(value, type):
            fields = {each.name: getattr(value, each.name) for each in dataclasses.fields(value) if each.repr}
            return {"type": type(value).__name__, **_mapping(fields, depth)}
        case _:
            return str(value)


def _mapping(fields: Mapping[str, object], depth: int) -> dict[str, object]:
    return {name: _harmless(name, each, depth - 1) for name, each in fields.items()}
