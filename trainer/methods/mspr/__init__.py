"""T-MSPR: "Human Semantic Perception and Recovery for Occluded Person Re-Identification" (2025).

Four versions of each image (itself, magnified, covered, made smaller) go through one backbone, each to a global
branch. Of the image itself, four jigsaw groups of cells (TransReID's JPM) give local features; a pixel classifier
taught by parsing maps gives masks of five body regions and so their features; and features of regions that cannot be
seen are completed from another image of the same person, towards which a loss pulls them.

What differs from the public code, each with a test: masks are a softmax of the logits with soft-label cross-entropy
(not stretched over the batch, so no feature depends on its batch mates); any grid; unlabelled pixels are ignored; the
partner is of the same identity if there is one; one camera, or none at a search, is enough. And a fault of the
public code that its description hides: it weighs the cells by a mask and then runs a pre-norm transformer block,
whose layer norm takes every positive weight out again, so that all its part features are one and the same vector.
`part_features: mean` pools the cells by the mask instead, as the paper's figure has it; `token` is the public way.

A search compares, as published, the concatenation of the global, local and part features before the BNNeck; here
global and locals are the part `global`, which weighs as much as they are many, and each region is a part.
`visibility: ignored` counts all in full, as the paper does; `learnt` (ours) by the area of their masks.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional as F

from glimpse.parts import Part, PartSchema
from glimpse.people import PARTS
from trainer.backbones import Backbone, Tokens, backbone_of, jigsaw_order
from trainer.heads import BNNeck, Classifier, attend
from trainer.losses import (
    euclidean,
    identity_loss,
    mask_cross_entropy,
    mask_mse,
    recovery_loss,
    region_shares,
    soft_batch_hard_triplet,
)
from trainer.methods.mspr.masks import MaskVisibility, RegionMasks, found_regions
from trainer.methods.mspr.recovery import choose_partners, complete_parts

if TYPE_CHECKING:
    from trainer.data.batch import Batch
    from trainer.data.training import Population
    from trainer.recipe import Recipe

VIEWS = ("amplified", "covered", "shrunk")


class MSPROptions(BaseModel):
    """The recipe's ``options``; the defaults are the paper's, but for what was mended."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    shift: int = Field(default=5, ge=0, description="cells that the jigsaw moves to the end")
    shuffle: int = Field(default=2, ge=1, description="runs that the jigsaw riffles")
    groups: int = Field(default=6, ge=1, description="pieces of the jigsaw")
    locals: int = Field(default=4, ge=1, description="of them in use: the public code cuts six and leaves two")
    part_features: Literal["mean", "token"] = Field(
        default="mean", description="`token` is the public way, in which masks have no effect on a ViT"
    )
    mask_loss: Literal["cross_entropy", "mse"] = "cross_entropy"
    partner: Literal["identity", "nearest"] = Field(default="identity", description="`nearest` is the published rule")
    visibility: Literal["ignored", "learnt"] = "ignored"
    neck: Literal["before", "after"] = Field(default="before", description="where a search takes its features")
    smoothing: float = Field(default=0.0, ge=0, lt=1)
    parts_weight: float = Field(default=0.6, ge=0, description="of the seven part features beside the four locals")
    mask_weight: float = Field(default=0.25, ge=0)
    recovery_weight: float = Field(default=1.0, ge=0)


