"""The centres of the centre loss: one a training identity, moved by gradient descent of their own."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from trainer.losses import centre_loss, moved_centres


class Centres(nn.Module):  # type: ignore[misc]
    """`centre_loss` with centres that follow the features, after every optimiser step.

    They are a buffer, not a parameter: Luo et al. give them a plain gradient descent of rate 0.5 beside the network's
    Adam. Under several processes each step is that of the first one's images.
    """

    def __init__(self, identities: int, dim: int, rate: float) -> None:
        super().__init__()
        self.rate = rate
        self.register_buffer("points", torch.randn(identities, dim))
        self._pulled: list[tuple[Tensor, Tensor]] = []  # features and identities since the last step

    def forward(self, features: Tensor, identity: Tensor) -> Tensor:
        """The loss of features ``(N, D)``, which are remembered for `step`."""
        self._pulled.append((features.detach(), identity))
        return centre_loss(features, identity, self.points)

    def step(self) -> None:
        """Moves the centres towards what was pulled to them since the last step."""
        if self._pulled:
            features, identity = (torch.cat(pieces) for pieces in zip(*self._pulled, strict=True))
            self.points.copy_(moved_centres(self.points, features, identity, rate=self.rate))
            self._pulled.clear()
