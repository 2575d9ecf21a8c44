"""PGFA: pose-guided feature alignment (Miao et al., ICCV 2019).

A global feature that is drawn to 18 key-points: the map is multiplied by each key-point's heat-map and averaged, the
largest of the 18 is taken channel by channel, the plain average put before it, and both reduced to 256 numbers. And
p horizontal stripes, of which only those are compared that show somebody in both images: the published score
``S = (sum_i l_i^q l_i^g s_i + s_global) / (sum_i l_i^q l_i^g + 1)`` is ``1 - d / 2`` of `glimpse.distance`.

``pose: given`` is the paper's: key-points at test time too; an image without them counts as seen everywhere.
``pose: distilled`` is ours: the network learns the heat-maps and which stripes show somebody from the key-points of
the training images, and needs none afterwards.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional as F

from glimpse.parts import Part, PartSchema
from trainer.losses import identity_loss, visibility_loss
from trainer.methods.pgfa.pose import JOINTS, heat_maps, openpose18, stripes_seen
from trainer.methods.trunk import Trunk
from trainer.pose.heatmaps import SIGMA
from trainer.pose.keypoints import GAMMA
from trainer.pose.visibility import LEAST_JOINTS

if TYPE_CHECKING:
    from trainer.data.batch import Batch
    from trainer.data.training import Population
    from trainer.recipe import Recipe


class PGFAOptions(BaseModel):
    """The recipe's ``options``; the defaults are the paper's for Occluded-DukeMTMC, but for ``spread`` and what
    belongs to ``pose: distilled``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pose: Literal["given", "distilled"] = "given"
    stripes: int = Field(default=3, ge=1, le=32, description="p; 6 for Market-1501 to partial sets")
    stripes_share: float = Field(
        default=0.2, ge=0, le=1, description="lambda: of the stripes' loss; 0.9 for Market-1501 to partial sets"
    )
    part_feat: Literal["raw", "reduced256"] = Field(
        default="raw",
        description="a stripe's feature: the pooled map (the published figures) or 256 numbers (the text)",
    )
    gamma: float = Field(default=GAMMA, ge=0, description="a key-point counts when its confidence is above this")
    spread: float = Field(default=SIGMA, gt=0, description="standard deviation of a heat-map, as a share of the height")
    dropout: float = Field(default=0.5, ge=0, lt=1)
    map_weight: float = Field(default=1.0, ge=0, description="distilled: of the loss of the heat-maps")
    seen_weight: float = Field(default=1.0, ge=0, description="distilled: of the loss of the stripes' visibility")


class ClassBlock(nn.Module):  # type: ignore[misc]
    """Dropout, linear to 256, batch norm (the feature), dropout, classifier."""

    dim = 256

    def __init__(self, channels: int, identities: int, dropout: float) -> None:
        super().__init__()
        self.drop = nn.Dropout(dropout)
        self.reduce = nn.Linear(channels, self.dim)
        self.norm = nn.BatchNorm1d(self.dim)
        self.classify = nn.Linear(self.dim, identities)
        nn.init.kaiming_normal_(self.reduce.weight, mode="fan_out")
        nn.init.zeros_(self.reduce.bias)
        nn.init.normal_(self.norm.weight, 1.0, 0.02)
        nn.init.normal_(self.classify.weight, std=0.001)
        nn.init.zeros_(self.classify.bias)

    def forward(self, pooled: Tensor) -> Tensor:
        """``(N, C)`` to the feature ``(N, 256)``."""
        feature: Tensor = self.norm(self.reduce(self.drop(pooled)))
        return feature

    def scores(self, pooled: Tensor) -> Tensor:
        """``(N, C)`` to ``(N, identities)``."""
        scores: Tensor = self.classify(self.drop(self(pooled)))
        return scores


