"""Preprocessing: one recipe, the same pixels everywhere."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from glimpse.preprocessing import Preprocessing
from tests.abuse.encoders import photo


def test_image_of_the_right_size_is_not_touched():
    image = photo(64, 32)
    np.testing.assert_array_equal(Preprocessing(height=64, width=32)(image), image)


def test_result_has_the_size_of_the_recipe_whatever_the_aspect_was():
    for shape in ((10, 200), (300, 20), (64, 64)):
        result = Preprocessing(height=64, width=32)(photo(*shape))
        assert result.shape == (64, 32, 3)
        assert result.dtype == np.uint8
        assert result.flags.c_contiguous


def test_area_averages_when_it_shrinks():
    image = photo(64, 32)
    averaged = image.reshape(16, 4, 16, 2, 3).mean(axis=(1, 3))
    result = Preprocessing(height=16, width=16, interpolation="area")(image)
    assert np.abs(result - averaged).max() <= 0.5


def test_linear_enlarging_interpolates_between_neighbours():
    image = np.zeros((16, 16, 3), np.uint8)
    image[:, 8:] = 200
    result = Preprocessing(height=16, width=32)(image)
    # Half-pixel centres: the two columns beside the edge are a quarter of the way across it.
    assert result[0, 14:18, 0].tolist() == [0, 50, 150, 200]


def test_view_and_copy_of_the_same_pixels_give_the_same_result():
    frame = photo(200, 100)
    recipe = Preprocessing(height=64, width=32)
    np.testing.assert_array_equal(recipe(frame[20:180, 10:70]), recipe(frame[20:180, 10:70].copy()))
    same_size = frame[::2, ::2][:64, :32]
    assert recipe(same_size).flags.c_contiguous


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((64, 32, 3), np.float32), r"expected a uint8 image of shape \(h, w, 3\), got float32 \(64, 32, 3\)"),
        (np.zeros((64, 32), np.uint8), r"got uint8 \(64, 32\)"),
        (np.zeros((64, 32, 4), np.uint8), r"got uint8 \(64, 32, 4\)"),
        (np.zeros((0, 32, 3), np.uint8), r"got uint8 \(0, 32, 3\)"),
    ],
)
def test_what_is_not_an_rgb_image_is_refused(image, message):
    with pytest.raises(ValueError, match=message):
        Preprocessing(height=64, width=32)(image)


@pytest.mark.parametrize(
    "fields",
    [{"height": 8}, {"height": 2_000}, {"width": 0}, {"interpolation": "nearest"}, {"mean": [0.5]}],
)
def test_recipe_out_of_range_or_with_an_unknown_key_is_refused(fields):
    with pytest.raises(ValidationError):
        Preprocessing.model_validate({"height": 64, "width": 32, **fields})
