"""The picture of rankings: each query, its ranked items, and for every part whether it was seen and how alike it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from glimpse.pictures.canvas import Canvas, Colour
from glimpse.preprocessing import Image

SEEN = 0.5
"""A part with at least this visibility counts as visible on the screen and in pictures."""
SILENT = 0.005
"""A part with a smaller share of the decision had no say."""

BACKGROUND: Colour = (244, 246, 249)
CARD: Colour = (255, 255, 255)
LINE: Colour = (222, 227, 234)
INK: Colour = (28, 38, 51)
MUTED: Colour = (116, 128, 143)
FAINT: Colour = (238, 241, 245)
QUERY: Colour = (47, 98, 214)
SAME: Colour = (27, 150, 84)
OTHER: Colour = (212, 63, 54)
HUES: tuple[Colour, ...] = (
    (96, 108, 129),
    (232, 137, 32),
    (37, 122, 206),
    (147, 82, 190),
    (22, 150, 136),
    (205, 73, 110),
    (122, 140, 40),
    (181, 110, 60),
)

IMAGE_WIDTH, IMAGE_HEIGHT = 152, 304
PADDING = 10
STRIP = 7
CARD_WIDTH = PADDING + STRIP + 5 + IMAGE_WIDTH + PADDING
GAP = 12
MARGIN = 24
HEADER = 46
LABELS = 62
CHIP = 19
FOOTER = 40


class PartMatch(Protocol):
    """What one part said about a pair: `glimpse.client.PartMatch` is one."""

    @property
    def part(self) -> str: ...
    @property
    def similarity(self) -> float: ...
    @property
    def query_visibility(self) -> float: ...
    @property
    def item_visibility(self) -> float: ...
    @property
    def weight(self) -> float:
        """Its share of the decision."""


class Match(Protocol):
    """One ranked item: `glimpse.client.Match` is one."""

    @property
    def item_id(self) -> str: ...
    @property
    def person_id(self) -> str: ...
    @property
    def camera_id(self) -> str: ...
    @property
    def distance(self) -> float | None: ...
    @property
    def joint_visibility(self) -> float: ...
    @property
    def parts(self) -> Sequence[PartMatch]: ...


@dataclass(frozen=True)
class Row:
    """One query and its ranking."""

    label: str
    person_id: str
    """The query's person; empty when unknown, and then no match is called right or wrong."""
    image: Image | None
    visibility: Mapping[str, float]
    """Part -> visibility in the query."""
    matches: Sequence[Match]
    images: Sequence[Image | None]
    """One a match; None draws a silhouette."""


def save_picture(path: Path, rows: Sequence[Row], title: str, note: str = "") -> None:
    """Draws and writes the picture; its format follows the file's suffix.

    Raises:
        OSError: it cannot be written, or OpenCV does not know the suffix.
    """
    picture = ranking_picture(rows, title, note)
    try:
        done, data = cv2.imencode(path.suffix or ".png", picture[:, :, ::-1])
    except cv2.error as error:
        raise OSError(
            0, f"OpenCV cannot write pictures of type {path.suffix!r}; use .png or .jpg", str(path)
        ) from error
    if not done:
        raise OSError(0, "OpenCV could not encode the picture", str(path))
    path.write_bytes(data.tobytes())


def ranking_picture(rows: Sequence[Row], title: str, note: str = "") -> Image:
    """uint8 RGB: one line of cards a query, the query first."""
    parts = max((len(row.visibility) for row in rows), default=0)
    columns = 1 + max((len(row.matches) for row in rows), default=0)
    card_height = PADDING + IMAGE_HEIGHT + LABELS + parts * CHIP + PADDING
    width = 2 * MARGIN + columns * CARD_WIDTH + columns * GAP
    height = HEADER + len(rows) * (card_height + GAP) + FOOTER
    canvas = Canvas(width, height, BACKGROUND)
    canvas.text(MARGIN, 31, canvas.fitting(title, 17, width * 0.5, bold=True), 17, INK, bold=True)
    if note:
        canvas.text(width - MARGIN, 31, canvas.fitting(note, 13, width * 0.45), 13, MUTED, right=True)
    for line, row in enumerate(rows):
        top = HEADER + line * (card_height + GAP)
        _query_card(canvas, MARGIN, top, card_height, row)
        for rank, (match, image) in enumerate(zip(row.matches, row.images, strict=True), 1):
            # The query stands a little apart from what was found.
            left = MARGIN + GAP + rank * (CARD_WIDTH + GAP)
            _match_card(canvas, left, top, card_height, row, rank, match, image)
    _legend(canvas, MARGIN, height - 17)
    return canvas.picture()


