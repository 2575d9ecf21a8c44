"""Pieces that part-based methods share: feature fusion, part attention, part pooling, BNNeck."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Fusion(nn.Module):  # type: ignore[misc]
    """Maps of several strides to one map at the finest: 1x1 convolutions, bilinear enlargement, sum, BN, ReLU.

    The convolution comes before the enlargement: the two commute, and it is cheaper on the small map.
    """

    def __init__(self, channels: Sequence[int], width: int) -> None:
        super().__init__()
        self.laterals = nn.ModuleList(nn.Conv2d(c, width, 1, bias=False) for c in channels)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        fused = self.laterals[0](maps[0])  # [N, C, h, w]
        for lateral, features in zip(self.laterals[1:], maps[1:], strict=True):
            coarse = lateral(features)
            fused = fused + F.interpolate(coarse, size=fused.shape[2:], mode="bilinear", align_corners=False)
        return F.relu(self.norm(fused))


class PartAttention(nn.Module):  # type: ignore[misc]
    """Says of every cell which part of the person it shows: 1x1 convolution, softmax over background and K regions."""

    def __init__(self, channels: int, regions: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)
        self.classify = nn.Conv2d(channels, 1 + regions, 1)

    def forward(self, features: Tensor) -> Tensor:
        """``(N, C, h, w)`` to logits ``(N, 1 + K, h, w)``, background first."""
        logits: Tensor = self.classify(self.norm(features))
        return logits


def attend(features: Tensor, attention: Tensor) -> Tensor:
    """Attention-weighted mean of the map, a row a region.

    Args:
        features: ``(N, C, h, w)``. attention: ``(N, K, h, w)`` >= 0.

    Returns:
        ``(N, K, C)``; near zero mass it stays finite.
    """
    cells = features.flatten(2).transpose(1, 2)  # [N, hw, C]
    weights = attention.flatten(2)  # [N, K, hw]
    weights = weights / weights.sum(2, keepdim=True).clamp_min(1e-4)
    return torch.bmm(weights, cells)


class Neck(nn.Module):  # type: ignore[misc]
    """Projection to an embedding and BNNeck (Luo et al., CVPRW 2019): batch norm whose bias stays 0, then unit norm."""

    def __init__(self, channels: int, dim: int, *, project: bool = True) -> None:
        super().__init__()
        self.project = nn.Linear(channels, dim, bias=False) if project else nn.Identity()
        self.norm = nn.BatchNorm1d(dim)
        self.norm.bias.requires_grad_(False)

    def forward(self, pooled: Tensor) -> Tensor:
        """``(N, C)`` to ``(N, D)`` of unit norm."""
        return F.normalize(self.norm(self.project(pooled)), dim=1, eps=1e-6)


class UnitNorm(nn.Module):  # type: ignore[misc]
    """To unit norm, and nothing else."""

    def forward(self, embedding: Tensor) -> Tensor:
        """``(N, D)`` to ``(N, D)``."""
        return F.normalize(embedding, dim=1, eps=1e-6)


class BNNeck(nn.BatchNorm1d):  # type: ignore[misc]
    """The BNNeck as published (Luo et al., CVPRW 2019): batch norm whose bias stays 0.

    The triplet loss takes what goes in, the classifier and the search what comes out; nothing is normalised here.
    """

    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        self.bias.requires_grad_(False)


class Classifier(nn.Linear):  # type: ignore[misc]
    """Scores of the training identities, ``(N, D)`` to ``(N, C)``; weights start at N(0, 0.001), without a bias."""

    def __init__(self, dim: int, identities: int) -> None:
        super().__init__(dim, identities, bias=False)
        nn.init.normal_(self.weight, std=0.001)
