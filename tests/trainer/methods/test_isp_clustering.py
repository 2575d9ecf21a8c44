"""ISP's pseudo labels against cases worked out by hand, against scikit-learn, and against the spec's faults."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from torch.nn import functional as F

from trainer.methods.isp.clustering import (
    activation,
    foreground,
    kmeans,
    label_identity,
    top_down,
    uniform_stripes,
)

HEIGHT, WIDTH, CHANNELS = 12, 6, 8


def figures(count: int, parts: int, *, noise: float = 0.02, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Maps ``(N, C, h, w)`` of people in bands of ``parts`` directions on a weak background, and their labels.

    Each person's bands begin at another row, as people stand differently in their crops.
    """
    random = torch.Generator().manual_seed(seed)
    labels = torch.zeros(count, HEIGHT, WIDTH, dtype=torch.uint8)
    for row in range(count):
        top = row % 3
        bands = 1 + (torch.arange(HEIGHT) - top).clamp(0) * parts // (HEIGHT - 2)
        labels[row] = bands.clamp(max=parts)[:, None]
        labels[row, :top] = 0
    labels[:, :, 0] = labels[:, :, -1] = 0
    directions = torch.eye(CHANNELS)[: parts + 1].roll(1, dims=0)  # parts first, background last
    strength = torch.where(labels > 0, 3.0, 0.3)
    features = directions[labels.long()].permute(0, 3, 1, 2) * strength[:, None]
    return features + noise * torch.randn(features.shape, generator=random), labels


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("parts", [1, 3, 5])
def test_parts_are_found_and_numbered_from_the_top(parts: int, seed: int) -> None:
    features, labels = figures(6, parts)
    found = label_identity(features, parts, seed=seed)
    assert found is not None
    assert found.dtype == torch.uint8
    assert torch.equal(found, labels)


def test_labels_do_not_depend_on_the_order_of_images_or_chance() -> None:
    """Public code numbers identities and images in the order of a set and of the file system."""
    features, _ = figures(6, 3, noise=0.4)
    found = label_identity(features, 3, seed=4)
    assert found is not None
    assert torch.equal(found, label_identity(features, 3, seed=4))
    turned = label_identity(features.flip(0), 3, seed=4)
    assert turned is not None
    assert (turned.flip(0) == found).float().mean() > 0.98


def test_activation_is_the_norm_over_the_largest_of_its_own_image() -> None:
    features = torch.tensor([[[[3.0, 0.0]], [[4.0, 1.0]]], [[[0.0, 2.0]], [[0.5, 0.0]]]])  # norms (5, 1), (0.5, 2)
    assert activation(features).tolist() == [[[1.0, pytest.approx(0.2)]], [[0.25, 1.0]]]
    enhanced = activation(features, enhanced=True)
    expected = [1 / (1 + math.exp(2 - 10 * n)) for n in (1.0, 0.2, 0.25, 1.0)]
    assert enhanced.flatten().tolist() == pytest.approx(expected, rel=1e-5)


def test_foreground_is_the_stronger_of_the_best_two_clusters() -> None:
    values = torch.tensor([[0.9, 0.1, 0.2], [0.85, 0.15, 1.0]])
    assert foreground(values).tolist() == [[True, False, False], [True, False, True]]
    random = np.random.default_rng(0)
    for _ in range(20):
        numbers = np.concatenate([random.normal(0.3, 0.15, 200), random.normal(0.7, 0.1, random.integers(20, 300))])
        fitted = KMeans(2, n_init=10, random_state=0).fit(numbers[:, None])
        strong = fitted.labels_ == fitted.cluster_centers_.ravel().argmax()
        ours = foreground(torch.from_numpy(numbers)).numpy()
        assert inertia(numbers, ours) <= inertia(numbers, strong) + 1e-9  # exact, so never worse
        assert (ours == strong).mean() > 0.99


