"""Losses against numbers worked out by hand, and the torch distance against the oracle."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from glimpse.distance import pairwise
from tests.trainer.features import SCHEMA, random_features
from trainer.losses import (
    batch_hard_triplet,
    euclidean,
    identity_loss,
    pairwise_distance,
    part_map_loss,
    soft_batch_hard_triplet,
    visibility_loss,
)


def test_the_distance_that_is_trained_is_the_distance_that_ranks() -> None:
    query, gallery = random_features(7, seed=1), random_features(9, seed=2)
    trained = pairwise_distance(
        *(torch.from_numpy(array) for array in (query.vectors, query.visibility, gallery.vectors, gallery.visibility)),
        SCHEMA.dims,
        weights=SCHEMA.weights.tolist(),
        prior=SCHEMA.prior,
    ).numpy()
    oracle = pairwise(query, gallery).distance
    comparable = ~np.isnan(oracle)
    assert not comparable.all()  # the case that needs care is in the data
    assert np.abs(trained - oracle)[comparable].max() < 1e-5
    assert (trained[~comparable] == 1).all()


def test_gradients_stay_finite_where_a_pair_shares_nothing() -> None:
    vectors = torch.nn.functional.normalize(torch.randn(2, 4), dim=1).requires_grad_()
    visibility = torch.tensor([[0.0], [1.0]])
    pairwise_distance(vectors, visibility, vectors, visibility, (4,)).sum().backward()
    assert torch.isfinite(vectors.grad).all()


def test_identity_loss_smooths_its_target() -> None:
    # Scores (1, 0) scaled by ln 3: softmax (3/4, 1/4). With eps 0.2 over two classes the target is (0.9, 0.1).
    loss = identity_loss(torch.tensor([[1.0, 0.0]]), torch.tensor([0]), scale=math.log(3), smoothing=0.2)
    assert loss.item() == pytest.approx(-0.9 * math.log(0.75) - 0.1 * math.log(0.25))


IDENTITY = torch.tensor([0, 0, 0, 1])
DISTANCE = torch.tensor(
    [
        [0.0, 0.2, 0.5, 0.9],
        [0.2, 0.0, 0.4, 0.3],
        [0.5, 0.4, 0.0, 0.8],
        [0.9, 0.3, 0.8, 0.0],
    ]
)


def test_triplet_takes_the_furthest_positive_and_the_nearest_negative() -> None:
    # The fourth has no positive and is left out: 0.5 - 0.9, 0.4 - 0.3, 0.5 - 0.8, each times 10.
    expected = sum(math.log1p(math.exp(10 * gap)) for gap in (-0.4, 0.1, -0.3)) / 3
    assert soft_batch_hard_triplet(DISTANCE, IDENTITY, sharpness=10).item() == pytest.approx(expected)


def test_hard_margin_triplet_forgives_what_is_further_than_the_margin() -> None:
    # The same gaps, -0.4, 0.1 and -0.3, under a margin of 0.35: 0, 0.45 and 0.05.
    assert batch_hard_triplet(DISTANCE, IDENTITY, margin=0.35).item() == pytest.approx((0.45 + 0.05) / 3)


@pytest.mark.parametrize("triplet", [soft_batch_hard_triplet, batch_hard_triplet])
@pytest.mark.parametrize("identity", [[0, 1, 2], [0, 0, 0]])
def test_triplet_without_a_positive_or_without_a_negative_is_zero_and_differentiable(triplet, identity) -> None:
    distance = torch.rand(3, 3, requires_grad=True)
    loss = triplet(distance, torch.tensor(identity))
    loss.backward()
    assert loss.item() == 0
    assert torch.isfinite(distance.grad).all()


def test_euclidean_distances_are_of_vectors_as_they_come_not_normalised() -> None:
    features = torch.tensor([[3.0, 0.0], [0.0, 4.0], [3.0, 0.0]], requires_grad=True)
    distance = euclidean(features)
    torch.testing.assert_close(distance, torch.tensor([[0.0, 5, 0], [5, 0, 5], [0, 5, 0]]), atol=1e-5, rtol=0)
    distance.sum().backward()
    assert torch.isfinite(features.grad).all()  # equal rows are where a square root has no slope


def test_part_map_loss_asks_for_the_share_of_each_region_in_a_cell() -> None:
    # One cell of 2x2 pixels: two of background, one of region 1, one of region 2.
    regions = torch.tensor([[[0, 0], [1, 2]]], dtype=torch.uint8)
    shares = torch.tensor([0.5, 0.25, 0.25])
    at_best = part_map_loss(shares.log().view(1, 3, 1, 1), regions)
    assert at_best.item() == pytest.approx(-(shares * shares.log()).sum().item())
    assert part_map_loss(torch.zeros(1, 3, 1, 1), regions).item() == pytest.approx(math.log(3))


def test_visibility_loss_is_least_at_the_true_share() -> None:
    share = torch.tensor([[0.3]])
    at_truth, above, below = (
        visibility_loss(torch.logit(torch.tensor([[guess]])), share).item() for guess in (0.3, 0.35, 0.25)
    )
    assert at_truth == pytest.approx(-0.3 * math.log(0.3) - 0.7 * math.log(0.7), abs=1e-6)
    assert at_truth < min(above, below)
