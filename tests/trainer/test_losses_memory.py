"""The memory's contrast, the masks' losses and the recovery against numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from trainer.losses import mask_cross_entropy, mask_mse, memory_nce, recovery_loss, region_shares


def test_memory_nce_is_a_softmax_over_cosines_of_any_length() -> None:
    features = torch.tensor([[3.0, 0.0], [0.6, 0.8]])
    centres = torch.tensor([[1.0, 0.0], [0.0, 5.0]])
    # Cosines 1 and 0 (own: 1), then .6 and .8 (own: .8); T = .5.
    expected = -(math.log(math.e**2 / (math.e**2 + 1)) + math.log(1 / (1 + math.exp(-0.4)))) / 2
    loss = memory_nce(features, torch.tensor([0, 1]), centres, temperature=0.5)
    assert loss.item() == pytest.approx(expected, abs=1e-5)


def test_memory_nce_of_a_hopeless_row_ends_at_its_floor() -> None:
    loss = memory_nce(torch.tensor([[1.0, 0.0]]), torch.tensor([1]), torch.tensor([[1.0, 0.0], [-1.0, 0.0]]))
    assert loss.item() == pytest.approx(-math.log(1e-6), abs=1e-3)


def test_memory_nce_of_no_rows_is_zero() -> None:
    assert memory_nce(torch.zeros(0, 2), torch.zeros(0).long(), torch.eye(2)).item() == 0


def test_region_shares_count_labelled_pixels_in_any_grid() -> None:
    regions = torch.tensor([[[0, 1, 2, 2], [1, 1, 255, 2]]], dtype=torch.uint8)  # cells of 2 x 2 pixels
    shares, known = region_shares(regions, 3, (1, 2))
    torch.testing.assert_close(shares[0, :, 0, 0], torch.tensor([0.25, 0.75, 0.0]))
    torch.testing.assert_close(shares[0, :, 0, 1], torch.tensor([0.0, 0.0, 1.0]))
    torch.testing.assert_close(known, torch.tensor([[[1.0, 0.75]]]))
    uneven, _ = region_shares(torch.zeros(1, 256, 128, dtype=torch.uint8), 3, (22, 11))
    torch.testing.assert_close(uneven[:, 0], torch.ones(1, 22, 11))


def test_mask_losses_weigh_cells_by_what_is_labelled() -> None:
    logits = torch.zeros(1, 2, 1, 2)
    logits[0, 1, 0, 0] = math.log(3)  # softmax 1/4, 3/4
    shares = torch.tensor([[[[0.5, 1.0]], [[0.5, 0.0]]]])
    known = torch.tensor([[[1.0, 0.5]]])
    first = -0.5 * math.log(0.25) - 0.5 * math.log(0.75)
    assert mask_cross_entropy(logits, shares, known).item() == pytest.approx((first + 0.5 * math.log(2)) / 1.5)
    assert mask_mse(logits.softmax(1), shares, known).item() == pytest.approx((0.0625 + 0.5 * 0.25) / 1.5)


@pytest.mark.parametrize("loss", [mask_cross_entropy, mask_mse])
def test_images_without_labels_teach_the_masks_nothing(loss: object) -> None:
    logits = torch.randn(2, 3, 2, 2, requires_grad=True)
    regions = torch.full((2, 8, 8), 255, dtype=torch.uint8)
    regions[0] = 1
    shares, known = region_shares(regions, 3, (2, 2))
    value = loss(logits, shares, known)  # type: ignore[operator]
    value.backward()
    assert value.item() > 0
    assert (logits.grad[1] == 0).all()
    assert (logits.grad[0] != 0).any()
    nothing = loss(logits, *region_shares(torch.full((2, 8, 8), 255, dtype=torch.uint8), 3, (2, 2)))  # type: ignore[operator]
    assert nothing.item() == 0


def test_recovery_is_the_mean_absolute_difference_and_pulls_both() -> None:
    parts = torch.tensor([[[1.0, 2.0]], [[0.0, 4.0]]], requires_grad=True)
    completed = torch.tensor([[[0.0, 2.0]], [[0.0, 1.0]]], requires_grad=True)
    loss = recovery_loss(parts, completed)
    loss.backward()
    assert loss.item() == pytest.approx(1.0)  # (1 + 0 + 0 + 3) / 4
    assert parts.grad is not None
    assert completed.grad is not None
    torch.testing.assert_close(completed.grad, -parts.grad)
