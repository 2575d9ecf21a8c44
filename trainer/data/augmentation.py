"""Changes drawn anew for every training image: place, colour, resolution, backdrop. Knows no torch.

All of them act on `Annotated`, so labels and key-points stay on their pixels. Occluders are in `trainer.occlusion`.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from trainer.data.annotated import UNKNOWN, Annotated
from trainer.recipe import AugmentationRecipe

Image = NDArray[np.uint8]


def augment(sample: Annotated, other: Image, recipe: AugmentationRecipe, random: np.random.Generator) -> Annotated:
    """A changed copy of a sample.

    Args:
        sample: image and annotations; the map ``regions``, where there is one, says where the person is.
        other: another image of the same size, whose pieces become backdrops.
        recipe: how much of each change.
        random: draws everything.
    """
    mirrored = random.random() < recipe.flip
    if recipe.shift > 0:
        sample = _move(sample, recipe.shift, mirrored, random)
    elif mirrored:
        sample = sample.flip()
    if recipe.pad > 0:
        sample = _pad_crop(sample, recipe.pad, random)
    if random.random() < recipe.backdrop:
        sample = replace_backdrop(sample, other, random)
    if recipe.colour > 0:
        sample = sample.with_image(_tint(sample.image, recipe.colour, random))
    if random.random() < recipe.blur:
        sample = sample.with_image(_lose_resolution(sample.image, random))
    return sample


def replace_backdrop(sample: Annotated, other: Image, random: np.random.Generator) -> Annotated:
    """Puts everything that is not the person, occluders included, behind a magnified piece of ``other``.

    Nothing happens where the person's pixels are not known.
    """
    regions = sample.maps.get("regions")
    # The highest label: 0 where nobody is seen, 255 where anything is unknown.
    if regions is None or int(regions.max()) in (0, UNKNOWN):
        return sample
    height, width = regions.shape
    share = random.uniform(0.2, 0.6)
    tall, wide = max(1, round(height * share)), max(1, round(width * share))
    y, x = int(random.integers(0, height - tall + 1)), int(random.integers(0, width - wide + 1))
    behind = cv2.resize(other[y : y + tall, x : x + wide], (width, height), interpolation=cv2.INTER_LINEAR)
    if random.random() < 0.5:
        behind = 255 - behind
    # A soft edge, so that the cut itself does not tell where the person is.
    alpha = cv2.GaussianBlur((regions > 0).astype(np.float32), (5, 5), 1.0)
    return sample.with_image(np.asarray(cv2.blendLinear(sample.image, behind, alpha, 1 - alpha), np.uint8))


ORDERS = ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0))
"""Orders of the colour channels; the first is the image itself."""


def reordered(image: Image, order: int) -> Image:
    """The image with its channels in one of `ORDERS`: the same picture of a person in clothes of other colours."""
    turned = np.empty_like(image, order="C")
    cv2.mixChannels(
        [np.ascontiguousarray(image)], [turned], [n for pair in zip(ORDERS[order], range(3), strict=True) for n in pair]
    )
    return turned


def _move(sample: Annotated, most: float, mirrored: bool, random: np.random.Generator) -> Annotated:
    """Mirror image, shift and zoom in one warp; the frame is filled up with the border's pixels."""
    height, width = sample.size
    zoom = random.uniform(1 - most, 1 + most)
    x = (width - 1) * (1 - zoom) / 2 + random.uniform(-most, most) * width
    y = (height - 1) * (1 - zoom) / 2 + random.uniform(-most, most) * height
    if mirrored:
        return sample.warp(np.array([[-zoom, 0, x + (width - 1) * zoom], [0, zoom, y]]))
    return sample.warp(np.array([[zoom, 0, x], [0, zoom, y]]))


def _pad_crop(sample: Annotated, pad: int, random: np.random.Generator) -> Annotated:
    """Padding with black and a random crop of the old size (Luo et al., CVPRW 2019): a whole-pixel shift."""
    x, y = random.integers(-pad, pad + 1, 2)
    return sample.warp(np.array([[1.0, 0, x], [0, 1.0, y]]), border="black")


def _tint(image: Image, most: float, random: np.random.Generator) -> Image:
    """Another exposure and white balance: a factor a channel and one offset."""
    change = np.zeros((3, 4))
    np.fill_diagonal(change, (1 + random.uniform(-most, most)) * (1 + random.uniform(-most, most, 3) / 2))
    change[:, 3] = random.uniform(-most, most) * 64
    # A third of the time of a table, which cannot be looked up several pixels at once.
    return np.asarray(cv2.transform(image, change), np.uint8)


def _lose_resolution(image: Image, random: np.random.Generator) -> Image:
    height, width = image.shape[:2]
    share = random.uniform(0.35, 0.8)
    small = cv2.resize(
        image, (max(1, round(width * share)), max(1, round(height * share))), interpolation=cv2.INTER_AREA
    )
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)