def _query_card(canvas: Canvas, x: int, y: int, height: int, row: Row) -> None:
    _frame(canvas, x, y, height, QUERY)
    _photo(canvas, x, y, row.image, list(row.visibility.values()))
    base = y + PADDING + IMAGE_HEIGHT
    room = CARD_WIDTH - 2 * PADDING
    canvas.text(x + PADDING, base + 20, "Query", 14, QUERY, bold=True)
    canvas.text(x + PADDING, base + 37, canvas.fitting(row.label, 11, room), 11, INK)
    canvas.text(x + PADDING, base + 52, "visible in the query", 10.5, MUTED)
    for index, (part, visibility) in enumerate(row.visibility.items()):
        seen = visibility >= SEEN
        value = f"{visibility:.2f}"
        _chip(canvas, x, base + LABELS + index * CHIP, part, _hue(index), seen, visibility, value, faded=not seen)


def _match_card(
    canvas: Canvas, x: int, y: int, height: int, row: Row, rank: int, match: Match, image: Image | None
) -> None:
    known = bool(row.person_id and match.person_id)
    colour = (SAME if match.person_id == row.person_id else OTHER) if known else LINE
    parts = [part for part in match.parts if part.part != "prior"]
    _frame(canvas, x, y, height, colour)
    _photo(canvas, x, y, image, [part.item_visibility for part in parts])
    base = y + PADDING + IMAGE_HEIGHT
    right = x + CARD_WIDTH - PADDING
    distance = "no distance" if match.distance is None else f"{match.distance:.3f}"
    canvas.text(x + PADDING, base + 20, f"{rank}", 14, colour if known else INK, bold=True)
    canvas.text(right, base + 20, distance, 14, INK, bold=True, right=True)
    canvas.text(x + PADDING, base + 37, canvas.fitting(match.item_id, 11, CARD_WIDTH - 2 * PADDING), 11, INK)
    who = " · ".join(word for word in (match.person_id and f"person {match.person_id}", match.camera_id) if word)
    joint = f"joint {match.joint_visibility:.2f}"
    room = CARD_WIDTH - 2 * PADDING - canvas.text_width(joint, 10.5) - 6
    canvas.text(x + PADDING, base + 52, canvas.fitting(who, 10.5, room), 10.5, MUTED)
    canvas.text(right, base + 52, joint, 10.5, MUTED, right=True)
    for index, part in enumerate(parts):
        _part_chip(canvas, x, base + LABELS + index * CHIP, _hue(index), part)


def _part_chip(canvas: Canvas, x: int, y: int, hue: Colour, part: PartMatch) -> None:
    both_seen = min(part.query_visibility, part.item_visibility) >= SEEN
    value = "hidden" if part.weight < SILENT else f"{part.similarity:.2f}"
    level = 0.0 if part.weight < SILENT else part.similarity
    _chip(canvas, x, y, part.part, hue, part.item_visibility >= SEEN, level, value, faded=not both_seen)


