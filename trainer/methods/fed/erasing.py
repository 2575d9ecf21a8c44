"""FED's occlusion erasing module, and the labels that teach it: what share of each stripe is hidden."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class OcclusionErasing(nn.Module):  # type: ignore[misc]
    """A gate in [0, 1] for each stripe, with its own weights: Linear D to D/4, layer norm, Linear to 1, sigmoid."""

    def __init__(self, width: int, stripes: int) -> None:
        super().__init__()
        hidden = max(1, width // 4)
        self.gates = nn.ModuleList(
            nn.Sequential(nn.Linear(width, hidden), nn.LayerNorm(hidden), nn.Linear(hidden, 1), nn.Sigmoid())
            for _ in range(stripes)
        )

    def forward(self, stripes: Tensor) -> Tensor:
        """``(N, S, D)`` to gates ``(N, S)``."""
        return torch.cat([gate(stripes[:, s]) for s, gate in enumerate(self.gates)], dim=1)


def stripe_coverage(covered: Tensor, stripes: int) -> Tensor:
    """The covered share of each horizontal stripe: bool ``(N, H, W)`` to ``(N, S)``."""
    return F.adaptive_avg_pool2d(covered.float()[:, None], (stripes, 1)).flatten(1)


def visible_stripes(coverage: Tensor, rule: Literal["fraction", "legacy"]) -> Tensor:
    """What the gates should say of stripes of which a share is covered, both ``(N, S)``, S >= 2.

    The torch form of `trainer.occlusion.coverage.fed_labels`, where the two rules are explained; a test holds them
    together. ``fraction``: the share that is still seen. ``legacy``: FED's published rule, in {0, 1}, which calls
    every stripe visible when an occluder touches all of them.
    """
    if rule == "fraction":
        return 1.0 - coverage
    touched = coverage > 0
    most, second = coverage.topk(2, dim=1).values.unbind(1)
    single = F.one_hot(coverage.argmax(1), coverage.shape[1]).bool()
    hidden = torch.where((most > 3 * second)[:, None], single, touched)
    return torch.where(touched.all(1)[:, None], 1.0, 1.0 - hidden.float())
