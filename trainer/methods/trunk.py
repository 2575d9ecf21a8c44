"""The trunk of a method: uint8 images in, one feature map out, whatever the backbone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainer.backbones import Backbone, backbone_of

if TYPE_CHECKING:
    from trainer.recipe import Recipe


class Trunk(nn.Module):  # type: ignore[misc]
    """Normalisation and backbone, as one map at the finest of the recipe's strides.

    One stride gives that map as it is. Several are enlarged bilinearly with aligned corners and put one behind the
    other, as HRNet's head does (and with it ISP).

    Attributes:
        channels: of the map.
    """

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.network = backbone
        self.channels = sum(backbone.channels)

    @classmethod
    def from_recipe(cls, recipe: Recipe) -> Trunk:
        """The trunk a recipe describes; ValueError when there is no such backbone."""
        return cls(backbone_of(recipe))

    def forward(self, images: Tensor) -> Tensor:
        """uint8 RGB ``(N, H, W, 3)`` to ``(N, C, h, w)``."""
        first, *others = self.network(self.network.pixels(images))
        size = first.shape[2:]
        enlarged = [F.interpolate(other, size=size, mode="bilinear", align_corners=True) for other in others]
        return torch.cat([first, *enlarged], dim=1) if enlarged else first