def _chip(
    canvas: Canvas, x: int, y: int, part: str, hue: Colour, seen: bool, level: float, value: str, *, faded: bool
) -> None:
    """A dot (filled: the part is visible here), the part's name, a bar of ``level`` in [0, 1], and its value.

    Faded means that it hardly counts: one side hides the part.
    """
    middle = y + CHIP / 2
    ink = MUTED if faded else INK
    canvas.disc(x + PADDING + 5, middle, 4.6, hue)
    if not seen:
        canvas.disc(x + PADDING + 5, middle, 3.2, CARD)
    canvas.text(x + PADDING + 15, middle + 4, canvas.fitting(part, 11, 44), 11, ink)
    right = x + CARD_WIDTH - PADDING
    canvas.text(right, middle + 4, value, 10.5, ink, right=True)
    start, end = x + PADDING + 62, right - 42
    canvas.box(start, middle - 2.5, end - start, 5, FAINT, radius=2.5)
    length = (end - start) * min(1.0, max(0.0, level))
    if length >= 2:
        canvas.box(start, middle - 2.5, length, 5, LINE if faded else hue, radius=2.5)


def _frame(canvas: Canvas, x: int, y: int, height: int, colour: Colour) -> None:
    canvas.box(x, y, CARD_WIDTH, height, CARD, radius=10, border=colour, thickness=1 if colour == LINE else 2)


def _photo(canvas: Canvas, x: int, y: int, image: Image | None, visibility: Sequence[float]) -> None:
    """The image, and beside it a segment a part from head to feet: filled where the part is visible."""
    left, top = x + PADDING + STRIP + 5, y + PADDING
    if image is None:
        _silhouette(canvas, left, top)
    else:
        canvas.box(left, top, IMAGE_WIDTH, IMAGE_HEIGHT, FAINT, radius=6)
        canvas.image(left, top, IMAGE_WIDTH, IMAGE_HEIGHT, image, radius=6)
    segments = list(enumerate(visibility))[1:] or list(enumerate(visibility))  # the first part is the whole person
    if not segments:
        return
    step = (IMAGE_HEIGHT + 3) / len(segments)
    for place, (index, value) in enumerate(segments):
        fill = _hue(index) if value >= SEEN else CARD
        canvas.box(x + PADDING, top + place * step, STRIP, step - 3, fill, radius=3.5, border=_hue(index))


def _silhouette(canvas: Canvas, x: int, y: int) -> None:
    canvas.box(x, y, IMAGE_WIDTH, IMAGE_HEIGHT, FAINT, radius=6)
    centre = x + IMAGE_WIDTH / 2
    canvas.disc(centre, y + 72, 21, LINE)
    canvas.box(centre - 33, y + 100, 66, 98, LINE, radius=20)
    for side in (-1, 1):
        canvas.box(centre + side * 16 - 14, y + 160, 28, 112, LINE, radius=13)
    canvas.text(
        centre - canvas.text_width("image not kept", 10.5) / 2, y + IMAGE_HEIGHT - 12, "image not kept", 10.5, MUTED
    )


def _legend(canvas: Canvas, x: float, y: float) -> None:
    entries: list[tuple[str, Colour, bool]] = [
        ("query", QUERY, False),
        ("same person", SAME, False),
        ("other person", OTHER, False),
        ("part visible", MUTED, True),
        ("part hidden", MUTED, True),
    ]
    for label, colour, dot in entries:
        if dot:
            canvas.disc(x + 5, y - 4, 4.6, colour)
            if label == "part hidden":
                canvas.disc(x + 5, y - 4, 3.2, BACKGROUND)
        else:
            canvas.box(x - 2, y - 10, 14, 12, CARD, radius=3, border=colour, thickness=2)
        canvas.text(x + 17, y, label, 11, MUTED)
        x += 17 + canvas.text_width(label, 11) + 18
    canvas.text(
        x,
        y,
        "bars: cosine similarity of the part, pale where one side hides it; distance top right, smaller is closer",
        11,
        MUTED,
    )


def _hue(index: int) -> Colour:
    return HUES[index % len(HUES)]


def stacked(images: Sequence[Image], width: int) -> Image:
    """Several crops side by side in one image of ``width`` pixels: what a tracklet looks like as a query."""
    each = max(1, width // len(images))
    resized = [cv2.resize(image, (each, 2 * each), interpolation=cv2.INTER_AREA) for image in images]
    return np.concatenate(resized, axis=1)
