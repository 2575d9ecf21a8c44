"""Patches of a ViT at any image size: overlapping ones, and positions resampled to their grid."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class OverlapPatchEmbed(nn.Module):  # type: ignore[misc]
    """The patch embedding of a timm ViT with a stride of its own: patches overlap where it is below their size.

    TransReID (He et al., ICCV 2021) takes strides 12 and 11 for patches of 16: at 256 x 128 pixels a grid of
    21 x 10 and 22 x 11 instead of 16 x 8. Weights are those of the embedding it replaces.
    """

    def __init__(self, embed: nn.Module, stride: int | None = None) -> None:
        super().__init__()
        self.proj: nn.Conv2d = embed.proj
        self.norm: nn.Module = embed.norm
        self.patch: tuple[int, int] = tuple(embed.patch_size)
        self.stride = self.patch[0] if stride is None else stride
        if not 1 <= self.stride <= min(self.patch):
            raise ValueError(f"patch_stride must be between 1 and the patch size {min(self.patch)}, got {stride}")
        self.proj.stride = (self.stride, self.stride)

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of patches in an image; ValueError if it is smaller than a patch."""
        rows, columns = (
            (edge - patch) // self.stride + 1 for edge, patch in zip((height, width), self.patch, strict=True)
        )
        if rows < 1 or columns < 1:
            raise ValueError(f"an image of {height} x {width} is smaller than a patch of {self.patch}")
        return rows, columns

    def forward(self, pixels: Tensor) -> Tensor:
        """``(N, 3, H, W)`` to cells ``(N, h * w, D)``, row by row."""
        cells: Tensor = self.norm(self.proj(pixels).flatten(2).transpose(1, 2))
        return cells


def resample_positions(positions: Tensor, old: tuple[int, int], new: tuple[int, int]) -> Tensor:
    """Position embeddings ``(1, prefix + h * w, D)`` for another grid; bilinear, as TransReID does.

    Embeddings of class and register tokens, which come first, stay.
    """
    if old == new:
        return positions
    prefix = positions.shape[1] - old[0] * old[1]
    grid = positions[:, prefix:].transpose(1, 2).unflatten(2, old)  # [1, D, h, w]
    grid = F.interpolate(grid, size=new, mode="bilinear", align_corners=False)
    return torch.cat([positions[:, :prefix], grid.flatten(2).transpose(1, 2)], dim=1)
