"""What supervises part attention and visibility."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

UNKNOWN = 255
"""Label of a pixel whose region nobody knows."""


def part_map_loss(logits: Tensor, regions: Tensor, *, smoothing: float = 0.0) -> Tensor:
    """Pixel cross-entropy of the part attention against the share of each region in each cell.

    Args:
        logits: ``(N, 1 + K, h, w)``, background first.
        regions: uint8 ``(N, H, W)``: 0 for background and for whatever hides the person, else 1..K. Cells with a
            pixel of `UNKNOWN` are left out; 0 when nothing is left.
        smoothing: label smoothing.
    """
    count = logits.shape[1]
    unknown = regions == UNKNOWN  # [N, H, W]
    shares = F.one_hot(regions.masked_fill(unknown, 0).long(), count).permute(0, 3, 1, 2).to(logits.dtype)
    shares = F.adaptive_avg_pool2d(shares, logits.shape[2:])  # [N, 1 + K, h, w]
    known = F.adaptive_max_pool2d(unknown.to(logits.dtype)[:, None], logits.shape[2:])[:, 0] == 0  # [N, h, w]
    cells = F.cross_entropy(logits, shares, label_smoothing=smoothing, reduction="none")
    return (cells * known).sum() / known.sum().clamp_min(1)


def visibility_loss(logits: Tensor, visibility: Tensor, certain: Tensor | None = None) -> Tensor:
    """Binary cross-entropy against the true visible share: its minimum is a calibrated estimate of that share.

    ``certain`` ``(N, P)`` leaves out what is not known; 0 when nothing is left.
    """
    if certain is None:
        return F.binary_cross_entropy_with_logits(logits, visibility)
    each = F.binary_cross_entropy_with_logits(logits, visibility, reduction="none")
    return (each * certain).sum() / certain.sum().clamp_min(1)
