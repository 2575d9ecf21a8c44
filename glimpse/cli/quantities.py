"""Sizes and spans of time as people write and read them."""

from __future__ import annotations

import re
from datetime import timedelta

import typer

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "ms": "milliseconds"}


def parse_duration(text: str) -> timedelta:
    """``30d``, ``12h``, ``5m``, ``10s`` or ``50ms``."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|[smhd])", text)
    if not found:
        raise typer.BadParameter(f"{text!r}: expected a number and a unit, such as 30d, 12h, 5m, 10s or 50ms")
    return timedelta(**{_UNITS[found[2]]: float(found[1])})


def size(count: float) -> str:
    """Bytes for people: ``1.5 MiB``."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"
