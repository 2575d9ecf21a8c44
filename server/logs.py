"""Structured logs on stderr: plain for people, JSON for machines; one line a call."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

import grpc

FIELDS = "fields"
"""Name of the record attribute that holds a line's key-value pairs."""


class PlainFormatter(logging.Formatter):
    """``2026-11-03T12:00:00.123Z info    call method=Search code=OK ms=12.3``."""

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] = getattr(record, FIELDS, {})
        pairs = "".join(f" {key}={_plain(value)}" for key, value in fields.items())
        line = f"{_time(record)} {record.levelname.lower():7} {record.getMessage()}{pairs}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class JsonFormatter(logging.Formatter):
    """One JSON object a line: ``time``, ``level``, ``logger``, ``message``, then the fields."""

    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, FIELDS, {}),
        }
        if record.exc_info:
            entry["trace"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str, ensure_ascii=False)


def configure(level: str, style: str) -> None:
    """Sends the logs of the whole process to stderr in one style, ``plain`` or ``json``."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if style == "json" else PlainFormatter())
    handler.addFilter(_is_not_about_a_caller_who_left)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # Finding the caller's file and line for every record is half the cost of a log call, and no format shows it.
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False


def _is_not_about_a_caller_who_left(record: logging.LogRecord) -> bool:
    """gRPC logs a trace as an error when a deadline passes just while the answer is being sent."""
    return not (record.exc_info and isinstance(record.exc_info[1], grpc.aio.InternalError))


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _plain(value: object) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    # Quoted as JSON, so that a caller's text cannot forge a line or a field.
    return text if text.isascii() and text.isprintable() and not set(text) & set(' "=') and text else json.dumps(text)