class MSPR(nn.Module):  # type: ignore[misc]
    """Parts ``global`` (global and locals, always visible), ``head, upper, arms, legs, feet``."""

    Options = MSPROptions
    views = VIEWS

    def __init__(self, backbone: Backbone, options: MSPROptions, population: Population) -> None:
        super().__init__()
        if options.locals > options.groups:
            raise ValueError(f"options.locals must be at most options.groups {options.groups}, got {options.locals}")
        self.options = options
        self.backbone = backbone
        _, *self.regions = PARTS
        dim, blocks = backbone.width, 1 + options.locals
        always = options.visibility == "ignored"
        # With blocks of one length this is the published similarity: the mean cosine of all of them.
        whole = Part(PARTS[0], blocks * dim, weight=float(blocks), always_visible=True)
        self.schema = PartSchema((whole, *(Part(name, dim, always_visible=always) for name in self.regions)))
        self.global_branch = backbone.take_last_block()
        self.local_branch = copy.deepcopy(self.global_branch)
        self.masks = RegionMasks(dim, len(self.regions))
        self.visibility = MaskVisibility(len(self.regions))
        self.local_names = [f"local{i + 1}" for i in range(options.locals)]
        globals_ = ("base", *VIEWS)
        names = [*globals_, *self.local_names, "completed", "person", *self.regions]
        self.necks = nn.ModuleDict({name: BNNeck(dim) for name in names})
        # Local i and region i share a classifier, as published.
        shared = [f"shared{i + 1}" for i in range(max(options.locals, len(self.regions)))]
        self.classifiers = nn.ModuleDict(
            {name: Classifier(dim, population.identities) for name in (*globals_, "completed", "person", *shared)}
        )

    @classmethod
    def from_recipe(cls, recipe: Recipe, population: Population) -> MSPR:
        """Builds the network a recipe describes."""
        backbone = backbone_of(recipe, population.cameras)
        return cls(backbone, MSPROptions.model_validate(recipe.options), population)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 RGB ``(N, H, W, 3)`` to vectors ``(N, sum D)`` and visibility ``(N, P)``."""
        tokens = self.backbone.tokens(self.backbone.pixels(images))
        logits = self.masks(tokens.grid)
        whole, _ = self.global_branch(tokens.cls, tokens.cells)
        named = {"base": whole, **self._locals(tokens), **self._parts(tokens, logits.softmax(1))}
        if self.options.neck == "after":
            named = {name: self.necks[name](features) for name, features in named.items()}
        wide = torch.cat([named["base"], *(named[name] for name in self.local_names)], dim=1)
        vectors = [F.normalize(part, dim=1) for part in (wide, *(named[name] for name in self.regions))]
        seen = torch.ones_like(logits[:, 1:, 0, 0])  # [N, K]
        if self.options.visibility == "learnt":
            seen = self.visibility(logits.softmax(1)[:, 1:])
        return torch.cat(vectors, dim=1), torch.cat([torch.ones_like(seen[:, :1]), seen], dim=1)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """The weighted terms of the loss, those of the paper's section on losses.

        ``identity = .5 mean CE(locals) + .5 .6 sum CE(completed, p0..p5) + .5 mean CE(four versions)``,
        ``triplet = .5 mean T(locals) + .5 .6 sum T(completed, p0..p5) + .5 T(base) + sum T(three versions)``,
        ``masks = .25 CE``, ``recovery = mean |f - f completed|``.
        """
        options, count = self.options, len(batch.identity)
        versions = [batch.base, *(batch.views[name] for name in VIEWS)]
        every = self.backbone.tokens(
            self.backbone.pixels(torch.cat([version.images for version in versions])),
            batch.camera.repeat(len(versions)),
        )
        wholes, _ = self.global_branch(every.cls, every.cells)  # [4N, D]
        named = dict(zip(("base", *VIEWS), wholes.split(count), strict=True))
        tokens = Tokens(every.cls[:count], every.grid[:count])
        logits = self.masks(tokens.grid)
        masks = logits.softmax(1)  # [N, 1 + K, h, w]
        named |= self._locals(tokens) | self._parts(tokens, masks)
        parts = torch.stack([named[name] for name in self.regions], dim=1)  # [N, K, D]
        partners = choose_partners(named["base"], batch.identity, options.partner)
        completed = complete_parts(parts, found_regions(logits), partners)
        named["completed"] = self.local_branch.sequence(completed)[:, 0]

        shares, labelled = region_shares(batch.regions, masks.shape[1], (masks.shape[2], masks.shape[3]))
        if options.mask_loss == "cross_entropy":
            mask_error = mask_cross_entropy(logits.float(), shares, labelled)
        else:
            mask_error = mask_mse(masks.float(), shares, labelled)
        if self.training:
            self.visibility.learn(masks.detach()[:, 1:].float(), batch.visibility[:, 1:], batch.certain[:, 1:])
        named_losses = {name: self._identity_loss(name, features, batch) for name, features in named.items()}
        triplets = {
            name: soft_batch_hard_triplet(euclidean(features.float()), batch.identity)
            for name, features in named.items()
        }
        seven = ("completed", "person", *self.regions)

        def mean(terms: dict[str, Tensor], names: list[str]) -> Tensor:
            return torch.stack([terms[name] for name in names]).mean()

        def total(terms: dict[str, Tensor], names: tuple[str, ...]) -> Tensor:
            return torch.stack([terms[name] for name in names]).sum()

        return {
            "identity": 0.5 * mean(named_losses, self.local_names)
            + 0.5 * options.parts_weight * total(named_losses, seven)
            + 0.5 * mean(named_losses, ["base", *VIEWS]),
            "triplet": 0.5 * mean(triplets, self.local_names)
            + 0.5 * options.parts_weight * total(triplets, seven)
            + 0.5 * triplets["base"]
            + total(triplets, VIEWS),
            "masks": options.mask_weight * mask_error,
            "recovery": options.recovery_weight * recovery_loss(parts.float(), completed.float()),
        }

    def attention(self, images: Tensor) -> Tensor:
        """The masks ``(N, 1 + K, h, w)``, background first."""
        return self.masks(self.backbone.tokens(self.backbone.pixels(images)).grid).softmax(1)

    def _locals(self, tokens: Tokens) -> dict[str, Tensor]:
        """One feature ``(N, D)`` of each jigsaw group in use."""
        options, cells = self.options, tokens.cells  # [N, L, D]
        order = jigsaw_order(cells.shape[1], options.groups, shift=options.shift, shuffle=options.shuffle)
        features = {}
        for name, group in zip(self.local_names, order, strict=False):
            features[name], _ = self.local_branch(tokens.cls, cells[:, group])
        return features

    def _parts(self, tokens: Tokens, masks: Tensor) -> dict[str, Tensor]:
        """One feature ``(N, D)`` of the person (all but the background) and of each region."""
        names = ("person", *self.regions)
        weights = torch.cat([1.0 - masks[:, :1], masks[:, 1:]], dim=1)  # [N, 1 + K, h, w]
        cells = tokens.cells  # [N, L, D]
        if self.options.part_features == "mean":
            _, cells = self.local_branch(tokens.cls, cells)
            grid = cells.transpose(1, 2).unflatten(2, weights.shape[2:])
            return dict(zip(names, attend(grid, weights).unbind(1), strict=True))
        flat = weights.flatten(2)  # [N, 1 + K, L]
        return {name: self.local_branch(tokens.cls, cells * flat[:, i, :, None])[0] for i, name in enumerate(names)}

    def _identity_loss(self, name: str, features: Tensor, batch: Batch) -> Tensor:
        scores = self.classifiers[self._classifier_of(name)](self.necks[name](features))[batch.known]
        return identity_loss(scores.float(), batch.identity[batch.known], smoothing=self.options.smoothing)

    def _classifier_of(self, name: str) -> str:
        for group in (self.local_names, self.regions):
            if name in group:
                return f"shared{group.index(name) + 1}"
        return name
