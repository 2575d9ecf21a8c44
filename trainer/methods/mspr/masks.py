"""T-MSPR's human semantic perception: which cell shows which region, and how much of each region can be seen."""

from __future__ import annotations

import torch
from torch import Tensor, nn

WHOLE = 0.9
"""From this visible share on a region counts as whole."""


class RegionMasks(nn.Module):  # type: ignore[misc]
    """One linear layer on the cells, D to background and K regions, without a bias; weights start at N(0, 1e-4)."""

    def __init__(self, width: int, regions: int) -> None:
        super().__init__()
        self.classify = nn.Conv2d(width, 1 + regions, 1, bias=False)
        nn.init.normal_(self.classify.weight, std=1e-4)

    def forward(self, grid: Tensor) -> Tensor:
        """``(N, D, h, w)`` to logits O ``(N, 1 + K, h, w)``; the masks are their softmax.

        The public code stretches O to [0, 1] by the extremes of the whole batch before its softmax: masks then stay
        within [.07, .36], and an image's masks depend on its batch mates, at test too.
        """
        logits: Tensor = self.classify(grid)
        return logits


def found_regions(logits: Tensor) -> Tensor:
    """Whether any cell shows each region more than anything else: ``(N, 1 + K, h, w)`` to 0 or 1, ``(N, K)``."""
    shown = torch.nn.functional.one_hot(logits.argmax(1), logits.shape[1])  # [N, h, w, 1 + K]
    return shown.flatten(1, 2).amax(1)[:, 1:].to(logits.dtype)


class MaskVisibility(nn.Module):  # type: ignore[misc]
    """Ours: a region's visibility is the area of its mask over the mean area of the masks of whole regions.

    No weights of its own and no gradient: the reference areas are running means over training images in which the
    region is known to be whole, kept as buffers.
    """

    def __init__(self, regions: int, momentum: float = 0.05) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("area", torch.full((regions,), 1.0 / (1 + regions)))

    def forward(self, masks: Tensor) -> Tensor:
        """Masks ``(N, K, h, w)`` to visibilities ``(N, K)`` in [0, 1]."""
        return (masks.mean((2, 3)) / self.area).clamp(0.0, 1.0)

    @torch.no_grad()
    def learn(self, masks: Tensor, visibility: Tensor, certain: Tensor) -> None:
        """Moves the reference areas.

        Args:
            masks: ``(N, K, h, w)``.
            visibility, certain: ``(N, K)``, the true visible share and whether it is known.
        """
        whole = (certain & (visibility >= WHOLE)).to(masks.dtype)  # [N, K]
        counts = whole.sum(0)
        mean = (masks.mean((2, 3)) * whole).sum(0) / counts.clamp_min(1)
        moved = self.area + self.momentum * (mean.to(self.area.dtype) - self.area)
        self.area.copy_(torch.where(counts > 0, moved, self.area).clamp_min(1e-4))
