"""Cross-entropy over the cells of a map against label maps of the image's resolution."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from trainer.data.annotated import UNKNOWN


def cell_labels(labels: Tensor, size: tuple[int, int]) -> Tensor:
    """Label maps uint8 ``(N, H, W)`` at the centres of a map's cells; int64 ``(N, h, w)``.

    The label moves with the pixels at full resolution and is reduced last: erasing in image coordinates a map of a
    quarter of the size, as public code does, misses it three times in four.
    """
    # nearest-exact takes the middle of a cell, plain nearest its upper left corner. It wants floats.
    return F.interpolate(labels[:, None].float(), size=size, mode="nearest-exact")[:, 0].long()


def pixel_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy over all labelled cells of the batch; 0 when there are none.

    Args:
        logits: ``(N, K, h, w)``. labels: uint8 ``(N, H, W)``, `UNKNOWN` where there is no label.
    """
    cells = cell_labels(labels, (int(logits.shape[2]), int(logits.shape[3])))
    summed = F.cross_entropy(logits, cells, ignore_index=UNKNOWN, reduction="sum")
    return summed / (cells != UNKNOWN).sum().clamp_min(1)
