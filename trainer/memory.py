"""A memory of one centre per training identity, and how its centres start."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainer.methods import Context


class CentreMemory(nn.Module):  # type: ignore[misc]
    """Class centres ``(C, D)`` that move towards the features of their identity (FED, Wang et al., CVPR 2022).

    Centres are buffers, so they travel in checkpoints; they are stored as they are and normalised when read. Nothing
    moves them but `fill` and `update`: no gradient, and no hidden step in a backward pass.

    Args:
        identities: C. width: D.
        momentum: what a centre keeps of itself when it meets a feature: ``c <- momentum c + (1 - momentum) f``.
    """

    def __init__(self, identities: int, width: int, momentum: float = 0.2) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("centres", torch.zeros(identities, width))
        self.register_buffer("filled", torch.tensor(False))

    @torch.no_grad()
    def fill(self, centres: Tensor) -> None:
        """Sets all centres, a copy of ``centres`` ``(C, D)``."""
        self.centres.copy_(centres)
        self.filled.fill_(True)

    @torch.no_grad()
    def update(self, features: Tensor, identity: Tensor) -> None:
        """Moves the centres of ``identity`` ``(N,)`` by ``features`` ``(N, D)``, one row after the other."""
        features = features.to(self.centres.dtype)
        for person, feature in zip(identity.tolist(), features, strict=True):
            self.centres[person].mul_(self.momentum).add_(feature, alpha=1 - self.momentum)

    def nearest_others(self, features: Tensor, identity: Tensor, count: int) -> Tensor:
        """The centres most like each feature among those of other identities.

        Args:
            features: ``(N, D)``. identity: ``(N,)``. count: how many; fewer where the memory has fewer others.

        Returns:
            ``(N, count, D)`` of unit norm, the most similar first.
        """
        centres = F.normalize(self.centres, dim=1)  # [C, D]
        cosine = F.normalize(features, dim=1) @ centres.T  # [N, C]
        own = F.one_hot(identity, len(centres)).bool()
        count = min(count, len(centres) - 1)
        chosen = cosine.masked_fill(own, -torch.inf).topk(count, dim=1).indices  # [N, count]
        return centres[chosen]


@torch.no_grad()
def identity_means(
    context: Context, describe: Callable[[Tensor], Tensor], identities: int, device: torch.device | str, batch: int = 64
) -> Tensor:
    """The mean feature of each identity's images, ``(C, D)``; zeros for an identity without images.

    Args:
        context: the training set.
        describe: uint8 ``(n, H, W, 3)`` on ``device`` to ``(n, D)``.
        identities: C.
    """
    sums: Tensor | None = None
    people = torch.from_numpy(context.identities)
    for start in range(0, len(people), batch):
        rows = range(start, min(start + batch, len(people)))
        features = describe(torch.from_numpy(context.images(list(rows))).to(device))  # [n, D]
        if sums is None:
            sums = torch.zeros(identities, features.shape[1], device=device, dtype=features.dtype)
        sums.index_add_(0, people[rows.start : rows.stop].to(device), features)
    if sums is None:
        raise ValueError("the training set has no images")
    counts = torch.bincount(people, minlength=identities).clamp_min(1).to(device)
    return sums / counts[:, None]


def gathered(tensor: Tensor) -> Tensor:
    """The rows of all processes of a distributed training, in the order of their ranks; of one process its own.

    Every process must have as many rows.
    """
    if tensor.dtype == torch.bool:
        return gathered(tensor.byte()).bool()  # not every backend takes bool
    distributed = torch.distributed
    if not (distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1):
        return tensor
    pieces = [torch.empty_like(tensor) for _ in range(distributed.get_world_size())]
    distributed.all_gather(pieces, tensor.contiguous())
    return torch.cat(pieces)
