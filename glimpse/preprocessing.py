"""From a decoded image to the pixels a model sees: one definition for training, export and serving.

The recipe travels in the bundle's manifest. Normalisation is not here: it is inside the graph.
"""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

Image = NDArray[np.uint8]

_INTERPOLATION = {"linear": cv2.INTER_LINEAR, "area": cv2.INTER_AREA, "cubic": cv2.INTER_CUBIC}


class Preprocessing(BaseModel):
    """How a bundle wants its images: RGB uint8, resized to ``height`` x ``width`` without keeping the aspect.

    ``area`` averages when shrinking and is linear when enlarging (OpenCV's rule).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    height: int = Field(ge=16, le=1024)
    width: int = Field(ge=16, le=1024)
    interpolation: Literal["linear", "area", "cubic"] = "linear"

    def __call__(self, image: Image) -> Image:
        """uint8 RGB ``(h, w, 3)`` to uint8 RGB ``(height, width, 3)``, C-contiguous.

        Raises:
            ValueError: not a non-empty uint8 RGB image.
        """
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
            raise ValueError(f"expected a uint8 image of shape (h, w, 3), got {image.dtype} {image.shape}")
        if image.shape[:2] == (self.height, self.width):
            return np.ascontiguousarray(image)
        resized = cv2.resize(image, (self.width, self.height), interpolation=_INTERPOLATION[self.interpolation])
        return np.asarray(resized, np.uint8)
