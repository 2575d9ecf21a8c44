"""A CSV of images: ``path,person,camera`` and, where the set has parts, ``split``."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from trainer.data.card import NO_INPUT, Card
from trainer.data.listing import DatasetError, ImageSet, Listing, TrainingListing, files

SPLITS = ("train", "query", "gallery")
CARD = Card(
    "CSV",
    "yours",
    "yours",
    NO_INPUT,
    "columns path (relative to the CSV), person, camera (may be left out), split (train, query or gallery; may be "
    "left out); person -1 is junk",
)


@dataclass(frozen=True)
class _Row:
    line: int
    path: Path
    person: str
    camera: str
    split: str


def list_table(path: str) -> Listing:
    """Rows of split ``query`` against rows of split ``gallery``; without that column every image against all others.

    Persons and cameras are any text. Without cameras every image counts as one of its own, so that a query leaves out
    nothing but itself. Person ``-1`` is junk and dropped.

    Raises:
        DatasetError: no such file, a column, value or image is missing, or no query has a positive.
    """
    root, rows, split = _rows(path)
    kept = [row for row in rows if row.person != "-1"]
    query = [row for row in kept if row.split == "query"] if split else kept
    gallery = [row for row in kept if row.split == "gallery"] if split else kept
    cameras = any(row.camera for row in rows)
    if cameras:
        fact = "same person and same camera left out"
    else:
        fact = "no camera ids: " + ("nothing is left out" if split else "only the query itself is left out")
    junk = len(rows) - len(kept)
    facts = (fact, f"{junk:,} images of person -1 dropped") if junk else (fact,)
    return CARD.listing("csv", _labelled(root, query, rows), _labelled(root, gallery, rows), *facts)


def train_table(path: str) -> TrainingListing:
    """Rows of split ``train``; without that column all rows.

    Raises:
        DatasetError: as `list_table`, or no row to train on.
    """
    root, rows, split = _rows(path)
    chosen = [row for row in rows if row.split == "train"] if split else rows
    if not chosen:
        raise DatasetError(f"{path} has no row of split 'train': it has no training part")
    return CARD.training("csv", _labelled(root, chosen, rows))


def _rows(path: str) -> tuple[Path, list[_Row], bool]:
    """The folder of the CSV, its rows, and whether they have splits."""
    table = Path(path).expanduser()
    try:
        with table.open(newline="", encoding="utf-8-sig") as lines:
            reader = csv.DictReader(lines)
            columns = reader.fieldnames or []
            for column in ("path", "person"):
                if column not in columns:
                    raise DatasetError(f"{table}: column {column!r} is missing, there are {list(columns)}")
            rows = [_row(table, reader.line_num, cells, "split" in columns) for cells in reader]
    except OSError as error:
        raise DatasetError(f"{table}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DatasetError(f"{table} is not a CSV in UTF-8") from error
    if not rows:
        raise DatasetError(f"{table} has no rows")
    blank = [row.line for row in rows if not row.camera]
    if blank and len(blank) < len(rows):
        raise DatasetError(f"{table}, line {blank[0]}: camera is empty, though other lines have one")
    twice = len(rows) - len({row.path for row in rows})
    if twice:
        raise DatasetError(f"{table} names {twice} images more than once")
    return table.parent, rows, "split" in columns


def _row(table: Path, line: int, cells: dict[str, str | None], split: bool) -> _Row:
    found = {name: (cells.get(name) or "").strip() for name in ("path", "person", "camera", "split")}
    for name in ("path", "person"):
        if not found[name]:
            raise DatasetError(f"{table}, line {line}: {name} is empty")
    if split and found["split"] not in SPLITS:
        raise DatasetError(f"{table}, line {line}: split must be one of {list(SPLITS)}, got {found['split']!r}")
    image = table.parent / found["path"]
    if not image.is_file():
        raise DatasetError(f"{table}, line {line}: there is no image {image}")
    return _Row(line, image, found["person"], found["camera"], found["split"])


def _labelled(root: Path, rows: list[_Row], everything: list[_Row]) -> ImageSet:
    """Persons and cameras are numbered over the whole file, so that all parts agree."""
    people = {name: i + 1 for i, name in enumerate(sorted({row.person for row in everything} - {"-1"}))} | {"-1": -1}
    cameras = {name: i for i, name in enumerate(sorted({row.camera for row in everything}))}
    own = {row.path: i for i, row in enumerate(everything)}
    return files(
        [row.path for row in rows],
        root,
        [people[row.person] for row in rows],
        [cameras[row.camera] if row.camera else own[row.path] for row in rows],
    )
