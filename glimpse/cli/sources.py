"""What `glimpse index` reads: a folder of images, or a manifest that names them."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from glimpse.cli.boundary import Failure
from glimpse.cli.names import Names, identity

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp"})
MANIFEST_SUFFIXES = frozenset({".csv", ".jsonl"})
COLUMNS = ("path", "item_id", "person_id", "camera_id", "captured_at")


@dataclass(frozen=True, slots=True)
class Source:
    """One image to be indexed."""

    item_id: str
    path: Path
    person_id: str = ""
    camera_id: str = ""
    captured_at: datetime | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why one image is not in the gallery."""

    item_id: str
    where: str
    """Path of the image, or line of the manifest."""
    code: str
    """The server's status, or ``LOCAL`` when it was never sent."""
    message: str


@dataclass(frozen=True, slots=True)
class Listing:
    """What was found: images to send and entries that cannot be sent."""

    sources: list[Source]
    refused: list[Refusal]
    passed_over: int = 0
    """Files of a folder that are not images by their name."""


def listing(target: Path, names: Names) -> Listing:
    """Reads a folder, or a ``.csv`` or ``.jsonl`` manifest.

    Raises:
        Failure: neither, or the manifest as a whole cannot be read.
    """
    if target.is_dir():
        return _folder(target, names)
    if target.suffix.lower() in MANIFEST_SUFFIXES and target.is_file():
        return _manifest(target)
    what = "is neither a folder nor a .csv or .jsonl manifest" if target.exists() else "does not exist"
    raise Failure(f"{target} {what}")


def _folder(folder: Path, names: Names) -> Listing:
    sources = []
    passed_over = 0
    for place, inner, files in os.walk(folder):
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        for name in sorted(files):
            if name.startswith("."):
                continue
            path = Path(place, name)
            if path.suffix.lower() not in IMAGE_SUFFIXES:
                passed_over += 1
                continue
            relative = path.relative_to(folder)
            person, camera = identity(relative, names)
            sources.append(Source(relative.as_posix(), path, person, camera))
    return Listing(sources, [], passed_over)


def _manifest(manifest: Path) -> Listing:
    sources: list[Source] = []
    refused: list[Refusal] = []
    lines: dict[str, int] = {}
    for line, row in _rows(manifest):
        where = f"{manifest.name}:{line}"
        if isinstance(row, str):
            refused.append(Refusal("", where, "LOCAL", row))
            continue
        try:
            source = _source(manifest.parent, row)
        except ValueError as error:
            refused.append(Refusal(str(row.get("item_id") or ""), where, "LOCAL", str(error)))
            continue
        if source.item_id in lines:
            message = f"item_id {source.item_id!r} was used before, in line {lines[source.item_id]}"
            refused.append(Refusal(source.item_id, where, "LOCAL", message))
            continue
        lines[source.item_id] = line
        sources.append(source)
    return Listing(sources, refused)


def _rows(manifest: Path) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """Line number and the row, or what is wrong with it."""
    try:
        text = manifest.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise Failure(f"{manifest} is not UTF-8 text: {error.reason} at byte {error.start}") from error
    if manifest.suffix.lower() == ".csv":
        yield from _csv_rows(manifest, text)
        return
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            yield number, f"not JSON: {error}"
            continue
        yield number, row if isinstance(row, dict) else f"expected an object, got {type(row).__name__}"


def _csv_rows(manifest: Path, text: str) -> Iterator[tuple[int, dict[str, Any] | str]]:
    reader = csv.DictReader(text.splitlines(), restkey="", strict=True)
    if "path" not in (reader.fieldnames or ()):
        raise Failure(
            f"{manifest} has no column 'path'; its columns are {', '.join(reader.fieldnames or ()) or 'none'}"
        )
    rows = iter(reader)
    while True:
        try:
            row = next(rows, None)
        except csv.Error as error:
            yield reader.line_num, f"not CSV: {error}"
            continue
        if row is None:
            return
        if "" in row:
            yield reader.line_num, "more fields than columns"
        else:
            yield reader.line_num, {name: value for name, value in row.items() if value}


def _source(folder: Path, row: Mapping[str, Any]) -> Source:
    """One row; ValueError says what is wrong with it."""
    texts = {}
    for name in COLUMNS:
        value = row.get(name)
        if isinstance(value, bool) or not isinstance(value, (str, int, type(None))):
            raise ValueError(f"{name} must be text, got {value!r}")
        texts[name] = "" if value is None else str(value)
    if not texts["path"]:
        raise ValueError("path is missing")
    captured = _time(texts["captured_at"]) if texts["captured_at"] else None
    attributes = {name: value for name, value in row.items() if name not in COLUMNS}
    item_id = texts["item_id"] or texts["path"]
    return Source(item_id, folder / texts["path"], texts["person_id"], texts["camera_id"], captured, attributes)


def _time(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"captured_at {text!r}: expected ISO 8601, such as 2026-05-01T12:30:00Z") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
