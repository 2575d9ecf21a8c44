"""Item filters written on a command line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from glimpse.client import Box, Filter

_IDS = {"person": "person_ids", "camera": "camera_ids", "item": "item_ids"}
_TIMES = {"after": "captured_after", "before": "captured_before"}


def parse_conditions(conditions: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """``("camera", "c1")``, ``("after", "2026-05-01")``, ``("attribute", "bag=true")`` to the fields of a `Filter`.

    Raises:
        typer.BadParameter: an unknown key, a time or an attribute that cannot be read.
    """
    fields: dict[str, Any] = {}
    for key, value in conditions:
        if key in _IDS:
            fields.setdefault(_IDS[key], []).append(value)
        elif key in _TIMES:
            fields[_TIMES[key]] = parse_time(value)
        elif key == "attribute":
            name, text = _pair(value)
            fields.setdefault("attributes", {})[name] = parse_value(text)
        else:
            choices = ", ".join([*_IDS, *_TIMES, "attribute"])
            raise typer.BadParameter(f"unknown key {key!r}; choose one of {choices}")
    return fields


def parse_filter(conditions: Sequence[tuple[str, str]], exclude: Sequence[str]) -> Filter | None:
    """A filter of what is wanted and, for each ``exclude`` such as ``person=7,camera=c1``, what is not."""
    from glimpse.client import Filter

    removed = [Filter(**parse_conditions(_pair(part) for part in entry.split(","))) for entry in exclude]
    if not conditions and not removed:
        return None
    return Filter(**parse_conditions(conditions), exclude=removed)


def parse_weights(entries: Sequence[str]) -> dict[str, float]:
    """``upper=1`` to ``{"upper": 1.0}``."""
    weights = {}
    for entry in entries:
        name, text = _pair(entry)
        try:
            weights[name] = float(text)
        except ValueError:
            raise typer.BadParameter(f"{entry!r}: expected PART=WEIGHT, such as upper=1") from None
    return weights


def parse_box(text: str) -> Box:
    """``x,y,width,height`` in pixels."""
    from glimpse.client import Box

    try:
        x, y, width, height = (int(number) for number in text.split(","))
    except ValueError:
        raise typer.BadParameter(f"{text!r}: expected four whole numbers x,y,width,height") from None
    return Box(x, y, width, height)


def parse_time(text: str) -> datetime:
    """ISO 8601; UTC when no zone is given."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r}: expected a time such as 2026-05-01 or 2026-05-01T12:30:00Z") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def parse_value(text: str) -> Any:
    """A JSON value where it is one (``true``, ``3``), otherwise the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _pair(text: str) -> tuple[str, str]:
    key, separator, value = text.partition("=")
    if not separator or not key or not value:
        raise typer.BadParameter(f"{text!r}: expected KEY=VALUE")
    return key.strip(), value.strip()
