"""A method of next to nothing that uses all of the protocol: dropout, memories, clusters, pseudo labels, three RNGs."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn
from torch.nn import functional as F

from glimpse.parts import Part, PartSchema
from tests.trainer.sources import HEIGHT, WIDTH
from trainer.backbones import create_backbone
from trainer.data.batch import Batch
from trainer.data.training import Population
from trainer.methods import METHODS, MethodSpec
from trainer.recipe import Recipe, parse_recipe

METHODS["tiny"] = MethodSpec("tests.trainer.tiny:Tiny", "of the tests")


class TinyOptions(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    dropout: float = 0.2
    clusters: bool = True
    fail_at: int = -1
    """Batch whose loss is NaN."""
    bad_gradient_at: int = -1
    """Batch whose loss is finite and whose gradient is not."""


class Tiny(nn.Module):
    """One part; batch-norm, dropout, a memory of class means, and clusters drawn anew every epoch."""

    Options = TinyOptions

    def __init__(self, options: TinyOptions, population: Population) -> None:
        super().__init__()
        self.options = options
        self.backbone = create_backbone("test_efficientnet", (16,), pretrained=False)
        dim = self.backbone.channels[0]
        self.schema = PartSchema((Part("global", dim, always_visible=True),))
        self.dropout = nn.Dropout(options.dropout)
        self.classifier = nn.Linear(dim, population.identities)
        self.register_buffer("memory", torch.zeros(population.identities, dim))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))
        self.register_buffer("kept", torch.zeros(1), persistent=False)
        self.register_buffer("clusters", torch.zeros(0, dim))
        if not options.clusters:
            self.begin_epoch = None  # type: ignore[assignment]

    @classmethod
    def from_recipe(cls, recipe: Recipe, population: Population) -> Tiny:
        return cls(TinyOptions.model_validate(recipe.options), population)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        vectors = F.normalize(self._pooled(images), dim=1)
        return vectors, torch.ones_like(vectors[:, :1])

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        features = self._pooled(batch.images)
        scores = self.classifier(self.dropout(features)).float()
        known = batch.known
        terms = {"identity": F.cross_entropy(scores[known], batch.identity[known])}
        if self.options.clusters:
            near = torch.cdist(features.float(), self.clusters).min(dim=1).values
            terms["cluster"] = 0.1 * near.mean() + 0.0 * batch.base.pseudo.float().mean()
            terms["pseudo"] = (
                0.01 * (features.float().mean(1) - batch.base.pseudo.float().mean((1, 2)) / 255).abs().mean()
            )
        terms["memory"] = 0.1 * (features.float() - self.memory[batch.identity]).square().mean()
        if int(self.count) == self.options.fail_at:
            terms["identity"] = terms["identity"] * torch.nan
        if int(self.count) == self.options.bad_gradient_at:
            terms["root"] = self.classifier.bias.sub(self.classifier.bias.detach()).abs().sqrt().sum()
        self._features = features.detach()
        return terms

    def begin_epoch(self, context: Any) -> None:
        # A buffer that grows, drawn with all three generators from the untouched images.
        rows = np.random.permutation(len(context.identities))[:5]  # noqa: NPY002 -- the global generator is the point
        with torch.no_grad():
            self.eval()
            features = self._pooled(torch.from_numpy(context.images(rows)))
        noise = random.random() * torch.randn(len(features), features.shape[1])
        self.clusters = (features + 0.01 * noise)[: 2 + context.epoch]
        labels = np.random.randint(0, 3, (len(rows), 4, 2))  # noqa: NPY002
        context.set_pseudo_labels(rows, labels.astype(np.uint8))

    def after_step(self, batch: Batch) -> None:
        self.memory[batch.identity] = 0.8 * self.memory[batch.identity] + 0.2 * self._features.float()
        self.count += 1
        self.kept += 0.5

    def _pooled(self, images: Tensor) -> Tensor:
        pixels = images.permute(0, 3, 1, 2).float() / 255 - 0.5
        return self.backbone(pixels)[0].mean((2, 3))


def tiny_recipe(**schedule: Any) -> Recipe:
    """Two steps an epoch on 12 identities of 4 images."""
    options = schedule.pop("options", {})
    occlusion = schedule.pop("occlusion", {"training": [{"simulator": "box", "probability": 0.5}]})
    return parse_recipe(
        {
            "name": "tiny",
            "method": "tiny",
            "options": options,
            "preprocessing": {"height": HEIGHT, "width": WIDTH},
            "occlusion": occlusion,
            "schedule": {
                "steps": 7, "people": 6, "views": 4, "validate_every": 3, "learning_rate": 0.01, "small": 0.3,
                **schedule,
            },
        }
    )  # fmt: skip
