"""`Annotated`: a marked pixel stays marked, whatever is done to the image."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trainer.occlusion.marked import COLOUR, LABEL, check_block, check_single, check_strides, marked, scene
from trainer.data.annotated import UNKNOWN, Annotated

SIZE = (128, 64)
FEW = settings(max_examples=60, deadline=None)

steps = st.lists(
    st.one_of(
        st.just(("flip",)),
        st.tuples(st.just("shift"), st.integers(-20, 20), st.integers(-40, 40)),
        st.tuples(st.just("cover"), st.integers(0, 127), st.integers(0, 63), st.integers(1, 60), st.integers(1, 40)),
    ),
    max_size=6,
)


def apply(sample: Annotated, step: tuple) -> Annotated:
    if step[0] == "flip":
        return sample.flip()
    if step[0] == "shift":
        return sample.warp(np.array([[1.0, 0, step[1]], [0, 1.0, step[2]]]), border="black")
    _, top, left, tall, wide = step
    mask = np.zeros(sample.size, np.bool_)
    mask[top : top + tall, left : left + wide] = True
    return sample.cover(mask, scene(*sample.size, seed=5))


@FEW
@given(st.integers(0, SIZE[0] - 1), st.integers(0, SIZE[1] - 1), steps)
def test_a_marked_pixel_stays_marked(y: int, x: int, chain: list[tuple]) -> None:
    sample = marked(*SIZE, y, x)
    for step in chain:
        sample = apply(sample, step)
        check_single(sample)
    check_strides(sample)


@FEW
@given(st.integers(0, 80), st.integers(0, 30), st.randoms(use_true_random=False))
def test_a_marked_block_stays_marked_through_turns_and_zooms(top: int, left: int, random) -> None:
    sample = marked(*SIZE, top, left, 41, 31)
    angle, zoom = random.uniform(-0.6, 0.6), random.uniform(0.7, 1.6)
    cosine, sine = zoom * np.cos(angle), zoom * np.sin(angle)
    moved = sample.warp(np.array([[cosine, -sine, random.uniform(-20, 20)], [sine, cosine, random.uniform(-20, 20)]]))
    check_block(moved, slack=1)
    check_strides(moved)
    assert moved.growth == pytest.approx(zoom**2)
    resized = moved.resize(random.randint(90, 200), random.randint(48, 100))
    check_block(resized, slack=3)


@FEW
@given(st.integers(0, 15), st.integers(0, 15), st.integers(1, 30), st.integers(1, 30))
def test_resizing_there_and_back_keeps_every_label(top: int, left: int, tall: int, wide: int) -> None:
    sample = marked(48, 48, top, left, tall, wide)
    back = sample.resize(144, 240).resize(48, 48)
    np.testing.assert_array_equal(back.maps["regions"], sample.maps["regions"])
    np.testing.assert_allclose(back.points, sample.points, atol=1e-4)


@pytest.mark.parametrize("stride", [4, 8, 16])
def test_a_cell_has_the_label_of_most_of_its_pixels_not_of_its_corner(stride: int) -> None:
    # The block covers three quarters of the second cell and one quarter of the third, in both directions.
    start = stride + stride // 4
    small = marked(64, 64, start, start, stride, stride).resize(64 // stride, 64 // stride)
    assert np.argwhere(small.maps["regions"] == LABEL).tolist() == [[1, 1]]


def test_flipping_twice_changes_nothing_and_keeps_left_and_right_points_in_place() -> None:
    sample = marked(6, 5, 1, 0)
    flipped = sample.flip()
    assert flipped.points.tolist() == [[4, 1, 1]]
    np.testing.assert_array_equal(flipped.image[1, 4], COLOUR)
    again = flipped.flip()
    np.testing.assert_array_equal(again.image, sample.image)
    np.testing.assert_array_equal(again.points, sample.points)


def test_what_comes_from_beyond_the_frame_is_nobody() -> None:
    sample = Annotated(np.full((4, 4, 3), 9, np.uint8), {"regions": np.full((4, 4), 2, np.uint8)})
    moved = sample.warp(np.array([[1.0, 0, 0], [0, 1.0, 2]]))
    assert moved.maps["regions"][:2].max() == 0
    assert (moved.maps["regions"][2:] == 2).all()
    assert (moved.image == 9).all()
    assert (sample.warp(np.array([[1.0, 0, 0], [0, 1.0, 2]]), border="black").image[:2] == 0).all()


def test_an_occluder_that_is_repeated_beyond_the_frame_covers_there_too() -> None:
    sample = marked(8, 4, 0, 0)
    bottom = np.zeros((8, 4), np.bool_)
    bottom[6:] = True
    up = np.array([[1.0, 0, 0], [0, 1.0, -3]])
    hidden = sample.cover(bottom, scene(8, 4, seed=1))
    assert hidden.warp(up).mask[3:].all()
    assert hidden.warp(up, border="black").mask[:, 0].tolist() == [False] * 3 + [True] * 2 + [False] * 3


def test_covering_hides_label_and_point_and_leaves_the_original() -> None:
    sample = marked(6, 5, 2, 3)
    everything = np.ones((6, 5), np.bool_)
    hidden = sample.cover(everything, scene(6, 5, seed=1))
    assert hidden.points[0, 2] == 0
    assert hidden.mask.all()
    assert not hidden.maps["regions"].any()
    assert sample.points[0, 2] == 1
    assert sample.covered is None
    assert not sample.mask.any()


def test_a_covered_pixel_is_known_to_show_nobody_even_where_nothing_was_known() -> None:
    sample = Annotated(np.zeros((2, 2, 3), np.uint8), {"regions": np.full((2, 2), UNKNOWN, np.uint8)})
    mask = np.array([[True, False], [False, False]])
    hidden = sample.cover(mask, np.ones((2, 2, 3), np.uint8))
    assert hidden.maps["regions"].tolist() == [[0, UNKNOWN], [UNKNOWN, UNKNOWN]]


def test_points_that_leave_the_frame_cannot_be_seen() -> None:
    sample = marked(10, 10, 5, 5)
    assert sample.warp(np.array([[1.0, 0, 4.4], [0, 1.0, 0]])).points[0, 2] == 1
    assert sample.warp(np.array([[1.0, 0, 4.6], [0, 1.0, 0]])).points[0, 2] == 0


IMAGE = np.zeros((4, 3, 3), np.uint8)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"image": np.zeros((4, 3), np.uint8)}, "image must be uint8"),
        ({"image": IMAGE.astype(float)}, "got float64"),
        ({"image": IMAGE, "maps": {"parts": np.zeros((3, 4), np.uint8)}}, "'parts' must be uint8 \\(4, 3\\)"),
        ({"image": IMAGE, "maps": {"parts": np.zeros((4, 3), np.int64)}}, "got int64"),
        ({"image": IMAGE, "points": np.zeros((17, 2), np.float32)}, "points must be \\(J, 3\\)"),
        ({"image": IMAGE, "covered": np.zeros((4, 2), np.bool_)}, "covered must be bool \\(4, 3\\)"),
        ({"image": IMAGE, "covered": np.zeros((4, 3), np.uint8)}, "got uint8"),
    ],
)
def test_annotations_that_do_not_fit_are_refused(arguments: dict, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Annotated(**arguments)


def test_an_occluder_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="do not fit an image"):
        Annotated(IMAGE).cover(np.ones((3, 3), np.bool_), IMAGE)
