"""A sample with a marked place: colour, label and key-point on the same pixels, and checks that they still are."""

from __future__ import annotations

import cv2
import numpy as np

from trainer.data.annotated import Annotated

LABEL = 9
COLOUR = np.array([255, 0, 255], np.uint8)
PERSON = 1


def scene(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A dark image without the mark's colour, read-only as a memory map is."""
    image = np.random.default_rng(seed).integers(0, 100, (height, width, 3), dtype=np.uint8)
    image.flags.writeable = False
    return image


def marked(height: int, width: int, top: int, left: int, tall: int = 1, wide: int = 1) -> Annotated:
    """Somebody fills the image, and a block of them is marked; one key-point sits on the middle of the block.

    The map ``frame`` is 1 on every pixel that was in the image: a repeated border shows colours of nobody.
    """
    image = scene(height, width).copy()
    labels = np.full((height, width), PERSON, np.uint8)
    image[top : top + tall, left : left + wide] = COLOUR
    labels[top : top + tall, left : left + wide] = LABEL
    point = np.array([[left + (wide - 1) / 2, top + (tall - 1) / 2, 1]], np.float32)
    for array in (image, labels, point):
        array.flags.writeable = False
    return Annotated(image, {"regions": labels, "frame": np.ones_like(labels)}, point)


def nearness(sample: Annotated) -> np.ndarray:
    """How much of each pixel's colour is the mark's: 1 all of it, 0 none; ``(H, W)``."""
    green = sample.image[..., 1].astype(float)
    return np.clip((sample.image[..., [0, 2]].min(axis=2) - green - 60) / 195, 0, 1)


def shrunk(mask: np.ndarray, by: int) -> np.ndarray:
    """The mask without its outermost pixels, those at the frame included."""
    kernel = np.ones((2 * by + 1, 2 * by + 1), np.uint8)
    return cv2.erode(mask.astype(np.uint8), kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0).astype(bool)


def check_covered(sample: Annotated, slack: int = 0) -> None:
    """What an occluder covers shows nothing of the person; a point may have slid ``slack`` pixels under its edge."""
    for labels in sample.maps.values():
        assert (labels[sample.mask] == 0).all()
    height, width = sample.size
    hidden = shrunk(sample.mask, slack)
    for x, y, confidence in sample.points:
        inside = -0.5 < x < width - 0.5 and -0.5 < y < height - 0.5
        assert confidence == 0 or (inside and not hidden[round(float(y)), round(float(x))])


def check_single(sample: Annotated) -> None:
    """One marked pixel, changed by whole-pixel moves only: everything is exactly on it, or it is gone."""
    check_covered(sample)
    seen = (sample.image == COLOUR).all(axis=2) & _shown(sample)
    np.testing.assert_array_equal(sample.maps["regions"] == LABEL, seen)
    ((x, y, confidence),) = sample.points
    assert (confidence > 0) == seen.any()
    if confidence:
        assert seen[round(float(y)), round(float(x))]


def check_block(sample: Annotated, slack: int) -> None:
    """A marked block, changed by anything: colour and label agree but for ``slack`` pixels at the border."""
    check_covered(sample, slack)
    labelled, bright = sample.maps["regions"] == LABEL, nearness(sample) > 0.5
    assert not (shrunk(labelled, slack) & ~bright).any()
    assert not (shrunk(bright & _shown(sample), slack) & ~labelled).any()
    ((x, y, confidence),) = sample.points
    if confidence:
        # The middle of the block: as long as it can be seen, its label and colour are within reach.
        rows, columns = (slice(max(0, round(float(at)) - slack), round(float(at)) + slack + 1) for at in (y, x))
        assert labelled[rows, columns].any()
        assert bright[rows, columns].any()


def check_strides(sample: Annotated, strides: tuple[int, ...] = (4, 8, 16)) -> None:
    """At every stride a cell has the label of its centre, and so the one of its colour where it shows one thing."""
    height, width = sample.size
    for stride in strides:
        small = sample.resize(height // stride, width // stride)
        check_covered_cells(sample, small, stride)
        labels, whole = small.maps["regions"], sample.maps["regions"]
        np.testing.assert_array_equal(labels, whole[stride // 2 :: stride, stride // 2 :: stride])
        cells = whole.reshape(height // stride, stride, width // stride, stride) == LABEL
        assert (labels[cells.all(axis=(1, 3))] == LABEL).all()
        assert not (labels[~cells.any(axis=(1, 3))] == LABEL).any()
        full = cells.all(axis=(1, 3))
        assert (nearness(small)[shrunk(full, 1)] > 0.5).all()
        ((x, y, confidence),) = small.points
        ((old_x, old_y, old_confidence),) = sample.points
        assert confidence == old_confidence
        if confidence:
            assert (int((old_x + 0.5) // stride), int((old_y + 0.5) // stride)) == (
                int((x + 0.5) // 1),
                int((y + 0.5) // 1),
            )


def _shown(sample: Annotated) -> np.ndarray:
    return (sample.maps["frame"] > 0) & ~sample.mask


def check_covered_cells(sample: Annotated, small: Annotated, stride: int) -> None:
    """A cell that is covered altogether is covered, has label 0 and no colour of the person."""
    height, width = sample.size
    cells = sample.mask.reshape(height // stride, stride, width // stride, stride).all(axis=(1, 3))
    assert small.mask[cells].all()
    assert (small.maps["regions"][cells] == 0).all()
