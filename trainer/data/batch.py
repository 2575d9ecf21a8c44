"""What a training step sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class Sample:
    """One training image after its augmentation."""

    image: NDArray[np.uint8]
    """``(H, W, 3)`` RGB."""
    identity: int
    regions: NDArray[np.uint8]
    """``(H, W)``: the visible pixels of each body region, 1..K; 0 for everything else."""
    visibility: NDArray[np.float32]
    """``(1 + K,)``: the visible share of the whole person, then of each region."""
    known: bool = True
    """False for a recoloured person: a person of its own within the batch, but no training identity."""


@dataclass
class Batch:
    """N samples as tensors."""

    images: Tensor
    """uint8 ``(N, H, W, 3)``."""
    identity: Tensor
    """int64 ``(N,)``, counted from 0 over the training identities."""
    regions: Tensor
    """uint8 ``(N, H, W)``."""
    visibility: Tensor
    """float32 ``(N, 1 + K)``."""
    known: Tensor
    """bool ``(N,)``: whether ``identity`` may be classified."""

    @classmethod
    def of(cls, samples: Sequence[Sample]) -> Batch:
        return cls(
            torch.from_numpy(np.stack([sample.image for sample in samples])),
            torch.tensor([sample.identity for sample in samples]),
            torch.from_numpy(np.stack([sample.regions for sample in samples])),
            torch.from_numpy(np.stack([sample.visibility for sample in samples])),
            torch.tensor([sample.known for sample in samples]),
        )

    def to(self, device: torch.device | str) -> Batch:
        """Moved to a device; Lightning calls it."""
        return Batch(*(tensor.to(device) for tensor in vars(self).values()))
