"""The strong baseline: one global feature and a BNNeck (Luo et al., "Bag of Tricks", CVPRW 2019).

The feature is the mean of the map. The batch-hard triplet loss (and, if asked for, the centre loss) pulls at it as it
is, un-normalised; cross-entropy with label smoothing and the search take it after the BNNeck. No parts, no
visibility: what the methods for occluded people have to beat.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional as F

from glimpse.parts import Part, PartSchema
from trainer.heads import BNNeck, Classifier
from trainer.losses import batch_hard_triplet, euclidean, identity_loss
from trainer.methods.centres import Centres
from trainer.methods.trunk import Trunk

if TYPE_CHECKING:
    from trainer.data.batch import Batch
    from trainer.data.training import Population
    from trainer.recipe import Recipe


class BoTOptions(BaseModel):
    """The recipe's ``options``; the defaults are the paper's."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    smoothing: float = Field(default=0.1, ge=0, lt=1)
    margin: float = Field(default=0.3, ge=0, description="of the triplet loss")
    triplet_weight: float = Field(default=1.0, ge=0)
    centre_weight: float = Field(default=0.0, ge=0, description="of the centre loss; the paper's optional 5e-4")
    centre_rate: float = Field(default=0.5, gt=0, description="learning rate of the centres themselves")


class BoT(nn.Module):  # type: ignore[misc]
    """One part, ``global``, always visible; see the module's docstring."""

    Options = BoTOptions

    def __init__(self, trunk: Trunk, options: BoTOptions, population: Population) -> None:
        super().__init__()
        self.options = options
        self.backbone = trunk
        dim = trunk.channels
        self.schema = PartSchema((Part("global", dim, always_visible=True),))
        self.neck = BNNeck(dim)
        self.classifier = Classifier(dim, population.identities)
        self.centres = Centres(population.identities, dim, options.centre_rate) if options.centre_weight else None

    @classmethod
    def from_recipe(cls, recipe: Recipe, population: Population) -> BoT:
        """Builds the network a recipe describes."""
        return cls(Trunk.from_recipe(recipe), BoTOptions.model_validate(recipe.options), population)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 RGB ``(N, H, W, 3)`` to vectors ``(N, C)`` and visibility ``(N, 1)``, all 1."""
        vectors = F.normalize(self.neck(self._pooled(images)), dim=1)
        return vectors, torch.ones_like(vectors[:, :1])

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """``identity + triplet (+ centre)``, weighted."""
        options, known = self.options, batch.known
        pooled = self._pooled(batch.images)  # [N, C]
        scores = self.classifier(self.neck(pooled)[known]).float()  # [M, identities]
        pooled = pooled.float()
        terms = {
            "identity": identity_loss(scores, batch.identity[known], smoothing=options.smoothing),
            "triplet": options.triplet_weight
            * batch_hard_triplet(euclidean(pooled), batch.identity, margin=options.margin),
        }
        if self.centres is not None:
            terms["centre"] = options.centre_weight * self.centres(pooled[known], batch.identity[known])
        return terms

    def after_step(self, batch: Batch) -> None:
        """The centres follow the features of the step."""
        if self.centres is not None:
            self.centres.step()

    def _pooled(self, images: Tensor) -> Tensor:
        """The feature before the BNNeck, ``(N, C)``."""
        return self.backbone(images).mean((2, 3))
