"""The strong baseline against sums done by hand: what each loss takes, and what is searched with."""

from __future__ import annotations

import math

import pytest
import torch

from glimpse.distance import pairwise
from glimpse.parts import PartFeatures
from tests.trainer.batches import random_batch, random_images
from tests.trainer.methods.tiny import CNN, PEOPLE, Fixed, build
from trainer.methods.bot import BoT, BoTOptions

# Means of the maps: (3, 0), (0, 4), (6, 8), (6, 0); the pairs are images of one person.
MAPS = [[[[2.0, 4.0]], [[0.0, 0.0]]], [[[-1.0, 1.0]], [[4.0, 4.0]]], [[[6.0, 6.0]], [[8.0, 8.0]]], [[[5, 7]], [[0, 0]]]]


def baseline(**options: float) -> BoT:
    torch.manual_seed(0)
    return BoT(Fixed(MAPS), BoTOptions(**options), PEOPLE)  # type: ignore[arg-type]


def test_the_triplet_takes_means_as_they_are_before_the_batch_norm() -> None:
    batch = random_batch(4, identities=2)
    terms = baseline(margin=0.3).losses(batch)
    # Distances: 01: 5, 02: sqrt 73, 03: 3, 12: sqrt 52, 13: sqrt 52, 23: 8. Normalised ones would be at most 2.
    gaps = [5 - 3, 5 - math.sqrt(52), 8 - math.sqrt(52), 8 - 3]
    assert terms["triplet"].item() == pytest.approx(sum(max(0, gap + 0.3) for gap in gaps) / 4, rel=1e-5)


def test_the_classifier_takes_what_the_batch_norm_gives_with_smoothed_labels() -> None:
    method = baseline(smoothing=0.1)
    with torch.no_grad():
        method.classifier.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0], [0.0, 0.0]]))
    terms = method.losses(random_batch(4, identities=2))
    features = torch.tensor([[3.0, 0.0], [0.0, 4.0], [6.0, 8.0], [6.0, 0.0]])
    normal = (features - features.mean(0)) / (features.var(0, unbiased=False) + 1e-5).sqrt()
    expected = 0.0
    for (x, y), own in zip(normal.tolist(), [0, 0, 1, 1], strict=True):
        scores = [x, y, 0.0, 0.0]
        log_sum = math.log(sum(map(math.exp, scores)))
        target = [0.1 / 4 + (0.9 if k == own else 0.0) for k in range(4)]
        expected -= sum(t * (s - log_sum) for t, s in zip(target, scores, strict=True)) / 4
    assert terms["identity"].item() == pytest.approx(expected, rel=1e-5)


def test_search_takes_the_feature_after_the_batch_norm_at_unit_norm() -> None:
    method = baseline().eval()
    with torch.no_grad():
        method.neck.running_mean.copy_(torch.tensor([3.0, 4.0]))
        method.neck.running_var.copy_(torch.tensor([1.0, 4.0]) - 1e-5)
        vectors, visibility = method(random_images(4))
    # (0, -4/2), (-3, 0), (3, 4/2), (3, -4/2)
    direction = torch.tensor([[0.0, -1.0], [-1.0, 0.0], [3.0, 2.0], [3.0, -2.0]])
    torch.testing.assert_close(vectors, direction / direction.norm(dim=1, keepdim=True))
    assert visibility.tolist() == [[1.0]] * 4


def test_distance_is_half_the_squared_euclidean_distance_of_the_paper() -> None:
    method = build("bot", CNN).eval()
    with torch.inference_mode():
        vectors, visibility = (output.numpy() for output in method(random_images(5)))
    features = PartFeatures(vectors, visibility, method.schema)
    squared = ((vectors[:, None] - vectors[None]) ** 2).sum(axis=2)
    assert pairwise(features, features).distance == pytest.approx(squared / 2, abs=1e-5)


def test_the_bias_of_the_neck_is_frozen_and_the_classifier_has_none() -> None:
    method = build("bot", CNN)
    optimised = {name for name, parameter in method.named_parameters() if parameter.requires_grad}
    assert "neck.weight" in optimised
    assert "neck.bias" not in optimised
    assert "classifier.bias" not in dict(method.named_parameters())


def test_without_a_weight_there_is_no_centre_loss_at_all() -> None:
    method = baseline()
    assert "centre" not in method.losses(random_batch(4, identities=2))
    assert not any("centres" in name for name in method.state_dict())


def test_centres_are_state_that_moves_after_the_step_and_by_no_gradient() -> None:
    method = baseline(centre_weight=0.5, centre_rate=0.5)
    assert "centres.points" in method.state_dict()
    assert method.centres is not None
    method.centres.points.zero_()
    batch = random_batch(4, identities=2)
    loss = method.losses(batch)["centre"]
    assert loss.item() == pytest.approx(0.5 * (9 + 16 + 100 + 36) / 4)
    loss.backward()
    assert method.centres.points.abs().max() == 0
    method.after_step(batch)
    # 0 - 0.5 * 2/4 * (0 - sum of the own features)
    expected = torch.tensor([[3.0, 4.0], [12.0, 8.0], [0.0, 0.0], [0.0, 0.0]]) / 4
    torch.testing.assert_close(method.centres.points, expected)
    method.after_step(batch)  # nothing new was pulled
    torch.testing.assert_close(method.centres.points, expected)


def test_centres_leave_recoloured_people_out() -> None:
    method = baseline(centre_weight=0.5)
    assert method.centres is not None
    method.centres.points.zero_()
    batch = random_batch(4, identities=2, known=[True, True, False, False])
    assert method.losses(batch)["centre"].item() == pytest.approx(0.5 * (9 + 16) / 2)
    method.after_step(batch)
    assert method.centres.points[1].abs().max() == 0
