"""The centre loss and the step of its centres, against numbers worked out by hand and against autograd."""

from __future__ import annotations

import pytest
import torch

from trainer.losses import centre_loss, moved_centres

CENTRES = torch.tensor([[0.0, 0.0], [1.0, 1.0], [9.0, 9.0]])
FEATURES = torch.tensor([[1.0, 0.0], [0.0, 3.0], [1.0, 3.0], [2.0, 1.0]])
IDENTITY = torch.tensor([0, 0, 1, 1])


def test_centre_loss_is_the_mean_squared_distance_to_the_own_centre() -> None:
    # 1 + 0, 0 + 9, 0 + 4, 1 + 0.
    assert centre_loss(FEATURES, IDENTITY, CENTRES).item() == pytest.approx(15 / 4)


def test_centres_step_by_the_unweighted_gradient_and_others_stay() -> None:
    moved = moved_centres(CENTRES, FEATURES, IDENTITY, rate=0.5)
    # First: (0,0) - 0.5 * 2/4 * ((-1,0) + (0,-3)); second: (1,1) - 0.25 * ((0,-2) + (-1,0)).
    torch.testing.assert_close(moved, torch.tensor([[0.25, 0.75], [1.25, 1.5], [9.0, 9.0]]))
    free = CENTRES.clone().requires_grad_()
    centre_loss(FEATURES, IDENTITY, free).backward()
    torch.testing.assert_close(moved, CENTRES - 0.5 * free.grad)


def test_no_rows_cost_nothing_and_move_nothing() -> None:
    nobody, none = torch.zeros(0, 2, requires_grad=True), torch.zeros(0, dtype=torch.int64)
    loss = centre_loss(nobody, none, CENTRES)
    loss.backward()
    assert loss.item() == 0
    assert moved_centres(CENTRES, nobody, none) is CENTRES
