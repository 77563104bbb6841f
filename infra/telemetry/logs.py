"""Structured logs: one JSON object a line on standard error, with ids and codes and no personal data."""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import MutableMapping
from typing import Any

import structlog

_STAMP = structlog.processors.TimeStamper(fmt="iso", utc=True)
_JSON = structlog.processors.JSONRenderer()
_LEVELS = {"DEBUG": logging.DEBUG, "INFO": logging.INFO, "WARNING": logging.WARNING, "ERROR": logging.ERROR}


def configure(level: str) -> None:
    """Set up structlog and the standard library's logging; called once, at an entry point."""
    threshold = _LEVELS.get(level.upper(), logging.INFO)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            _STAMP,
            _where_it_failed,
            _JSON,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_OfLibraries())
    logging.basicConfig(level=max(threshold, logging.WARNING), handlers=[handler], force=True)
    logging.captureWarnings(capture=True)


class _OfLibraries(logging.Formatter):
    """What libraries log, as one object a line, too. Of their words only what was written before any value was put in: a
    message that is made whole may quote an address, and so may the text of an exception."""

    def format(self, record: logging.LogRecord) -> str:
        event: dict[str, Any] = {
            "logger": record.name,
            "at": f"{record.pathname.rsplit('/', 2)[-1]}:{record.lineno} {record.funcName}",
            "event": "library.said",
            "level": record.levelname.lower(),
        }
        if record.args and isinstance(record.msg, str):
            event["said"] = record.msg
        if record.exc_info:
            event["exc_info"] = record.exc_info
        rendered = _JSON(None, "", _where_it_failed(None, "", _STAMP(None, "", event)))
        return rendered if isinstance(rendered, str) else rendered.decode()


def _where_it_failed(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """An exception as its type and the places it passed: its text may quote a value, and a value may be an address."""
    info = event.pop("exc_info", None)
    given = info[1] if isinstance(info, tuple) else info
    error = given if isinstance(given, BaseException) else sys.exc_info()[1] if info else None
    if error is not None:
        event["error"] = type(error).__name__
        frames = traceback.extract_tb(error.__traceback__)[-8:]
        event["where"] = [f"{frame.filename.rsplit('/', 2)[-1]}:{frame.lineno} {frame.name}" for frame in frames]
    return event
