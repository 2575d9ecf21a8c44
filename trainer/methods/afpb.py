"""AFPB: identity and "occluded or whole" learnt side by side (Zhuo et al., ICME 2018).

A shared feature carries two heads: the identity, and the occluded/full-body classifier (OBC), which says whether the
picture is of a person in full or behind something. Every training image comes as it is and, ever more often, as an
occluded twin with background of another image pasted over it (the view ``occluded``); both keep their identity. The
search takes the shared feature.

The paper gives neither the weight of the OBC loss nor optimiser, input size or simulator settings; where this file
or the recipe has a number, it is ours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional as F

from glimpse.parts import Part, PartSchema
from trainer.losses import identity_loss
from trainer.methods.trunk import Trunk

if TYPE_CHECKING:
    from trainer.data.batch import Batch, View
    from trainer.data.training import Population
    from trainer.recipe import Recipe

TWIN = "occluded"
"""The view that holds the occluded twins."""


class AFPBOptions(BaseModel):
    """The recipe's ``options``. None of these values is known from the paper."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    alpha: float = Field(default=0.3, ge=0, description="weight of the occluded/full-body loss")
    smoothing: float = Field(default=0.0, ge=0, lt=1, description="of the identity loss")
    whole: float = Field(
        default=0.85,
        gt=0,
        le=1,
        description="share of a person that must be seen, where it is known, to count as whole",
    )


class AFPB(nn.Module):  # type: ignore[misc]
    """One part, ``global``, always visible; see the module's docstring."""

    Options = AFPBOptions
    views = (TWIN,)

    def __init__(self, trunk: Trunk, options: AFPBOptions, population: Population) -> None:
        super().__init__()
        self.options = options
        self.backbone = trunk
        self.schema = PartSchema((Part("global", trunk.channels, always_visible=True),))
        self.identify = nn.Linear(trunk.channels, population.identities)
        self.judge = nn.Linear(trunk.channels, 2)

    @classmethod
    def from_recipe(cls, recipe: Recipe, population: Population) -> AFPB:
        """Builds the network a recipe describes."""
        return cls(Trunk.from_recipe(recipe), AFPBOptions.model_validate(recipe.options), population)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 RGB ``(N, H, W, 3)`` to vectors ``(N, C)`` and visibility ``(N, 1)``, all 1."""
        vectors = F.normalize(self._shared(images), dim=1)
        return vectors, torch.ones_like(vectors[:, :1])

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """``identity + occluded``, over the images and those twins that really were covered."""
        options = self.options
        twin = batch.views[TWIN]
        made = twin.covered.any((1, 2))  # [N]: an uncovered twin is the image once more, no second opinion
        features = self._shared(torch.cat([batch.images, twin.images[made]])).float()  # [N + M, C]
        identity = torch.cat([batch.identity, batch.identity[made]])
        known = torch.cat([batch.known, batch.known[made]])
        hidden = torch.cat([occluded(batch.base, options.whole), occluded(twin, options.whole)[made]])
        return {
            "identity": identity_loss(self.identify(features[known]), identity[known], smoothing=options.smoothing),
            "occluded": options.alpha * F.cross_entropy(self.judge(features), hidden.long()),
        }

    def _shared(self, images: Tensor) -> Tensor:
        """The shared feature, ``(N, C)``."""
        return self.backbone(images).mean((2, 3))


def occluded(view: View, whole: float) -> Tensor:
    """The OBC's labels, bool ``(N,)``: true where a simulator covered a pixel, or where it is known that less than
    ``whole`` of the person is seen (a training image that was taken so)."""
    partly = view.certain[:, 0] & (view.visibility[:, 0] < whole)
    return view.covered.any((1, 2)) | partly
