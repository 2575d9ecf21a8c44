"""A checkpoint made ready to be run over images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from glimpse.parts import Float32, PartFeatures
from trainer.checkpoint import Checkpoint, load_checkpoint
from trainer.loop.memory import keep_freed_memory
from trainer.loop.validation import features_of


@dataclass(frozen=True)
class Runner:
    """A checkpoint's method in evaluation mode, on an accelerator where there is one."""

    checkpoint: Checkpoint
    method: Any
    device: str

    @classmethod
    def open(cls, path: Path, threads: int | None = None) -> Runner:
        """Reads a checkpoint; ``threads`` are torch's own. CheckpointError says why it cannot be one."""
        if threads is not None:
            torch.set_num_threads(threads)
        keep_freed_memory()
        checkpoint = load_checkpoint(path)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        return cls(checkpoint, checkpoint.build().to(device), device)

    @property
    def has_attention(self) -> bool:
        """Whether `attention` can be asked for."""
        return hasattr(self.method, "attention")

    def features(self, images: NDArray[np.uint8], points: Float32 | None = None) -> PartFeatures:
        """uint8 ``(N, H, W, 3)``, and key-points where the method is given them."""
        return features_of(self.method, images, points)

    def attention(self, images: NDArray[np.uint8]) -> Float32:
        """uint8 ``(N, H, W, 3)`` to maps of the background and each region ``(N, 1 + K, h, w)``."""
        with torch.inference_mode():
            maps = self.method.attention(torch.from_numpy(images).to(self.device))
        return np.asarray(maps.float().cpu().numpy(), np.float32)
