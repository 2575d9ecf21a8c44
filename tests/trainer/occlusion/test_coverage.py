"""Covered stripes, and FED's labels with the numbers of the specification."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.occlusion.coverage import fed_labels, stripe_coverage
from trainer.occlusion.labels import CoverLabels

SIZE = (256, 128)


def bottom(rows: int) -> np.ndarray:
    covered = np.zeros(SIZE, np.bool_)
    covered[SIZE[0] - rows :] = True
    return covered


def side(columns: int) -> np.ndarray:
    covered = np.zeros(SIZE, np.bool_)
    covered[:, :columns] = True
    return covered


def test_coverage_is_the_covered_share_of_each_stripe() -> None:
    assert stripe_coverage(bottom(96)).tolist() == [0, 0, 0.5, 1]
    assert stripe_coverage(side(32)).tolist() == [0.25] * 4
    assert stripe_coverage(bottom(128), 1).tolist() == [0.5]
    assert stripe_coverage(bottom(96), 6) == pytest.approx([0, 0, 0, 11 / 43, 1, 1])  # rows 128 to 170, from 160 on
    assert stripe_coverage(np.stack([bottom(64), bottom(0)])).tolist() == [[0, 0, 0, 1], [0, 0, 0, 0]]


def test_stripes_that_do_not_divide_the_height_overlap_as_pooling_does() -> None:
    covered = np.zeros((5, 2), np.bool_)
    covered[2] = True  # of rows 0-1, 1-2, 2-3 and 3-4
    assert stripe_coverage(covered).tolist() == [0, 0.5, 0.5, 0]


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 70), st.integers(1, 9), st.integers(1, 8), st.integers(0, 99))
def test_coverage_of_any_size_is_that_of_its_rows(height: int, width: int, stripes: int, seed: int) -> None:
    covered = np.random.default_rng(seed).random((height, width)) < 0.4
    shares = stripe_coverage(covered, stripes)
    for i, share in enumerate(shares):
        start, end = int(np.floor(i * height / stripes)), int(np.ceil((i + 1) * height / stripes))
        assert share == pytest.approx(covered[start:end].mean(), abs=1e-6)


@pytest.mark.parametrize(
    ("rows", "labels"),
    [
        *((0, "1111"), (1, "1110"), (64, "1110"), (70, "1110"), (85, "1110"), (86, "1100"), (90, "1100")),
        *((100, "1100"), (128, "1100"), (130, "1000"), (192, "1000"), (193, "1111"), (256, "1111")),
    ],
)
def test_the_legacy_rule_gives_the_labels_of_the_public_code_for_occluders_at_the_bottom(
    rows: int, labels: str
) -> None:
    assert fed_labels(bottom(rows)).tolist() == [float(label) for label in labels]


@pytest.mark.parametrize("columns", [32, 48, 64, 128])
def test_the_legacy_rule_does_not_see_an_occluder_as_high_as_the_image(columns: int) -> None:
    assert fed_labels(side(columns)).tolist() == [1, 1, 1, 1]


def test_the_legacy_rule_takes_differences_of_pixels_too() -> None:
    assert fed_labels(np.array([0.0, 0, 10, 31])).tolist() == [1, 1, 1, 0]
    assert fed_labels(np.array([0.0, 0, 10, 30])).tolist() == [1, 1, 0, 0]  # more than three times, not three times
    assert fed_labels(np.array([0.0, 5, 10, 12])).tolist() == [1, 0, 0, 0]
    assert fed_labels(np.array([[0.0, 0, 0, 7], [4.0, 3, 2, 1]])).tolist() == [[1, 1, 1, 0], [1, 1, 1, 1]]


def test_the_fraction_rule_sees_an_occluder_as_high_as_the_image() -> None:
    assert fed_labels(side(64), "fraction").tolist() == [0.5] * 4
    assert fed_labels(side(32), "fraction", 0.5).tolist() == [1] * 4
    assert fed_labels(side(64), "fraction", 0.5).tolist() == [0] * 4
    assert fed_labels(side(128), "fraction").tolist() == [0] * 4


def test_the_fraction_rule_says_how_much_is_seen_of_occluders_at_the_bottom() -> None:
    assert fed_labels(bottom(64), "fraction").tolist() == [1, 1, 1, 0]
    assert fed_labels(bottom(70), "fraction").tolist() == pytest.approx([1, 1, 1 - 6 / 64, 0])
    assert fed_labels(bottom(90), "fraction", 0.5).tolist() == [1, 1, 1, 0]
    assert fed_labels(bottom(96), "fraction", 0.5).tolist() == [1, 1, 0, 0]
    assert fed_labels(bottom(128), "fraction", stripes=2).tolist() == [1, 0]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((bottom(3), "exact"), r"unknown rule 'exact'; choose from \['fraction', 'legacy'\]"),
        ((bottom(3), "legacy", 0.5), "rule 'legacy' has no threshold, got 0.5"),
        ((bottom(3), "fraction", 0.0), "threshold must be above 0 and at most 1, got 0.0"),
        ((np.array([0.0, 2.0]), "fraction"), r"shares within \[0, 1\], got 2.0"),
        ((np.array([0.0, -1.0]),), "at least 0"),
        ((np.array([0.0, np.nan]),), "at least 0"),
    ],
)
def test_labels_that_make_no_sense_are_refused(arguments: tuple, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        fed_labels(*arguments)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((np.zeros((4, 2), np.uint8),), "must be bool"),
        ((np.zeros((0, 2), np.bool_),), "with pixels"),
        ((np.zeros((4, 2), np.bool_), 0), "at least 1, got 0"),
    ],
)
def test_coverage_of_what_is_no_mask_is_refused(arguments: tuple, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        stripe_coverage(*arguments)


@pytest.mark.parametrize(
    ("rows", "columns", "place", "box"),
    [
        (slice(0, 0), slice(0, 0), "none", (0, 0, 0, 0)),
        (slice(5, 8), slice(0, 4), "bottom", (0, 5, 4, 3)),
        (slice(0, 3), slice(0, 4), "top", (0, 0, 4, 3)),
        (slice(0, 8), slice(0, 1), "left", (0, 0, 1, 8)),
        (slice(0, 8), slice(2, 4), "right", (2, 0, 2, 8)),
        (slice(2, 5), slice(0, 4), "box", (0, 2, 4, 3)),
        (slice(1, 5), slice(1, 3), "box", (1, 1, 2, 4)),
        (slice(0, 8), slice(0, 4), "all", (0, 0, 4, 8)),
    ],
)
def test_labels_name_the_side_and_the_box(rows: slice, columns: slice, place: str, box: tuple[int, ...]) -> None:
    covered = np.zeros((8, 4), np.bool_)
    covered[rows, columns] = True
    labels = CoverLabels.of(covered)
    assert (labels.place, labels.box) == (place, box)
    assert labels.covered == pytest.approx(covered.mean(), abs=1e-4)
    assert labels.stripes[4] == tuple(stripe_coverage(covered, 4).tolist())
    assert {len(labels.stripes[4]), len(labels.stripes[6])} == {4, 6}


def test_a_side_with_a_hole_is_a_box() -> None:
    covered = np.zeros((8, 4), np.bool_)
    covered[5:] = True
    covered[6, 2] = False
    assert CoverLabels.of(covered).place == "box"
