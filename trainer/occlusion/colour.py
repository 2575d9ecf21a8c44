"""Colours of an occluder, changed so that a network cannot learn the occluders of its training by heart."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

UInt8 = NDArray[np.uint8]


def jitter(image: UInt8, most: float, random: np.random.Generator) -> UInt8:
    """Brightness, contrast and saturation in random order, each by a factor U(1 - most, 1 + most)."""
    factors = random.uniform(1 - most, 1 + most, 3)
    pixels = image.astype(np.float32)
    for which in random.permutation(3):
        factor = np.float32(factors[which])
        anchor = np.zeros((1, 1, 1), np.float32)
        if which > 0:
            anchor = np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), np.float32)[..., None]  # [H, W, 1]
        if which == 1:
            anchor = anchor.mean(axis=(0, 1), keepdims=True)
        pixels = np.clip(anchor + (pixels - anchor) * factor, 0, 255)
    return np.rint(pixels).astype(np.uint8)
