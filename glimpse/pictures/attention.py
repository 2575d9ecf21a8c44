"""Where a model looked: its attention maps as a tint over the image."""

from __future__ import annotations

import cv2
import numpy as np

from glimpse.parts import Float32
from glimpse.pictures.ranking import HUES
from glimpse.preprocessing import Image

STRENGTH = 0.65
"""Of the tint where the model is certain of a part."""


def tinted(image: Image, attention: Float32) -> Image:
    """The image, each pixel tinted in the colour of the parts that the model saw there; background stays as it is.

    Args:
        image: uint8 RGB ``(H, W, 3)``.
        attention: float ``(1 + K, h, w)`` in [0, 1]: background, then each part after the whole person, in the
            schema's order; it is stretched over the image.

    Raises:
        ValueError: another shape, or a value outside [0, 1].
    """
    if attention.ndim != 3 or len(attention) < 2:
        raise ValueError(f"attention must have shape (1 + K, h, w), background first, got {attention.shape}")
    if not ((attention >= -1e-4) & (attention <= 1 + 1e-4)).all():  # also refuses NaN
        raise ValueError(f"attention must be within [0, 1], got {attention.min():.3g} to {attention.max():.3g}")
    height, width = image.shape[:2]
    # One map at a time: OpenCV 4 resizes at most four channels together.
    maps = [
        cv2.resize(part.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR) for part in attention[1:]
    ]
    share = np.stack(maps)  # [K, H, W]
    # Parts have the hues of the strip and the bars; the first hue is the whole person's.
    hues = np.array([HUES[(1 + part) % len(HUES)] for part in range(len(share))], np.float32)
    colour = np.tensordot(share, hues, axes=(0, 0))  # [H, W, 3]
    covered = STRENGTH * share.sum(axis=0)[..., None]
    return np.asarray(np.clip(np.rint(image * (1 - covered) + STRENGTH * colour), 0, 255), np.uint8)
