"""Cameras: white balance, exposure, sharpness, noise and compression, and the place each one watches."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from glimpse.people.tailor import Light

UInt8 = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Camera:
    """What one camera does to colours and detail; constant over all its shots.

    ``gains`` per channel within 0.87 to 1.13; ``gamma`` 0.8 to 1.28; ``resolution`` the share of the pixels along each
    side that its sensor resolves; ``blur`` a Gaussian's sigma in pixels at 256 rows; ``noise`` a standard deviation
    in grey levels; ``quality`` of JPEG, 100 for none; ``pitch`` radians downwards.
    """

    gains: tuple[float, float, float]
    gamma: float
    contrast: float
    saturation: float
    resolution: float
    blur: float
    noise: float
    quality: int
    pitch: float
    light: Light
    curves: UInt8
    mixing: NDArray[np.float32]

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Camera:
        """A camera as found in the street: some sharp, some worn."""
        gains = rng.uniform(0.89, 1.11, 3)
        gains /= gains.mean()
        gamma, contrast = float(np.exp(rng.uniform(math.log(0.8), math.log(1.28)))), float(rng.uniform(0.82, 1.15))
        saturation = float(rng.uniform(0.78, 1.12))
        levels = np.arange(256)[:, None] / 255.0 * np.clip(gains, 0.87, 1.13)
        curve = 0.5 + contrast * (np.clip(levels, 0, 1) ** gamma - 0.5)
        curves = np.clip(curve * 255 + 0.5, 0, 255).astype(np.uint8)
        luma = np.array([0.299, 0.587, 0.114])
        mixing = saturation * np.eye(3) + (1 - saturation) * np.ones((3, 1)) * luma
        return cls(
            gains=(float(gains[0]), float(gains[1]), float(gains[2])),
            gamma=gamma,
            contrast=contrast,
            saturation=saturation,
            resolution=float(rng.uniform(0.55, 1.0)),
            blur=float(rng.uniform(0.0, 0.9)),
            noise=float(rng.uniform(0.0, 5.0)),
            quality=int(rng.integers(45, 96)),
            pitch=float(rng.uniform(0.0, 0.32)),
            light=Light(float(rng.uniform(-1.2, 1.2)), float(rng.uniform(0.55, 0.75)), float(rng.uniform(0.28, 0.5))),
            curves=np.ascontiguousarray(curves[None]),
            mixing=mixing.astype(np.float32),
        )

    def expose(self, image: UInt8) -> UInt8:
        """Colours as this camera renders them; uint8 RGB ``(h, w, 3)``, same shape out."""
        toned = cv2.transform(image, self.mixing)
        return np.asarray(cv2.LUT(toned, self.curves), np.uint8)

    def soften(self, image: UInt8) -> UInt8:
        """Lose the detail that this camera does not resolve; any number of channels."""
        height, width = image.shape[:2]
        if self.resolution < 0.97:
            small = (max(8, round(width * self.resolution)), max(8, round(height * self.resolution)))
            image = cv2.resize(
                cv2.resize(image, small, interpolation=cv2.INTER_AREA), (width, height), interpolation=cv2.INTER_LINEAR
            )
        sigma = self.blur * height / 256
        if sigma > 0.3:
            image = cv2.GaussianBlur(image, (0, 0), sigma)
        return np.asarray(image, np.uint8)

    def grain(self, image: UInt8, bank: NDArray[np.int16], rng: np.random.Generator) -> UInt8:
        """Add sensor noise cut at random from ``bank``, int16 ``(h2, w2, 3)`` of unit noise times 16."""
        if self.noise < 0.5:
            return image
        height, width = image.shape[:2]
        top = int(rng.integers(bank.shape[0] - height + 1))
        left = int(rng.integers(bank.shape[1] - width + 1))
        patch = bank[top : top + height, left : left + width]
        noisy = cv2.addWeighted(image, 1.0, patch, self.noise / 16.0, 0.0, dtype=cv2.CV_8U)
        return np.asarray(noisy, np.uint8)

    def compress(self, image: UInt8) -> UInt8:
        """What JPEG leaves of an RGB image."""
        if self.quality >= 93:
            return image
        blue_first = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
        _, data = cv2.imencode(".jpg", blue_first, [cv2.IMWRITE_JPEG_QUALITY, self.quality])
        return np.asarray(cv2.cvtColor(cv2.imdecode(data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB), np.uint8)
