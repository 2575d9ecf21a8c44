"""What image files hold, whatever they are called: exact copies and black images."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

BLACK = 5.0
"""Mean grey value, of 255, below which an image shows nothing. Con-ReID has none between 3.9 and 5.8."""


def digest(data: bytes) -> bytes:
    """SHA-256 of a file's bytes."""
    return hashlib.sha256(data).digest()


def copies(digests: Sequence[bytes]) -> list[list[int]]:
    """Groups of two and more places that hold the same file, each in ascending order."""
    places: dict[bytes, list[int]] = defaultdict(list)
    for place, value in enumerate(digests):
        places[value].append(place)
    return [group for group in places.values() if len(group) > 1]


def is_black(data: bytes) -> bool:
    """Whether an encoded image is black all over; false of what cannot be decoded, which is another complaint."""
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE) if data else None
    except cv2.error:
        return False
    return image is not None and float(image.mean()) < BLACK


def read(paths: Sequence[Path]) -> tuple[list[bytes], list[bool]]:
    """Digest, and whether it is black, of every file."""
    digests, black = [], []
    for path in paths:
        data = path.read_bytes()
        digests.append(digest(data))
        black.append(is_black(data))
    return digests, black
