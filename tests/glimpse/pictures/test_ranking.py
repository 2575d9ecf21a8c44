"""The picture: who is right, what is hidden, with either generation of OpenCV's text."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from glimpse.client import Match, PartMatch
from glimpse.pictures import ranking as picture
from glimpse.pictures.canvas import Canvas
from glimpse.pictures.ranking import Row, ranking_picture, stacked
from glimpse.preprocessing import Image

PARTS = ("global", "head", "legs")


def match(person_id: str, visible: tuple[float, ...] = (1, 1, 1), distance: float | None = 0.25) -> Match:
    parts = tuple(PartMatch(name, 0.9, 1.0, seen, 0.3) for name, seen in zip(PARTS, visible, strict=True))
    return Match(f"item-{person_id}", person_id, distance, 0.5, None, "c1", None, {}, parts)


def row(matches: list[Match], person_id: str = "7") -> Row:
    blue = np.full((64, 32, 3), (10, 20, 200), np.uint8)
    return Row("query.jpg", person_id, blue, dict.fromkeys(PARTS, 1.0), matches, [blue] * len(matches))


def border(image: Image, place: int) -> tuple[int, ...]:
    """Colour of the left border of the card at ``place`` (0 is the query), half way down its image."""
    gap = picture.GAP if place else 0
    x = picture.MARGIN + gap + place * (picture.CARD_WIDTH + picture.GAP)
    return tuple(int(value) for value in image[picture.HEADER + 150, x])


def strip(image: Image, place: int, segment: int, segments: int) -> tuple[int, ...]:
    """Colour in the middle of a segment of the visibility strip."""
    x = picture.MARGIN + (picture.GAP if place else 0) + place * (picture.CARD_WIDTH + picture.GAP)
    step = (picture.IMAGE_HEIGHT + 3) / segments
    y = picture.HEADER + picture.PADDING + round((segment + 0.5) * step)
    return tuple(int(value) for value in image[y, x + picture.PADDING + picture.STRIP // 2])


def test_borders_tell_the_right_person_from_others_when_people_are_known() -> None:
    image = ranking_picture([row([match("7"), match("8"), match("")])], "Gallery")
    assert border(image, 0) == picture.QUERY
    assert border(image, 1) == picture.SAME
    assert border(image, 2) == picture.OTHER
    assert border(image, 3) == pytest.approx(picture.LINE, abs=8)  # a thin line is smoothed


def test_borders_are_neutral_when_the_query_is_unknown() -> None:
    image = ranking_picture([row([match("7")], person_id="")], "Gallery")
    assert border(image, 1) == pytest.approx(picture.LINE, abs=8)


def test_the_strip_is_filled_where_a_part_is_visible_and_hollow_where_it_is_hidden() -> None:
    image = ranking_picture([row([match("7", visible=(1.0, 0.9, 0.1))])], "Gallery")
    assert strip(image, 1, 0, 2) == picture.HUES[1]
    assert strip(image, 1, 1, 2) == picture.CARD


def test_the_image_of_each_card_is_in_its_place() -> None:
    image = ranking_picture([row([match("7")])], "Gallery")
    x = picture.MARGIN + picture.PADDING + picture.STRIP + 5 + picture.IMAGE_WIDTH // 2
    assert tuple(image[picture.HEADER + picture.PADDING + 150, x]) == (10, 20, 200)


def test_a_missing_image_and_a_missing_distance_can_be_drawn() -> None:
    one = row([match("7", distance=None)])
    drawn = ranking_picture([Row(one.label, one.person_id, None, one.visibility, one.matches, [None])], "Gallery")
    assert drawn.dtype == np.uint8


def test_a_query_without_matches_can_be_drawn() -> None:
    assert ranking_picture([row([])], "Gallery").shape[0] > picture.IMAGE_HEIGHT


def test_every_row_has_a_line_of_its_own() -> None:
    one = ranking_picture([row([match("7")])], "Gallery")
    three = ranking_picture([row([match("7")])] * 3, "Gallery")
    assert three.shape[1] == one.shape[1]
    assert three.shape[0] > 2.5 * (one.shape[0] - picture.HEADER - picture.FOOTER)


@pytest.mark.parametrize("opencv_4", [False, True])
def test_long_names_are_shortened_to_their_room(monkeypatch: pytest.MonkeyPatch, opencv_4: bool) -> None:
    if opencv_4:
        monkeypatch.delattr(cv2, "FontFace", raising=False)
    canvas = Canvas(200, 40, (255, 255, 255))
    name = "a-very-long-folder/with-a-very-long-item-name-0042.jpg"
    short = canvas.fitting(name, 11, 120)
    assert canvas.text_width(short, 11) <= 120
    assert short.startswith("a-ve")
    assert short.endswith(".jpg")
    assert canvas.fitting("short.jpg", 11, 120) == "short.jpg"


@pytest.mark.parametrize("opencv_4", [False, True])
def test_text_leaves_ink_where_it_is_put_and_nowhere_else(monkeypatch: pytest.MonkeyPatch, opencv_4: bool) -> None:
    if opencv_4:
        monkeypatch.delattr(cv2, "FontFace", raising=False)
    canvas = Canvas(200, 60, (255, 255, 255))
    canvas.text(190, 40, "0.231", 14, (0, 0, 0), right=True)
    columns = np.flatnonzero((canvas.picture() < 128).any(axis=(0, 2)))
    assert columns.max() <= 190
    assert 190 - columns.min() == pytest.approx(canvas.text_width("0.231", 14), abs=4)


def test_an_images_aspect_is_kept() -> None:
    canvas = Canvas(100, 100, (255, 255, 255))
    canvas.image(0, 0, 100, 100, np.zeros((10, 40, 3), np.uint8))
    dark = (canvas.picture() < 128).all(axis=2)
    assert dark.any(axis=1).sum() == pytest.approx(25, abs=1)
    assert dark.any(axis=0).all()


def test_a_tracklet_is_drawn_side_by_side() -> None:
    images = [np.full((20, 10, 3), shade, np.uint8) for shade in (10, 200)]
    joined = stacked(images, 64)
    assert joined.shape == (64, 64, 3)
    assert (joined[:, :32] == 10).all()
    assert (joined[:, 32:] == 200).all()
