"""Part attention with learnt visibility: the method of the embedded baseline.

A 1x1 pixel classifier says which cell shows which part of the person; each part is the attention-weighted mean of
the map, projected to an embedding of unit norm; a small head says which share of each part can be seen. No pose and
no parsing at test time: the generated part maps and true visibilities supervise the training only.

Training minimises the very distance that ranks: identities have proxies with the same parts, and both the
classification score and the triplet's distance are weighted by the true visibilities, so that a hidden part is
neither blamed nor learnt from. (Attention and pooling in the manner of BPBReID, Somers et al., WACV 2023; proxies
in the manner of NormFace, Wang et al., 2017.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional as F

from glimpse.parts import Part, PartSchema
from glimpse.people import PARTS
from trainer.backbones import Backbone, create_backbone
from trainer.heads import Fusion, Neck, PartAttention, attend
from trainer.losses import (
    identity_loss,
    pairwise_distance,
    pairwise_similarity,
    part_map_loss,
    soft_batch_hard_triplet,
    visibility_loss,
)

if TYPE_CHECKING:
    from trainer.data.batch import Batch
    from trainer.recipe import Recipe


_ROWS = 8  # bands in which the visibility head counts each part


class GlimpseOptions(BaseModel):
    """The recipe's ``options``; an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    width: int = Field(default=256, ge=8, description="channels of the fused map")
    global_dim: int = Field(default=256, ge=2)
    part_dim: int = Field(default=64, ge=2)
    global_always_visible: bool = Field(
        default=False, description="whether `global` counts in full however little is seen"
    )
    scale: float = Field(default=16.0, gt=0, description="of the cosine scores in the classification losses")
    smoothing: float = Field(default=0.1, ge=0, lt=1)
    sharpness: float = Field(default=10.0, gt=0, description="of the triplet's soft margin")
    parts_weight: float = Field(default=1.0, ge=0, description="of the classification by the visibility-weighted score")
    global_weight: float = Field(default=0.5, ge=0, description="of the classification by `global` alone")
    triplet_weight: float = Field(default=1.0, ge=0)
    map_weight: float = Field(default=1.0, ge=0)
    visibility_weight: float = Field(default=1.0, ge=0)


class Glimpse(nn.Module):  # type: ignore[misc]
    """Parts ``global, head, upper, arms, legs, feet``; see the module's docstring."""

    Options = GlimpseOptions

    def __init__(self, backbone: Backbone, options: GlimpseOptions, identities: int) -> None:
        super().__init__()
        self.options = options
        self.backbone = backbone
        person, *names = PARTS
        regions = len(names)
        whole = Part(person, options.global_dim, always_visible=options.global_always_visible)
        self.schema = PartSchema((whole, *(Part(name, options.part_dim) for name in names)))
        self.register_buffer("mean", 255 * torch.tensor(backbone.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", 255 * torch.tensor(backbone.std).view(1, 3, 1, 1), persistent=False)
        self.fusion = Fusion(backbone.channels, options.width)
        self.attention = PartAttention(options.width, regions)
        self.necks = nn.ModuleList(Neck(options.width, dim) for dim in self.schema.dims)
        evidence = (2 + _ROWS) * regions
        self.visibility = nn.Sequential(
            nn.BatchNorm1d(evidence), nn.Linear(evidence, 64), nn.ReLU(), nn.Linear(64, len(self.schema))
        )
        # Small, because only directions count: a step then turns them further.
        self.proxies = nn.Parameter(0.05 * torch.randn(identities, self.schema.width))

    @classmethod
    def from_recipe(cls, recipe: Recipe, identities: int) -> Glimpse:
        """Builds the network a recipe describes, for ``identities`` training identities."""
        options = GlimpseOptions.model_validate(recipe.options)
        chosen = recipe.backbone
        backbone = create_backbone(
            chosen.name, chosen.strides, pretrained=chosen.pretrained, frozen=chosen.frozen_stages
        )
        return cls(backbone, options, identities)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 RGB ``(N, H, W, 3)`` to vectors ``(N, sum D)`` and visibility ``(N, P)``."""
        vectors, seen, _ = self._describe(images)
        visibility = torch.sigmoid(seen)
        if self.options.global_always_visible:
            visibility = torch.cat([torch.ones_like(visibility[:, :1]), visibility[:, 1:]], dim=1)
        return vectors, visibility

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """The weighted terms of the loss."""
        options, dims = self.options, self.schema.dims
        vectors, seen, logits = self._describe(batch.images)
        vectors, seen, logits = vectors.float(), seen.float(), logits.float()
        weight, known = batch.visibility, batch.known  # [N, P], [N]
        if options.global_always_visible:
            weight = torch.cat([torch.ones_like(weight[:, :1]), weight[:, 1:]], dim=1)
        proxies = torch.cat([F.normalize(part, dim=1) for part in self.proxies.split(dims, dim=1)], dim=1)
        whole = torch.ones_like(weight[:1]).expand(len(proxies), -1)
        by_parts = pairwise_similarity(vectors, weight, proxies, whole, dims)  # [N, C]
        by_global = vectors[:, : dims[0]] @ proxies[:, : dims[0]].T  # [N, C]
        distance = pairwise_distance(vectors, weight, vectors, weight, dims)  # [N, N]
        return {
            "identity": options.parts_weight
            * identity_loss(by_parts[known], batch.identity[known], scale=options.scale, smoothing=options.smoothing),
            "global": options.global_weight
            * identity_loss(by_global[known], batch.identity[known], scale=options.scale, smoothing=options.smoothing),
            "triplet": options.triplet_weight
            * soft_batch_hard_triplet(distance, batch.identity, sharpness=options.sharpness),
            "map": options.map_weight * part_map_loss(logits, batch.regions),
            "visibility": options.visibility_weight * visibility_loss(seen, batch.visibility),
        }

    def _describe(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Vectors ``(N, sum D)``, visibility logits ``(N, P)``, attention logits ``(N, 1 + K, h, w)``."""
        pixels = (images.permute(0, 3, 1, 2).float() - self.mean) / self.std
        features = self.fusion(self.backbone(pixels))  # [N, C, h, w]
        logits = self.attention(features)
        attention = logits.softmax(1)  # [N, 1 + K, h, w]
        regions = attention[:, 1:]
        person = 1.0 - attention[:, :1]
        pooled = attend(features, torch.cat([person, regions], dim=1))  # [N, 1 + K, C]
        vectors = torch.cat([neck(pooled[:, p]) for p, neck in enumerate(self.necks)], dim=1)
        return vectors, self.visibility(_layout(regions)), logits


def _layout(regions: Tensor) -> Tensor:
    """What the visibility head sees: where each part was found, and how much of it; ``(N, (2 + rows) K)``.

    Nothing but the attention: given the map's features too, the head learns the occluders of the training and is
    wrong about all others.
    """
    mass, peak = regions.mean((2, 3)), regions.amax((2, 3))  # [N, K]
    rows = F.adaptive_avg_pool2d(regions, (_ROWS, 1)).flatten(1)  # [N, K * rows]
    return torch.cat([torch.log(mass + 1e-4), peak, rows], dim=1)
