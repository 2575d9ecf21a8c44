"""Encoded images to pixels: JPEG, PNG, WebP and BMP bytes to RGB, with the header checked before anything is decoded.

One behaviour for training, indexing and search, whatever the format:

- the EXIF orientation is applied (all eight); a corrupt one means upright;
- grey, palette and 16-bit images become 8-bit RGB (16 bits lose the lower 8);
- alpha is dropped, not composited: the colours below are what other loaders, and so training sets, show;
- colour profiles and gamma are ignored;
- a file that ends early is refused, bytes after the end are ignored. Damage inside the compressed pixels of a JPEG
  or a lossy WebP cannot be told (they have no checksums) and decodes to what the decoder makes of it.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import cv2
import numpy as np

from glimpse.image_headers import REASONS, ImageError, ImageHeader, probe
from glimpse.preprocessing import Image

__all__ = ["REASONS", "Image", "ImageError", "ImageHeader", "ImageLimits", "crop", "decode_image", "probe"]


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """What `decode_image` accepts; everything is checked on the header, before decoding."""

    max_bytes: int = 16 << 20
    max_pixels: int = 16_000_000
    max_aspect: int = 20
    """The longer side over the shorter."""
    min_side: int = 8
    """Pixels; below it a crop shows no person."""

    def __post_init__(self) -> None:
        for field in fields(self):
            if getattr(self, field.name) < 1:
                raise ValueError(f"{field.name} must be at least 1, got {getattr(self, field.name)}")

    def check_size(self, width: int, height: int) -> None:
        """ImageError ``too_many_pixels``, ``too_small`` or ``bad_aspect`` when a size is not accepted."""
        if width * height > self.max_pixels:
            raise ImageError(
                "too_many_pixels",
                f"the image is {width}x{height} ({width * height / 1e6:.1f} megapixels); "
                f"at most {self.max_pixels / 1e6:g} megapixels are accepted",
            )
        if min(width, height) < self.min_side:
            raise ImageError(
                "too_small", f"the image is {width}x{height} pixels; each side needs at least {self.min_side}"
            )
        if max(width, height) > self.max_aspect * min(width, height):
            raise ImageError(
                "bad_aspect",
                f"the image is {width}x{height}; the longer side may be at most {self.max_aspect} times the shorter",
            )


DEFAULT_LIMITS = ImageLimits()


def decode_image(data: bytes, limits: ImageLimits = DEFAULT_LIMITS) -> Image:
    """Decodes one image to uint8 RGB ``(H, W, 3)``, upright and C-contiguous.

    Raises:
        ImageError: any reason of `REASONS` but ``bad_box``. Size limits are told from the header: an image beyond
            them costs no memory.
    """
    if len(data) > limits.max_bytes:
        raise ImageError(
            "too_large", f"the image has {len(data):,} bytes; at most {limits.max_bytes:,} bytes are accepted"
        )
    header = probe(data)
    limits.check_size(header.width, header.height)
    if header.defect:
        raise ImageError("undecodable", f"this {header.format.upper()} is not whole: {header.defect}")
    # OpenCV's own orientation handling differs by version and format, so it is switched off and ours applied.
    flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise _undecodable(header) from error
    if image is None or image.shape != (header.height, header.width, 3):
        raise _undecodable(header)
    return _upright(image, header.orientation)


def crop(image: Image, x: int, y: int, width: int, height: int) -> Image:
    """The box of ``width`` x ``height`` pixels at column ``x``, row ``y`` of an upright image, as a copy.

    Raises:
        ImageError: ``bad_box``: the box leaves the image, or its size would be refused as an image of its own.
    """
    rows, columns = image.shape[:2]
    if x < 0 or y < 0 or width < 1 or height < 1 or x + width > columns or y + height > rows:
        raise ImageError(
            "bad_box", f"the box {width}x{height} at ({x}, {y}) does not lie within the image of {columns}x{rows}"
        )
    try:
        DEFAULT_LIMITS.check_size(width, height)
    except ImageError as error:
        raise ImageError("bad_box", f"the box cannot be used: {error}") from error
    return image[y : y + height, x : x + width].copy()  # a view would keep the whole frame in memory


def _undecodable(header: ImageHeader) -> ImageError:
    return ImageError(
        "undecodable", f"this {header.format.upper()} of {header.width}x{header.height} has pixels that cannot be read"
    )


def _upright(image: Image, orientation: int) -> Image:
    if orientation == 1:
        return image
    if orientation >= 5:  # 5 to 8 have rows and columns swapped
        image = cv2.transpose(image)
    flip = {2: 1, 3: -1, 4: 0, 6: 1, 7: -1, 8: 0}.get(orientation)
    return image if flip is None else cv2.flip(image, flip)