def inertia(numbers: np.ndarray, side: np.ndarray) -> float:
    return float(sum(((part - part.mean()) ** 2).sum() for part in (numbers[side], numbers[~side])))


def test_equal_numbers_are_all_foreground_and_are_never_torn_apart() -> None:
    assert foreground(torch.full((2, 3), 0.4)).all()
    assert foreground(torch.tensor([0.4])).all()
    assert foreground(torch.tensor([0.4, 0.4, 0.4, 0.9])).tolist() == [False, False, False, True]


@pytest.mark.parametrize("enhanced", [False, True])
def test_a_cell_without_any_activation_is_background(enhanced: bool) -> None:
    """Enhanced, no activation is 0 any more, and public code then clusters directions of nothing."""
    features = torch.zeros(1, 2, 2, 2)
    features[0, :, 0] = torch.tensor([[1.0, 0.98], [0.1, 0.2]])
    features[0, :, 1, 0] = torch.tensor([0.1, 1.0])
    labels = label_identity(features, 2, enhanced=enhanced)
    assert labels is not None
    assert labels.tolist() == [[[1, 1], [2, 0]]]
    nothing = torch.zeros(3, 2, 4, 4)
    assert label_identity(nothing, 2, enhanced=enhanced) is None


def test_fewer_cells_than_parts_give_no_labels_but_stripes_stand_in() -> None:
    """Public code fails where the foreground has fewer cells than there are clusters."""
    features = torch.full((1, 2, 6, 2), 0.01)
    features[0, :, 2, 0] = 5.0
    assert label_identity(features, 3) is None
    stripes = uniform_stripes(2, 6, 2, 3)
    assert stripes.tolist() == [[[1, 1], [1, 1], [2, 2], [2, 2], [3, 3], [3, 3]]] * 2
    assert uniform_stripes(1, 7, 1, 3).flatten().tolist() == [1, 1, 1, 2, 2, 3, 3]


def test_parts_are_clusters_of_directions_not_of_strengths() -> None:
    strengths = torch.tensor([[6.0, 9.0, 0.1], [9.0, 6.0, 0.1]])
    features = torch.zeros(1, 2, 4, 3)
    features[0, 0, :2] = features[0, 1, 2:] = strengths
    labels = label_identity(features, 2)
    assert labels is not None
    assert labels[0].tolist() == [[1, 1, 0], [1, 1, 0], [2, 2, 0], [2, 2, 0]]


def test_kmeans_is_as_good_as_scikit_learns() -> None:
    torch.manual_seed(0)
    centres = torch.randn(6, 32)
    points = F.normalize(centres[torch.randint(0, 6, (3000,))] + 0.8 * torch.randn(3000, 32), dim=1)
    ours = kmeans(points, 6, seed=1)
    means = torch.stack([points[ours == k].mean(0) for k in range(6)])
    inertia = (points - means[ours]).square().sum().item()
    theirs = KMeans(6, n_init=1, max_iter=20, random_state=1).fit(points.numpy()).inertia_
    assert inertia < 1.02 * theirs


def test_kmeans_fills_every_cluster_it_can() -> None:
    points = torch.tensor([[0.0, 1.0]] * 50 + [[1.0, 0.0]])
    assert sorted(torch.bincount(kmeans(points, 2), minlength=2).tolist()) == [1, 50]
    twins = torch.ones(5, 2)
    assert kmeans(twins, 3).shape == (5,)  # nothing to tell apart: no failure
    with pytest.raises(ValueError, match="at least 3 points for 3 clusters, got 2"):
        kmeans(twins[:2], 3)


def test_clusters_are_ordered_by_their_mean_row_and_empty_ones_come_last() -> None:
    cluster = torch.tensor([0, 0, 2, 2, 3])
    rows = torch.tensor([7, 9, 1, 3, 5])
    assert top_down(cluster, rows, 4).tolist() == [2, 3, 0, 1]
