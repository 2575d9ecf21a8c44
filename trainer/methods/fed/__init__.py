"""Feature erasing and diffusion (FED: Wang et al., "Feature Erasing and Diffusion Network", CVPR 2022).

Stripes of the token grid are weighed by learnt gates that are taught, on copies with a pasted occluder, what is
hidden (occlusion erasing, for things). In training, the erased feature is then mixed by cross-attention with the
nearest centres of other identities in a memory and must still be recognised (feature diffusion, for people in front).
A search takes the gated feature alone.

What differs from the public code, each with a test: the image's token is the class token, not the first patch; the two
memories are two tensors; they move after the optimiser's step, not in the backward pass; occluders of full height are
labelled; the attention is scaled by its head width and its query normalised; diffused features have a batch norm of
their own. Ours: `parts`. The memory that is searched for neighbours is the first one, whose features are those of the
query (with one shared tensor the public code cannot say).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional as F

from glimpse.parts import Part, PartSchema
from trainer.backbones import Backbone, Tokens, backbone_of
from trainer.heads import BNNeck, Classifier
from trainer.losses import identity_loss, memory_nce
from trainer.memory import CentreMemory, gathered, identity_means
from trainer.methods.fed.diffusion import FeatureDiffusion
from trainer.methods.fed.erasing import OcclusionErasing, stripe_coverage, visible_stripes

if TYPE_CHECKING:
    from trainer.data.batch import Batch
    from trainer.data.training import Population
    from trainer.methods import Context
    from trainer.recipe import Recipe


class FEDOptions(BaseModel):
    """The recipe's ``options``; the defaults are the paper's, but for what was mended."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stripes: int = Field(default=4, ge=2, le=16)
    labels: Literal["fraction", "legacy"] = Field(
        default="fraction",
        description="of the gates; `legacy` is the published rule, blind to occluders of full height",
    )
    shared_bn: bool = Field(default=False, description="one batch norm for both stages, as in the public code")
    parts: bool = Field(
        default=False, description="ours: the class token as `global` and the stripes as parts, gates as visibility"
    )
    neighbours: int = Field(default=8, ge=1, description="centres of other identities that a feature is mixed with")
    heads: int = Field(default=8, ge=1)
    momentum: float = Field(default=0.2, ge=0, lt=1, description="what a centre keeps of itself")
    temperature: float = Field(default=0.05, gt=0)
    smoothing: float = Field(default=0.0, ge=0, lt=1)
    identity_weight: float = Field(default=0.5, ge=0, description="of each of the six classifications")
    occluded_memory_weight: float = Field(default=0.3, ge=0)
    diffused_memory_weight: float = Field(default=0.5, ge=0)


