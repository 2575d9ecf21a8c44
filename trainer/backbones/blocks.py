"""The last transformer block as a piece of its own, and TransReID's jigsaw of the tokens it reads (JPM)."""

from __future__ import annotations

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn


class LastBlock(nn.Module):  # type: ignore[misc]
    """One pre-norm transformer block and the layer norm behind it; ``copy.deepcopy`` makes further branches.

    Args:
        block, norm: as timm's ViTs have them.
        class_token: whether the first token of a sequence is a class token. Where the backbone has none, the mean of
            the cells that are given stands for it.
    """

    def __init__(self, block: nn.Module, norm: nn.Module, *, class_token: bool) -> None:
        super().__init__()
        self.block = block
        self.norm = norm
        self.class_token = class_token

    @classmethod
    def fresh(cls, width: int) -> LastBlock:
        """An untrained block for the cells of a convolutional map; heads are about 64 wide."""
        heads = next(h for h in range(max(1, width // 64), 0, -1) if width % h == 0)
        block = Block(width, heads, qkv_bias=True)
        for module in block.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
        return cls(block, nn.LayerNorm(width, eps=1e-6), class_token=False)

    def forward(self, cls: Tensor, cells: Tensor) -> tuple[Tensor, Tensor]:
        """The image's token ``(N, D)`` and its cells ``(N, L, D)``, both after attention among all of them."""
        first = cls if self.class_token else cells.mean(1)
        out = self.sequence(torch.cat([first[:, None], cells], dim=1))
        return out[:, 0], out[:, 1:]

    def sequence(self, tokens: Tensor) -> Tensor:
        """Any tokens ``(N, L, D)`` to as many."""
        out: Tensor = self.norm(self.block(tokens))
        return out


def jigsaw_order(cells: int, groups: int, *, shift: int = 5, shuffle: int = 2) -> list[list[int]]:
    """Which cells make each group of TransReID's jigsaw patch module (He et al., ICCV 2021, section 3.2).

    The first ``shift`` cells move to the end; the sequence is cut into ``shuffle`` equal runs, which are read in
    turn (like a riffle of cards), and then into ``groups`` equal pieces. A sequence that does not divide repeats its
    last cell before the riffle and loses what is left over behind the last group.

    Args:
        cells: how many there are, row by row. groups: pieces. shift: m. shuffle: runs.

    Raises:
        ValueError: fewer cells than groups, or a shift beyond the cells.
    """
    if not (1 <= groups <= cells and 0 <= shift <= cells and 1 <= shuffle <= cells):
        raise ValueError(
            f"{cells} cells cannot be shifted by {shift}, riffled from {shuffle} runs and cut into {groups} groups: "
            f"each must be at most the number of cells"
        )
    order = [*range(shift, cells), *range(shift)]
    order += [order[-1]] * (-len(order) % shuffle)
    run = len(order) // shuffle
    riffled = [order[piece * run + place] for place in range(run) for piece in range(shuffle)]
    size = len(riffled) // groups
    return [riffled[group * size : (group + 1) * size] for group in range(groups)]
