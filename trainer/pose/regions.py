"""Label maps of human parsers, merged into few regions.

Three vocabularies of labels: LIP's 20 classes (SCHP and most parsers), BodyPix's 24 body parts, and the regions that
methods use: Glimpse's own (`glimpse.people.PARTS`) and those of T-MSPR (2025).
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from trainer.data.annotated import UNKNOWN
from trainer.pose.errors import AnnotationError

UInt8 = NDArray[np.uint8]
_PALETTE = 3
"""PNG's colour type of a palette, byte 25 of the file."""

LIP20: tuple[str, ...] = (
    "background", "hat", "hair", "glove", "sunglasses", "upper clothes", "dress", "coat", "socks", "pants", "jumpsuit",
    "scarf", "skirt", "face", "left arm", "right arm", "left leg", "right leg", "left shoe", "right shoe",
)  # fmt: skip
BODYPIX24: tuple[str, ...] = (
    "left face", "right face", "left upper arm front", "left upper arm back", "right upper arm front",
    "right upper arm back", "left lower arm front", "left lower arm back", "right lower arm front",
    "right lower arm back", "left hand", "right hand", "torso front", "torso back", "left upper leg front",
    "left upper leg back", "right upper leg front", "right upper leg back", "left lower leg front",
    "left lower leg back", "right lower leg front", "right lower leg back", "left foot", "right foot",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Merge:
    """Which region every label of a parser belongs to.

    Attributes:
        regions: names of the regions 1..K, region 0 being the background.
        table: uint8 ``(labels,)``: the region of each label.
    """

    regions: tuple[str, ...]
    table: UInt8

    def __post_init__(self) -> None:
        if self.table.dtype != np.uint8 or self.table.ndim != 1 or self.table.max() > len(self.regions):
            raise ValueError(f"a merge table is uint8 (labels,) of regions up to {len(self.regions)}, got {self.table}")

    def __call__(self, labels: NDArray[np.integer]) -> UInt8:
        """Regions ``(H, W)`` uint8 of labels ``(H, W)``; `UNKNOWN` stays unknown.

        Raises:
            AnnotationError: a label that the parser does not have.
        """
        known = labels[labels != UNKNOWN]
        if known.size and (known.min() < 0 or known.max() >= len(self.table)):
            beyond = int(known[(known < 0) | (known >= len(self.table))][0])
            raise AnnotationError(f"labels are 0 to {len(self.table) - 1} (or {UNKNOWN}), got {beyond}")
        table = np.full(UNKNOWN + 1, UNKNOWN, np.uint8)
        table[: len(self.table)] = self.table
        return np.asarray(table[labels], np.uint8)


def _merge(labels: tuple[str, ...], regions: Mapping[str, tuple[str, ...]]) -> Merge:
    table = np.zeros(len(labels), np.uint8)
    for place, names in enumerate(regions.values(), start=1):
        table[[labels.index(name) for name in names]] = place
    return Merge(tuple(regions), table)


LIP_TO_MSPR = _merge(
    LIP20,
    {
        "head": ("hair", "face"),
        "body": ("upper clothes", "dress", "coat", "jumpsuit", "left arm", "right arm"),
        "accessory": ("hat", "glove", "sunglasses", "scarf"),
        "legs": ("pants", "skirt", "left leg", "right leg"),
        "feet": ("socks", "left shoe", "right shoe"),
    },
)
"""T-MSPR's five regions."""

LIP_TO_GLIMPSE = _merge(
    LIP20,
    {
        "head": ("hat", "hair", "sunglasses", "face", "scarf"),
        "upper": ("upper clothes", "dress", "coat", "jumpsuit"),
        "arms": ("glove", "left arm", "right arm"),
        "legs": ("pants", "skirt", "left leg", "right leg"),
        "feet": ("socks", "left shoe", "right shoe"),
    },
)
"""Glimpse's regions from LIP. LIP's arms are bare skin: a sleeve is ``upper`` there, ``arms`` for BodyPix and for
generated people."""

_BODYPIX_REGIONS = {
    "head": ("face",),
    "upper": ("torso",),
    "arms": ("arm", "hand"),
    "legs": ("leg",),
    "feet": ("foot",),
}
BODYPIX_TO_GLIMPSE = _merge(
    BODYPIX24,
    {
        region: tuple(name for name in BODYPIX24 if any(word in name.split() for word in words))
        for region, words in _BODYPIX_REGIONS.items()
    },
)
"""Glimpse's regions from BodyPix's parts, which count from 0 and have no background: that is where its separate mask
of people ends. Hair and hats are ``face`` there."""


def read_label_map(path: Path, labels: int = 256) -> UInt8:
    """A label map ``(H, W)`` uint8 from a grey or palette PNG, or a ``.npy`` of whole numbers.

    Args:
        path: the file.
        labels: how many labels there are: each value is below this, or `UNKNOWN`.

    Raises:
        AnnotationError: the file is missing, broken, no label map or has a label beyond; the message names it.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise AnnotationError(f"no label map {path.name} in {path.parent}") from None
    values = _npy(data, path) if path.suffix == ".npy" else _png(data, path)
    known = values[values != UNKNOWN]
    if known.size and (known.min() < 0 or known.max() >= labels):
        raise AnnotationError(f"{path}: labels are 0 to {labels - 1} or {UNKNOWN}; got {known.min()} to {known.max()}")
    return values.astype(np.uint8)


def _npy(data: bytes, path: Path) -> NDArray[np.integer]:
    try:
        values = np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise AnnotationError(f"{path} is not a whole .npy file: {error}") from error
    if values.ndim == 3 and len(values) == 1:
        values = values[0]
    whole = np.issubdtype(values.dtype, np.integer) or bool((values == np.floor(values)).all())
    if values.ndim != 2 or not whole:
        raise AnnotationError(f"{path}: a label map is (H, W) of whole numbers, got {values.dtype} {values.shape}")
    return np.asarray(values, np.int64)


def _png(data: bytes, path: Path) -> UInt8:
    if data[:8] != b"\x89PNG\r\n\x1a\n" or len(data) < 33:
        raise AnnotationError(f"{path} is not a whole PNG")
    if data[25] == _PALETTE:
        return _palette_png(data, path)
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if image is None:
        raise AnnotationError(f"{path} is not a whole PNG")
    if image.ndim != 2 or image.dtype != np.uint8:
        raise AnnotationError(
            f"{path}: a label map is a grey or palette 8-bit PNG whose values are labels, "
            f"got {image.dtype} {image.shape}"
        )
    return np.asarray(image, np.uint8)


def _palette_png(data: bytes, path: Path) -> UInt8:
    """Indices of a palette PNG, as SCHP writes them. OpenCV would give the palette's colours."""
    from PIL import Image

    try:
        Image.open(io.BytesIO(data)).verify()  # reads all checksums, which decoding alone does not
        return np.array(Image.open(io.BytesIO(data)), np.uint8)
    except (OSError, SyntaxError, ValueError) as error:
        raise AnnotationError(f"{path} is not a whole PNG: {error}") from error