class FED(nn.Module):  # type: ignore[misc]
    """One part ``global`` of S x D, always visible; with ``parts``: ``global``, ``stripe1`` ... from the top."""

    Options = FEDOptions
    views = ("occluded",)

    def __init__(self, backbone: Backbone, options: FEDOptions, population: Population) -> None:
        super().__init__()
        if population.identities < 2:
            raise ValueError(f"fed needs other people to diffuse: at least 2 identities, got {population.identities}")
        self.options = options
        self.backbone = backbone
        stripes, dim, identities = options.stripes, backbone.width, population.identities
        width = stripes * dim
        if options.parts:
            names = [f"stripe{s + 1}" for s in range(stripes)]
            whole = Part("global", dim, always_visible=True)
            self.schema = PartSchema((whole, *(Part(name, dim) for name in names)))
        else:
            self.schema = PartSchema((Part("global", width, always_visible=True),))
        self.erasing = OcclusionErasing(dim, stripes)
        # Batch norm is per channel: one over S x D is one for each stripe.
        self.neck = BNNeck(width)
        self.diffused_neck = self.neck if options.shared_bn else BNNeck(width)
        self.diffusion = FeatureDiffusion(dim, stripes, options.heads)
        self.memory = CentreMemory(identities, width, options.momentum)
        self.diffused_memory = CentreMemory(identities, width, options.momentum)
        self.classifier = Classifier(width, identities)
        self.diffused_classifier = Classifier(width, identities)
        self.token_classifier = Classifier(dim, identities)
        self._met: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []  # features the memories have yet to meet

    @classmethod
    def from_recipe(cls, recipe: Recipe, population: Population) -> FED:
        """Builds the network a recipe describes."""
        backbone = backbone_of(recipe, population.cameras)
        return cls(backbone, FEDOptions.model_validate(recipe.options), population)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 RGB ``(N, H, W, 3)`` to vectors ``(N, sum D)`` and visibility ``(N, P)``."""
        tokens, gates, features = self._describe(images)
        if not self.options.parts:
            return F.normalize(features, dim=1), torch.ones_like(gates[:, :1])
        stripes = F.normalize(features.unflatten(1, (self.options.stripes, -1)), dim=2)  # [N, S, D]
        vectors = torch.cat([F.normalize(tokens.cls, dim=1), stripes.flatten(1)], dim=1)
        return vectors, torch.cat([torch.ones_like(gates[:, :1]), gates], dim=1)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """The weighted terms of the loss; 1 is the image, 2 its occluded copy, f gated and d diffused features.

        ``MSE(m1, M1) + MSE(m2, M2) + 1/2 [CE(f1) + CE(f2)] + 1/2 [CE(d1) + CE(d2)] + 1/2 [CE(cls1) + CE(cls2)]
        + NCE(f1) + 0.3 NCE(f2) + 0.5 [NCE(d1) + NCE(d2)]``, M1 all ones where nothing covers the image itself.
        """
        options, count = self.options, len(batch.identity)
        copy = batch.views["occluded"]
        identity = batch.identity.repeat(2)  # [2N]
        tokens, gates, features = self._describe(
            torch.cat([batch.images, copy.images]), batch.camera.repeat(2)
        )  # batch norm sees both, as it does in a search
        neighbours = self.memory.nearest_others(features.detach().float(), identity, options.neighbours)
        diffused = self.diffused_neck(self.diffusion(features, gates, neighbours.to(features.dtype)))
        visible = visible_stripes(
            stripe_coverage(torch.cat([batch.base.covered, copy.covered]), options.stripes), options.labels
        )
        gate_errors = (gates.float() - visible).square()  # [2N, S]

        def named(scores: Tensor) -> Tensor:
            return options.identity_weight * sum(
                identity_loss(part[batch.known].float(), batch.identity[batch.known], smoothing=options.smoothing)
                for part in scores.split(count)
            )

        def contrasted(rows: Tensor, memory: CentreMemory) -> list[Tensor]:
            return [
                memory_nce(
                    part[batch.known], batch.identity[batch.known], memory.centres, temperature=options.temperature
                )
                for part in rows.float().split(count)
            ]

        (clean, occluded), both = contrasted(features, self.memory), contrasted(diffused, self.diffused_memory)
        if self.training:
            first, second = features[:count].detach().float(), diffused[:count].detach().float()
            self._met.append((first, second, batch.identity, batch.known))
        return {
            "gates": gate_errors[:count].mean() + gate_errors[count:].mean(),
            "identity": named(self.classifier(features)),
            "diffused": named(self.diffused_classifier(diffused)),
            "token": named(self.token_classifier(tokens.cls)),
            "memory": clean + options.occluded_memory_weight * occluded,
            "diffused_memory": options.diffused_memory_weight * (both[0] + both[1]),
        }

    def begin_epoch(self, context: Context) -> None:
        """Fills both memories before the first step: mean features of the network as it is, not gated."""
        if bool(self.memory.filled):
            return
        mode, device = self.training, self.classifier.weight.device
        self.eval()
        means = identity_means(context, self._ungated, len(self.memory.centres), device)
        self.train(mode)
        self.memory.fill(means)
        self.diffused_memory.fill(means)

    def after_step(self, batch: Batch) -> None:
        """Moves the centres by the features of the unoccluded images of the step, of all its processes."""
        for pieces in self._met:
            features, diffused, identity, known = map(gathered, pieces)
            self.memory.update(features[known], identity[known])
            self.diffused_memory.update(diffused[known], identity[known])
        self._met.clear()

    def attention(self, images: Tensor) -> Tensor:
        """``(N, 1 + K, h, w)``: what the gates leave out, then (with ``parts``) each stripe times its gate."""
        tokens, gates, _ = self._describe(images)
        height, width = tokens.grid.shape[2:]
        rows = torch.arange(height, device=images.device) * self.options.stripes // height
        inside = F.one_hot(rows, self.options.stripes).T[None, :, :, None]  # [1, S, h, 1]
        stripes = (gates[:, :, None, None] * inside).expand(-1, -1, -1, width)  # [N, S, h, w]
        rest = 1.0 - stripes.sum(1, keepdim=True)
        return torch.cat([rest, stripes], dim=1) if self.options.parts else rest

    def _describe(self, images: Tensor, cameras: Tensor | None = None) -> tuple[Tokens, Tensor, Tensor]:
        """Tokens, gates ``(N, S)`` and features of the first stage ``(N, S * D)``."""
        tokens = self.backbone.tokens(self.backbone.pixels(images), cameras)
        stripes = self._stripes(tokens)  # [N, S, D]
        gates = self.erasing(stripes)
        return tokens, gates, self.neck((gates[:, :, None] * stripes).flatten(1))

    def _ungated(self, images: Tensor) -> Tensor:
        return self.neck(self._stripes(self.backbone.tokens(self.backbone.pixels(images))).flatten(1))

    def _stripes(self, tokens: Tokens) -> Tensor:
        """The mean of the grid's rows in each stripe: ``(N, S, D)``."""
        return F.adaptive_avg_pool2d(tokens.grid, (self.options.stripes, 1)).flatten(2).transpose(1, 2)
