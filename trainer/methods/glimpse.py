"""Part attention with learnt visibility: the method of the embedded baseline.

A 1x1 pixel classifier says which cell shows which part of the person; each part is the attention-weighted mean of
the map, projected to an embedding of unit norm; a small head says which share of each part can be seen. No pose and
no parsing at test time: the generated part maps and true visibilities supervise the training only.

Training minimises the very distance that ranks: identities have proxies with the same parts, and both the
classification score and the triplet's distance are weighted by the true visibilities, so that a hidden part is
neither blamed nor learnt from. A teacher, where there is one, saw the whole person: the student learns to say of a
covered copy what the teacher says of the image. (Attention and pooling in the manner of BPBReID, Somers et al., WACV
2023; proxies in the manner of NormFace, Wang et al., 2017.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional as F

from glimpse.parts import Part, PartSchema
from glimpse.people import PARTS
from trainer.backbones import Backbone, backbone_of
from trainer.heads import Fusion, Neck, PartAttention, UnitNorm, attend
from trainer.losses import (
    embedding_distillation,
    identity_loss,
    pairwise_distance,
    pairwise_similarity,
    part_map_loss,
    relation_distillation,
    soft_batch_hard_triplet,
    visibility_loss,
)

if TYPE_CHECKING:
    from trainer.data.batch import Batch, View
    from trainer.data.training import Population
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
    global_pool: Literal["attention", "embed"] = Field(
        default="attention",
        description="`global` from the map where the person is, or the embedding that a re-ID backbone brings along",
    )
    part_pool: Literal["attention", "embed"] = Field(
        default="attention",
        description="parts from the attended mean of the map, or by the backbone's own embedding of what is attended",
    )
    scale: float = Field(default=16.0, gt=0, description="of the cosine scores in the classification losses")
    smoothing: float = Field(default=0.1, ge=0, lt=1)
    sharpness: float = Field(default=10.0, gt=0, description="of the triplet's soft margin")
    parts_weight: float = Field(default=1.0, ge=0, description="of the classification by the visibility-weighted score")
    global_weight: float = Field(default=0.5, ge=0, description="of the classification by `global` alone")
    triplet_weight: float = Field(default=1.0, ge=0)
    map_weight: float = Field(default=1.0, ge=0)
    visibility_weight: float = Field(default=1.0, ge=0)
    teacher_weight: float = Field(
        default=0.0, ge=0, description="of agreement of `global` with the teacher's embedding"
    )
    relation_weight: float = Field(
        default=0.0, ge=0, description="of agreement of the weighted similarities with the teacher's"
    )
    twin_weight: float = Field(
        default=0.0, ge=0, description="of agreement between an image and its further occluded view `twin`"
    )


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
        self.views = ("twin",) if options.twin_weight else ()
        brought = getattr(backbone.network, "dim", None)
        for pool, dim in ((options.global_pool, options.global_dim), (options.part_pool, options.part_dim)):
            if pool == "embed" and dim != brought:
                raise ValueError(
                    f"pooling by 'embed' needs a backbone that brings an embedding of {dim} dims; this one brings "
                    f"{brought or 'none'}"
                )
        self.fusion = Fusion(backbone.channels, options.width)
        self.part_attention = PartAttention(options.width, regions)
        self.necks = nn.ModuleList([_neck(options.global_pool, options.width, options.global_dim, first=True)])
        self.necks.extend(_neck(options.part_pool, options.width, options.part_dim) for _ in names)
        evidence = (2 + _ROWS) * regions
        self.visibility = nn.Sequential(
            nn.BatchNorm1d(evidence), nn.Linear(evidence, 64), nn.ReLU(), nn.Linear(64, len(self.schema))
        )
        # Small, because only directions count: a step then turns them further.
        self.proxies = nn.Parameter(0.05 * torch.randn(identities, self.schema.width))

    @classmethod
    def from_recipe(cls, recipe: Recipe, population: Population) -> Glimpse:
        """Builds the network a recipe describes, for the identities of ``population``."""
        options = GlimpseOptions.model_validate(recipe.options)
        return cls(backbone_of(recipe, population.cameras), options, population.identities)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 RGB ``(N, H, W, 3)`` to vectors ``(N, sum D)`` and visibility ``(N, P)``."""
        vectors, seen, _ = self._describe(images)
        visibility = torch.sigmoid(seen)
        if self.options.global_always_visible:
            visibility = torch.cat([torch.ones_like(visibility[:, :1]), visibility[:, 1:]], dim=1)
        return vectors, visibility

    def attention(self, images: Tensor) -> Tensor:
        """``(N, 1 + K, h, w)`` summing to 1 in every cell: background, then the regions."""
        _, _, logits = self._describe(images)
        return logits.softmax(1)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """The weighted terms of the loss."""
        options, dims = self.options, self.schema.dims
        vectors, seen, logits = self._describe(batch.images)
        vectors, seen, logits = vectors.float(), seen.float(), logits.float()
        weight, known = self._weights(batch.base), batch.known  # [N, P], [N]
        proxies = torch.cat([F.normalize(part, dim=1) for part in self.proxies.split(dims, dim=1)], dim=1)
        whole = torch.ones_like(weight[:1]).expand(len(proxies), -1)
        by_parts = pairwise_similarity(vectors, weight, proxies, whole, dims)  # [N, C]
        by_global = vectors[:, : dims[0]] @ proxies[:, : dims[0]].T  # [N, C]
        distance = pairwise_distance(vectors, weight, vectors, weight, dims)  # [N, N]
        terms = {
            "identity": options.parts_weight
            * identity_loss(by_parts[known], batch.identity[known], scale=options.scale, smoothing=options.smoothing),
            "global": options.global_weight
            * identity_loss(by_global[known], batch.identity[known], scale=options.scale, smoothing=options.smoothing),
            "triplet": options.triplet_weight
            * soft_batch_hard_triplet(distance, batch.identity, sharpness=options.sharpness),
            "map": options.map_weight * part_map_loss(logits, batch.regions),
            "visibility": options.visibility_weight * visibility_loss(seen, batch.visibility, batch.certain),
        }
        if batch.teacher is not None:
            # A recoloured person is not the one the teacher saw.
            teacher = batch.teacher.masked_fill(~known[:, None], torch.nan)
            if options.teacher_weight:
                terms["teacher"] = options.teacher_weight * embedding_distillation(vectors[:, : dims[0]], teacher)
            if options.relation_weight:
                terms["relation"] = options.relation_weight * relation_distillation(1.0 - distance, teacher)
        if options.twin_weight:
            terms["twin"] = options.twin_weight * self._twin_loss(vectors, weight, batch.views["twin"])
        return terms

    def _twin_loss(self, vectors: Tensor, weight: Tensor, twin: View) -> Tensor:
        """``1 - cos`` of each part between two occluded views, by how much both show of it; each learns from both."""
        others = self._describe(twin.images)[0].float()
        dims = list(self.schema.dims)
        cosines = torch.stack(
            [(a * b).sum(1) for a, b in zip(vectors.split(dims, 1), others.split(dims, 1), strict=True)], dim=1
        )  # [N, P]
        shared = weight * self._weights(twin)
        return ((1.0 - cosines) * shared).sum() / shared.sum().clamp_min(1e-6)

    def _weights(self, view: View) -> Tensor:
        """The visibilities the losses weight by: ``(N, P)``."""
        if self.options.global_always_visible:
            return torch.cat([torch.ones_like(view.visibility[:, :1]), view.visibility[:, 1:]], dim=1)
        return view.visibility

    def _describe(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Vectors ``(N, sum D)``, visibility logits ``(N, P)``, attention logits ``(N, 1 + K, h, w)``."""
        maps = self.backbone(self.backbone.pixels(images))
        features = self.fusion(maps)  # [N, C, h, w]
        logits = self.part_attention(features)
        attention = logits.softmax(1)  # [N, 1 + K, h, w]
        regions = attention[:, 1:]
        person = 1.0 - attention[:, :1]
        pooled = attend(features, torch.cat([person, regions], dim=1))  # [N, 1 + K, C]
        embedded = pooled[:, 1:]
        if self.options.part_pool == "embed":
            embedded = self.backbone.network.embed_regions(maps[-1], regions)  # [N, K, D]
        whole = pooled[:, 0]
        if self.options.global_pool == "embed":
            whole = self.backbone.network.embed(maps[-1])
        parts = [self.necks[0](whole), *(neck(embedded[:, p]) for p, neck in enumerate(self.necks[1:]))]
        return torch.cat(parts, dim=1), self.visibility(_layout(regions)), logits


def _neck(pool: str, channels: int, dim: int, *, first: bool = False) -> nn.Module:
    """Projection and BNNeck behind an attended mean; behind an embedding BNNeck alone, behind the whole one nothing.

    The mean of a part's embedding says which part it is, and nothing of whose: batch norm takes it away.
    """
    if pool == "attention":
        return Neck(channels, dim)
    return UnitNorm() if first else Neck(dim, dim, project=False)


def _layout(regions: Tensor) -> Tensor:
    """What the visibility head sees: where each part was found, and how much of it; ``(N, (2 + rows) K)``.

    Nothing but the attention: given the map's features too, the head learns the occluders of the training and is
    wrong about all others.
    """
    mass, peak = regions.mean((2, 3)), regions.amax((2, 3))  # [N, K]
    rows = F.adaptive_avg_pool2d(regions, (_ROWS, 1)).flatten(1)  # [N, K * rows]
    return torch.cat([torch.log(mass + 1e-4), peak, rows], dim=1)
