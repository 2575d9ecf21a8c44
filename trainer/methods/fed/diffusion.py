"""FED's feature diffusion module: a feature mixed with the memory of people it resembles, as if they stood in front."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class GatedFeedForward(nn.Module):  # type: ignore[misc]
    """Layer norm, Linear D to 8D, GEGLU, Linear 4D to D; no residual."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.expand = nn.Linear(width, 8 * width)
        self.reduce = nn.Linear(4 * width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        values, gates = self.expand(self.norm(tokens)).chunk(2, dim=-1)
        return self.reduce(values * F.gelu(gates))


class CrossAttention(nn.Module):  # type: ignore[misc]
    """One query token attends to K others, W wide, with ``heads`` heads.

    Query and keys come at one scale (unit norm times sqrt W, so that entries are of order one), and logits are scaled
    by the true head width: the public code has a query of any length beside keys of unit norm, and divides by the
    square root of 96 though its heads are 384 wide.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"a width of {width} does not divide among {heads} heads")
        self.heads, self.head_width = heads, width // heads
        self.query = nn.Linear(width, width, bias=False)
        self.key_value = nn.Linear(width, 2 * width, bias=False)
        self.project = nn.Linear(width, width)

    def forward(self, query: Tensor, others: Tensor) -> Tensor:
        """``(N, W)`` and ``(N, K, W)``, of any length, to ``(N, W)``."""
        keys, values = self.key_value(self._scaled(others)).chunk(2, dim=2)  # [N, K, W]
        attention = self._weights(self.query(self._scaled(query)), keys)  # [N, heads, K]
        mixed = torch.einsum("nhk,nkhd->nhd", attention, self._split(values))
        return self.project(mixed.flatten(1))

    def weights(self, query: Tensor, others: Tensor) -> Tensor:
        """The attention itself, ``(N, heads, K)``."""
        keys, _ = self.key_value(self._scaled(others)).chunk(2, dim=2)
        return self._weights(self.query(self._scaled(query)), keys)

    def _weights(self, query: Tensor, keys: Tensor) -> Tensor:
        logits = torch.einsum("nhd,nkhd->nhk", self._split(query), self._split(keys))
        return (logits * self.head_width**-0.5).softmax(2)

    def _split(self, tokens: Tensor) -> Tensor:
        return tokens.unflatten(-1, (self.heads, self.head_width))

    def _scaled(self, tokens: Tensor) -> Tensor:
        return F.normalize(tokens, dim=-1) * tokens.shape[-1] ** 0.5


class FeatureDiffusion(nn.Module):  # type: ignore[misc]
    """``FFN3(FFN2(attention) * gate + f)``, stripe by stripe; the two FFNs have weights of their own."""

    def __init__(self, width: int, stripes: int, heads: int) -> None:
        super().__init__()
        self.stripes = stripes
        self.attention = CrossAttention(stripes * width, heads)
        self.first = GatedFeedForward(width)
        self.second = GatedFeedForward(width)

    def forward(self, features: Tensor, gates: Tensor, others: Tensor) -> Tensor:
        """The diffused feature, before its batch norm.

        Args:
            features: ``(N, S * D)`` after the first stage's batch norm.
            gates: ``(N, S)``, what of each stripe is visible.
            others: ``(N, K, S * D)``, centres of other identities.
        """
        mixed = self.attention(features, others).unflatten(1, (self.stripes, -1))  # [N, S, D]
        stripes = features.unflatten(1, (self.stripes, -1))
        return self.second(self.first(mixed) * gates[:, :, None] + stripes).flatten(1)
