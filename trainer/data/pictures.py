"""Image files of data sets: what `glimpse.images` decodes, and TIFF, which Occluded-REID comes in.

A server takes no TIFF; a data set somebody downloaded may. The size is read from the header here too, before anything
is decoded.
"""

from __future__ import annotations

import struct

import cv2
import numpy as np

from glimpse.image_headers import ImageError, probe
from glimpse.images import DEFAULT_LIMITS, Image, decode_image

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})
_TIFF = {b"II*\0": "<", b"MM\0*": ">"}
_FORMATS = {3: "H", 4: "I"}  # SHORT, LONG
_WIDTH, _HEIGHT, _STRIP_OFFSETS, _STRIP_BYTES = 256, 257, 273, 279


def decode_picture(data: bytes) -> Image:
    """Decodes one image to uint8 RGB ``(H, W, 3)``; ImageError says what is wrong with it."""
    if data[:4] not in _TIFF:
        return decode_image(data)
    check_picture(data)
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:
        image = None
    if image is None:
        raise ImageError("undecodable", "this TIFF has pixels that cannot be read")
    return np.asarray(image, np.uint8)


def check_picture(data: bytes) -> tuple[int, int]:
    """Width and height as the header says; no pixel is decoded.

    Raises:
        ImageError: no image, an unsupported kind, a size beyond the limits, or a body that cannot be whole.
    """
    if data[:4] in _TIFF:
        width, height = _tiff_size(data)
        DEFAULT_LIMITS.check_size(width, height)
        return width, height
    header = probe(data)
    DEFAULT_LIMITS.check_size(header.width, header.height)
    if header.defect:
        raise ImageError("undecodable", f"this {header.format.upper()} is not whole: {header.defect}")
    return header.width, header.height


def _tiff_size(data: bytes) -> tuple[int, int]:
    order = _TIFF[data[:4]]
    try:
        (start,) = struct.unpack_from(f"{order}I", data, 4)
        (count,) = struct.unpack_from(f"{order}H", data, start)
        tags = {}
        for entry in range(count):
            tag, kind, values = struct.unpack_from(f"{order}HHI", data, start + 2 + 12 * entry)
            if tag in (_WIDTH, _HEIGHT, _STRIP_OFFSETS, _STRIP_BYTES) and kind in _FORMATS:
                tags[tag] = _values(data, order, _FORMATS[kind], values, start + 10 + 12 * entry)
        width, height = tags[_WIDTH][0], tags[_HEIGHT][0]
        strips = zip(tags.get(_STRIP_OFFSETS, ()), tags.get(_STRIP_BYTES, ()), strict=False)
        end = max((offset + length for offset, length in strips), default=0)
    except (struct.error, KeyError, IndexError) as error:
        raise ImageError("undecodable", "the header of this TIFF is broken or cut off") from error
    if end > len(data):
        raise ImageError("undecodable", "this TIFF is not whole: it ends before its pixels do (truncated)")
    return width, height


def _values(data: bytes, order: str, kind: str, count: int, place: int) -> tuple[int, ...]:
    """The values of a directory entry: in place where they fit four bytes, else where its pointer says."""
    size = count * struct.calcsize(kind)
    if size > 4:
        (place,) = struct.unpack_from(f"{order}I", data, place)
    if place + size > len(data):
        raise struct.error
    return struct.unpack_from(f"{order}{count}{kind}", data, place)