class PGFA(nn.Module):  # type: ignore[misc]
    """Parts ``global, stripe1 ... stripeP``, top to bottom; see the module's docstring."""

    Options = PGFAOptions

    def __init__(self, trunk: Trunk, options: PGFAOptions, population: Population) -> None:
        super().__init__()
        self.options = options
        self.pose = options.pose
        self.backbone = trunk
        channels, p = trunk.channels, options.stripes
        part_dim = channels if options.part_feat == "raw" else ClassBlock.dim
        whole = Part("global", ClassBlock.dim, always_visible=True)
        self.schema = PartSchema((whole, *(Part(f"stripe{k + 1}", part_dim) for k in range(p))))
        self.whole = ClassBlock(2 * channels, population.identities, options.dropout)
        self.parts = nn.ModuleList(ClassBlock(channels, population.identities, options.dropout) for _ in range(p))
        if options.pose == "distilled":
            self.joints = nn.Conv2d(channels, JOINTS, 1)
            self.seen = nn.Sequential(
                nn.BatchNorm1d(JOINTS * p), nn.Linear(JOINTS * p, 64), nn.ReLU(), nn.Linear(64, p)
            )

    @classmethod
    def from_recipe(cls, recipe: Recipe, population: Population) -> PGFA:
        """Builds the network a recipe describes."""
        return cls(Trunk.from_recipe(recipe), PGFAOptions.model_validate(recipe.options), population)

    def forward(self, images: Tensor, points: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """uint8 RGB ``(N, H, W, 3)`` to vectors ``(N, 256 + p D)`` and visibility ``(N, 1 + p)``.

        Args:
            images: as above.
            points: ``pose: given`` only: COCO key-points ``(N, 17, 3)`` in pixels of the images; without them every
                heat-map is 1 and every stripe seen.
        """
        features = self.backbone(images)  # [N, C, h, w]
        if self.pose == "distilled":
            logits = self.joints(features)  # [N, 18, h, w]
            maps, seen = logits.sigmoid(), self._seen(logits).sigmoid()
        elif points is None:
            maps, seen = torch.ones_like(features[:, :JOINTS]), torch.ones_like(features[:, : len(self.parts), 0, 0])
        else:
            maps, seen = self._read(points, images, features)
        stripes = pooled_stripes(features, len(self.parts))  # [N, p, C]
        parts = list(stripes.unbind(1))
        if self.options.part_feat == "reduced256":
            parts = [head(part) for head, part in zip(self.parts, parts, strict=True)]
        vectors = [F.normalize(vector, dim=1) for vector in (self.whole(guided(features, maps)), *parts)]
        return torch.cat(vectors, dim=1), torch.cat([torch.ones_like(seen[:, :1]), seen], dim=1)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """``lambda sum CE(stripes) + (1 - lambda) CE(global)``, and what the distilled pose costs."""
        options, known = self.options, batch.known
        features = self.backbone(batch.images)
        maps, seen = self._read(batch.base.points, batch.images, features)
        terms: dict[str, Tensor] = {}
        if self.pose == "distilled":
            logits = self.joints(features)
            kept = (openpose18(batch.base.points)[:, :, 2] > options.gamma).sum(1)  # [N]
            terms["heat_maps"] = options.map_weight * _where(kept > 0, logits, maps)
            terms["seen"] = options.seen_weight * _where(kept >= LEAST_JOINTS, self._seen(logits), seen)
            # What guides at test time guides now; the identity loss must not bend the maps away from the joints.
            maps = logits.detach().sigmoid()
        stripes = pooled_stripes(features, len(self.parts))
        identity = batch.identity[known]
        losses = [
            identity_loss(head.scores(part)[known].float(), identity, smoothing=0.0)
            for head, part in zip(self.parts, stripes.unbind(1), strict=True)
        ]
        scores = self.whole.scores(guided(features, maps))[known].float()
        return {
            "stripes": options.stripes_share * torch.stack(losses).sum(),
            "global": (1 - options.stripes_share) * identity_loss(scores, identity, smoothing=0.0),
            **terms,
        }

    def attention(self, images: Tensor) -> Tensor:
        """``(N, 1 + p, h, w)``: nobody, then each stripe; distilled: as far as a key-point is found in the cell."""
        features = self.backbone(images)
        found = torch.ones_like(features[:, :1])  # [N, 1, h, w]
        if self.pose == "distilled":
            found = self.joints(features).sigmoid().amax(1, keepdim=True)
        bands = torch.zeros(len(self.parts), features.shape[2], 1, device=features.device)  # [p, h, 1]
        for band, rows in zip(bands, stripe_rows(features.shape[2], len(self.parts)), strict=True):
            band[rows] = 1
        return torch.cat([1 - found, found * bands], dim=1)

    def _read(self, points: Tensor, images: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """Heat-maps ``(N, 18, h, w)`` and stripes seen ``(N, p)`` of given key-points."""
        height, width = int(images.shape[1]), int(images.shape[2])
        cells = int(features.shape[2]), int(features.shape[3])
        joints = openpose18(points.float())
        maps = heat_maps(joints, (height, width), cells, gamma=self.options.gamma, spread=self.options.spread)
        return maps, stripes_seen(joints, height, self.options.stripes, gamma=self.options.gamma)

    def _seen(self, logits: Tensor) -> Tensor:
        """Logits of the stripes' visibility ``(N, p)`` from those of the heat-maps alone.

        Nothing but the heat-maps, and without a way back into them: given the map's features too, such a head learns
        the occluders of the training and is wrong about all others.
        """
        maps = logits.detach().sigmoid()
        peaks = [maps[:, :, rows].amax((2, 3)) for rows in stripe_rows(maps.shape[2], len(self.parts))]
        seen: Tensor = self.seen(torch.cat(peaks, dim=1))
        return seen


def guided(features: Tensor, maps: Tensor) -> Tensor:
    """The pose-guided global feature before its head, ``(N, 2 C)``: plain mean, then the largest of the masked means.

    Means are over all cells, whatever the maps' mass, as published.

    Args:
        features: ``(N, C, h, w)``. maps: ``(N, J, h, w)``.
    """
    cells = features.flatten(2)  # [N, C, hw]
    masked = torch.bmm(cells, maps.flatten(2).transpose(1, 2)) / cells.shape[2]  # [N, C, J]
    return torch.cat([cells.mean(2), masked.amax(2)], dim=1)


def stripe_rows(height: int, count: int) -> list[slice]:
    """Rows of a map that belong to each of so many equal stripes; a row on a border belongs to both."""
    return [slice(k * height // count, -(-(k + 1) * height // count)) for k in range(count)]


def pooled_stripes(features: Tensor, count: int) -> Tensor:
    """Means of so many horizontal stripes, ``(N, C, h, w)`` to ``(N, p, C)``.

    What adaptive pooling computes; ONNX knows that only where the height is a multiple of p.
    """
    return torch.stack([features[:, :, rows].mean((2, 3)) for rows in stripe_rows(features.shape[2], count)], dim=1)


def _where(rows: Tensor, logits: Tensor, truth: Tensor) -> Tensor:
    """`visibility_loss` over some rows of the batch; 0 for none."""
    if not bool(rows.any()):
        return logits.sum() * 0.0
    return visibility_loss(logits[rows].float(), truth[rows].float())
