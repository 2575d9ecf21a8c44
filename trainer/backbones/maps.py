"""What every backbone gives: feature maps, and tokens (one for the image, one for each cell of its deepest map)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from trainer.backbones.blocks import LastBlock


@dataclass(frozen=True)
class Tokens:
    """An image as one token and a grid of them, all D wide."""

    cls: Tensor
    """``(N, D)``: a ViT's class token; of a network without one the mean of the grid."""
    grid: Tensor
    """``(N, D, h, w)``."""

    @property
    def cells(self) -> Tensor:
        """The grid row by row: ``(N, h * w, D)``."""
        return self.grid.flatten(2).transpose(1, 2)


class Backbone(nn.Module):  # type: ignore[misc]
    """Feature maps of a timm model at chosen strides.

    Args:
        network: what is run; of this class, a timm ``features_only`` model.
        strides: of its maps in input pixels; left out, what timm says.
        frozen: how many of its first stages stay as they are: no gradient, batch-norm statistics fixed. 0 trains
            all; 1 freezes the stem; each further one a stage (of a ViT, a block).

    Attributes:
        channels: of each map. strides: of each map, in input pixels.
        mean, std: what the weights expect of pixels in [0, 1], RGB.
        width: D of the tokens.
    """

    def __init__(self, network: nn.Module, frozen: int = 0, *, strides: Sequence[int] | None = None) -> None:
        super().__init__()
        self.network = network
        self.channels: list[int] = self._channels()
        self.strides: list[int] = list(strides) if strides is not None else network.feature_info.reduction()
        self.mean: tuple[float, ...] = tuple(network.pretrained_cfg["mean"])
        self.std: tuple[float, ...] = tuple(network.pretrained_cfg["std"])
        for name, values in (("_mean", self.mean), ("_std", self.std)):
            self.register_buffer(name, 255 * torch.tensor(values).view(1, 3, 1, 1), persistent=False)
        stages = self._stages()
        if frozen > len(stages):
            raise ValueError(f"frozen must be at most {len(stages)} for this backbone, got {frozen}")
        self._frozen = [part for stage in stages[:frozen] for part in stage]
        for part in self._frozen:
            part.requires_grad_(False)

    @property
    def width(self) -> int:
        """D of `tokens`."""
        return self.channels[-1]

    def pixels(self, images: Tensor) -> Tensor:
        """uint8 RGB ``(N, H, W, 3)`` to what the network takes: normalised ``(N, 3, H, W)``."""
        return (images.permute(0, 3, 1, 2).float() - self._mean) / self._std

    def forward(self, pixels: Tensor, cameras: Tensor | None = None) -> list[Tensor]:
        """Normalised images ``(N, 3, H, W)`` to maps ``(N, C_i, H / s_i, W / s_i)``, finest first.

        Args:
            pixels: of `pixels`.
            cameras: int64 ``(N,)``; only a backbone with a camera embedding looks at them.
        """
        maps: list[Tensor] = self.network(pixels)
        return maps

    def tokens(self, pixels: Tensor, cameras: Tensor | None = None) -> Tokens:
        """Normalised images ``(N, 3, H, W)`` to tokens; here the deepest map and its mean (global average pooling)."""
        grid = self(pixels, cameras)[-1]  # [N, D, h, w]
        return Tokens(grid.mean((2, 3)), grid)

    def take_last_block(self) -> LastBlock:
        """The transformer block behind the tokens, for a method that runs copies of it (TransReID's JPM, T-MSPR).

        A ViT gives its own last block and norm away: its `tokens` are then those before it. A network of another
        kind stays as it is and gets a new block, untrained.
        """
        return LastBlock.fresh(self.width)

    def train(self, mode: bool = True) -> Backbone:
        super().train(mode)
        for part in self._frozen:
            if isinstance(part, nn.Module):
                part.eval()
        return self

    def _channels(self) -> list[int]:
        channels: list[int] = self.network.feature_info.channels()
        return channels

    def _stages(self) -> list[Iterable[nn.Module | nn.Parameter]]:
        """The stem (everything before the first ``blocks``, ``layer`` or ``stages``), then the stages."""
        stem: list[nn.Module | nn.Parameter] = []
        stages: list[Iterable[nn.Module | nn.Parameter]] = []
        for name, module in self.network.named_children():
            if name.startswith(("blocks", "stages")) and isinstance(module, nn.Sequential | nn.ModuleList):
                stages += [[stage] for stage in module.children()]
            elif re.match(r"(layer|stages_)\d", name):
                stages.append([module])
            elif not stages:
                stem.append(module)
        return [stem, *stages]
