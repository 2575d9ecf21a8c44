"""The pixel loss against numbers worked out by hand, and what becomes of labels at a map's stride."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from trainer.data.annotated import Annotated
from trainer.losses import cell_labels, pixel_loss


def test_pixel_loss_is_the_mean_over_labelled_cells_of_the_whole_batch() -> None:
    # Two pictures of 1x2 cells, three classes; the second cell of the second picture is unlabelled.
    logits = torch.zeros(2, 3, 1, 2)
    logits[0, 1, 0, 0] = math.log(2)  # softmax 1/4, 1/2, 1/4
    labels = torch.tensor([[[1, 0]], [[2, 255]]], dtype=torch.uint8)
    assert pixel_loss(logits, labels).item() == pytest.approx((math.log(2) + 2 * math.log(3)) / 3)


def test_pixel_loss_without_any_label_is_zero_and_differentiable() -> None:
    logits = torch.randn(2, 3, 4, 2, requires_grad=True)
    loss = pixel_loss(logits, torch.full((2, 8, 4), 255, dtype=torch.uint8))
    loss.backward()
    assert loss.item() == 0
    assert (logits.grad == 0).all()


def test_a_cell_takes_the_label_of_its_middle() -> None:
    labels = torch.arange(64, dtype=torch.uint8).view(1, 8, 8)
    # Cells of 4x4 pixels: their middles are rows and columns 2 and 6.
    assert cell_labels(labels, (2, 2)).tolist() == [[[18, 22], [50, 54]]]


def test_labels_made_at_the_maps_stride_come_back_unchanged() -> None:
    cells = torch.randint(0, 7, (3, 16, 8), dtype=torch.uint8)
    labels = cells.repeat_interleave(4, dim=1).repeat_interleave(4, dim=2)
    assert torch.equal(cell_labels(labels, (16, 8)), cells.long())


def test_every_erasure_of_a_cell_or_more_reaches_the_label_at_stride_4() -> None:
    """Public code of ISP erases the 64x32 label in coordinates of the 256x128 image: 3 in 4 erasures miss it."""
    random = np.random.default_rng(0)
    image, ones = np.zeros((256, 128, 3), np.uint8), np.ones((256, 128), np.uint8)
    for _ in range(50):
        height, width = random.integers(4, 200), random.integers(4, 100)
        top, left = random.integers(0, 256 - height + 1), random.integers(0, 128 - width + 1)
        mask = np.zeros((256, 128), np.bool_)
        mask[top : top + height, left : left + width] = True
        erased = Annotated(image, {"pseudo": ones}).cover(mask, image)
        cells = cell_labels(torch.from_numpy(erased.maps["pseudo"])[None], (64, 32))[0].numpy()
        assert (cells == 0).any()
        assert np.array_equal(cells == 0, mask[2::4, 2::4])
