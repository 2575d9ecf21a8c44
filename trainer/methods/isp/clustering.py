"""Pseudo labels from a feature map: cascaded k-means over all images of one identity (Zhu et al., ECCV 2020).

First the person: the stronger of two clusters of activation norms. Then the parts: K - 1 clusters of the person's
feature directions, numbered from top to bottom. Lloyd's iterations run in torch, where the features lie already: on
an accelerator, copying them out for scikit-learn or Faiss costs more than clustering them.
"""

from __future__ import annotations

import numpy as np
import torch
from sklearn.cluster import kmeans_plusplus
from torch import Tensor
from torch.nn import functional as F

ITERATIONS = 20
_SEEDING = 4096  # cells among which k-means++ picks the first centres


def label_identity(features: Tensor, parts: int, *, enhanced: bool = False, seed: int = 0) -> Tensor | None:
    """Labels of one identity's images: 0 for background, 1 (top) to ``parts`` (bottom).

    Args:
        features: ``(N, C, h, w)``, all images of one identity.
        parts: K - 1.
        enhanced: sharpens the norms first, see `activation`.
        seed: of the first centres.

    Returns:
        uint8 ``(N, h, w)``; None when the person has fewer cells than there are parts.
    """
    count, _, height, width = features.shape
    person = foreground(activation(features, enhanced=enhanced)) & (features.square().sum(1) > 0)  # [N, h, w]
    if int(person.sum()) < parts:
        return None
    cells = features.permute(0, 2, 3, 1)[person]  # [M, C]
    cluster = kmeans(F.normalize(cells, dim=1), parts, seed=seed)  # [M]
    rows = torch.arange(height, device=features.device)[:, None].expand(count, height, width)[person]
    labels = torch.zeros(count, height, width, dtype=torch.uint8, device=features.device)
    labels[person] = (1 + top_down(cluster, rows, parts)[cluster]).to(torch.uint8)
    return labels


def activation(features: Tensor, *, enhanced: bool = False) -> Tensor:
    """Norm of each cell's feature over the largest of its image, ``(N, C, h, w)`` to ``(N, h, w)`` in [0, 1].

    ``enhanced`` makes ``sigmoid(10 n - 2)`` of it, as the authors do where people are hidden less.
    """
    norms = features.square().sum(1).sqrt()  # [N, h, w]
    norms = norms / norms.amax((1, 2), keepdim=True).clamp_min(1e-12)
    return torch.sigmoid(10 * norms - 2) if enhanced else norms


def foreground(activations: Tensor) -> Tensor:
    """The stronger of two clusters of numbers, bool of the same shape.

    On a line two clusters are two sides of a threshold, so the best 2-means is found exactly, without iterations or
    seed: the cut that leaves the least squared distance to the two means. All of it where every number is the same.
    """
    values = activations.flatten().double().sort().values  # [M]
    count = len(values)
    below = values.cumsum(0)[:-1]  # [M - 1], sum of the first 1, 2, ...
    size = torch.arange(1, count, device=values.device)
    between = below.square() / size + (values.sum() - below).square() / (count - size)
    # A cut within equal numbers is no cut.
    between = between.masked_fill(values[1:] == values[:-1], -torch.inf)
    if count < 2 or not bool(torch.isfinite(between).any()):
        return torch.ones_like(activations, dtype=torch.bool)
    return activations.double() >= values[1 + int(between.argmax())]


def kmeans(points: Tensor, clusters: int, *, seed: int = 0, iterations: int = ITERATIONS) -> Tensor:
    """The cluster of each point, int64 ``(M,)``: k-means++ on a sample, then Lloyd's iterations.

    A cluster that runs empty takes the point furthest from its own centre.

    Raises:
        ValueError: fewer points than clusters.
    """
    if len(points) < clusters:
        raise ValueError(f"k-means needs at least {clusters} points for {clusters} clusters, got {len(points)}")
    random = np.random.default_rng(seed)
    sample = random.permutation(len(points))[:_SEEDING]
    sampled = points[torch.from_numpy(sample).to(points.device)].float().cpu().numpy()
    first, _ = kmeans_plusplus(sampled, clusters, random_state=int(random.integers(2**31)))
    centres = torch.from_numpy(np.ascontiguousarray(first)).to(points)  # [K, C]
    cluster = torch.full((len(points),), -1, device=points.device)
    for _ in range(iterations):
        affinity = points @ centres.T - 0.5 * centres.square().sum(1)  # [M, K]: largest where the centre is nearest
        nearest, found = affinity.max(1)
        counts = torch.bincount(found, minlength=clusters)
        for empty in torch.nonzero(counts == 0).flatten().tolist():
            furthest = int((points.square().sum(1) - 2 * nearest).argmax())
            found[furthest], nearest[furthest] = empty, torch.inf
        if torch.equal(found, cluster):
            break
        cluster = found
        counts = torch.bincount(cluster, minlength=clusters)
        sums = torch.zeros_like(centres).index_add_(0, cluster, points)
        centres = sums / counts.clamp_min(1)[:, None]
    return cluster


def top_down(cluster: Tensor, rows: Tensor, clusters: int) -> Tensor:
    """The place of each cluster from the top, from 0, by the mean of its rows; ``(K,)``. Empty ones come last."""
    sums = torch.zeros(clusters, dtype=torch.float64, device=rows.device).index_add_(0, cluster, rows.double())
    means = sums / torch.bincount(cluster, minlength=clusters)  # [K], NaN for an empty one
    order = means.nan_to_num(nan=torch.inf).argsort(stable=True)
    places = torch.empty_like(order)
    places[order] = torch.arange(clusters, device=rows.device)
    return places


def uniform_stripes(count: int, height: int, width: int, parts: int) -> Tensor:
    """What stands in where clustering is impossible: equal stripes 1 to ``parts`` without background, uint8."""
    rows = 1 + torch.arange(height) * parts // height
    return rows.to(torch.uint8)[None, :, None].expand(count, height, width).clone()
