"""The tint of attention: its colour, its strength and where it lies."""

from __future__ import annotations

import numpy as np
import pytest

from glimpse.pictures.attention import STRENGTH, tinted
from glimpse.pictures.ranking import HUES

GREY = np.full((8, 4, 3), 100, np.uint8)


def maps(*parts: float) -> np.ndarray:
    """Background and parts, each the same everywhere."""
    return np.array(parts, np.float32)[:, None, None] * np.ones((1, 2, 1), np.float32)


def test_a_certain_part_has_its_hue_and_background_stays() -> None:
    np.testing.assert_array_equal(tinted(GREY, maps(1, 0, 0)), GREY)
    for part in (0, 1):
        shares = [0.0, 0.0, 0.0]
        shares[1 + part] = 1.0
        expected = np.rint(100 * (1 - STRENGTH) + STRENGTH * np.array(HUES[1 + part]))
        np.testing.assert_array_equal(tinted(GREY, maps(*shares)), np.broadcast_to(expected, GREY.shape))


def test_shares_mix_by_hand() -> None:
    mixed = 0.5 * np.array(HUES[1]) + 0.25 * np.array(HUES[2])
    expected = np.rint(100 * (1 - 0.75 * STRENGTH) + STRENGTH * mixed)
    np.testing.assert_array_equal(tinted(GREY, maps(0.25, 0.5, 0.25))[3, 2], expected)


def test_the_upper_cell_tints_the_upper_half() -> None:
    attention = np.zeros((2, 2, 1), np.float32)
    attention[1, 0] = attention[0, 1] = 1
    shown = tinted(GREY, attention)
    assert (shown[0] != GREY[0]).all()
    np.testing.assert_array_equal(shown[-1], GREY[-1])


def test_more_parts_than_hues_and_than_opencv_channels_can_be_drawn() -> None:
    assert tinted(GREY, maps(*[0.05] * 13)).shape == GREY.shape


@pytest.mark.parametrize(
    ("attention", "message"),
    [
        (np.ones((1, 2, 2), np.float32), r"must have shape \(1 \+ K, h, w\), background first, got \(1, 2, 2\)"),
        (np.ones((2, 2), np.float32), r"must have shape \(1 \+ K, h, w\)"),
        (np.full((2, 2, 2), 1.5, np.float32), r"within \[0, 1\], got 1.5 to 1.5"),
        (np.full((2, 2, 2), np.nan, np.float32), r"within \[0, 1\], got nan"),
    ],
)
def test_what_is_no_attention_is_refused(attention: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tinted(GREY, attention)
