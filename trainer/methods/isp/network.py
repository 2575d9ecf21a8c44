"""ISP: identity-guided human semantic parsing (Zhu et al., ECCV 2020).

A pixel classifier with K classes (background and K - 1 parts) learns from pseudo labels that the network makes for
itself every other epoch by clustering its own map, one identity at a time (`trainer.methods.isp.clustering`). Its
softmax pools the parts, their sum the foreground, and the whole map the global feature; each has a BNNeck and its own
identity and triplet losses.

Matched part by part where both images show the part ("aligned representation matching"): the published score
``S = (sum_k v_k^q v_k^g s_k + s_global) / (sum_k v_k^q v_k^g + 1)``, with the global and foreground features as one
vector of 512, is ``1 - d / 2`` of `glimpse.distance`. Needs no pose and no parsing, ever.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional as F

from glimpse.parts import Part, PartSchema
from trainer.heads import BNNeck, Classifier
from trainer.losses import batch_hard_triplet, euclidean, identity_loss, pixel_loss
from trainer.methods.centres import Centres
from trainer.methods.isp.clustering import label_identity, uniform_stripes
from trainer.methods.trunk import Trunk

if TYPE_CHECKING:
    from trainer.data.batch import Batch
    from trainer.data.training import Population
    from trainer.methods import Context
    from trainer.recipe import Recipe

BRANCHES = ("whole", "fore", "part")
"""Global, foreground and parts. (A module called ``global`` cannot be exported: it is a word of Python.)"""


class ISPOptions(BaseModel):
    """The recipe's ``options``; the defaults are the authors' for Occluded-DukeMTMC unless they say otherwise."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    classes: int = Field(default=6, ge=2, le=64, description="K, background included; 7 for Market-1501")
    width: int = Field(default=256, ge=8, description="channels of the reduced map, and of every feature")
    attention: bool = Field(default=True, description="spatial attention on the reduced map")
    big_global: bool = Field(default=False, description="global feature from the unreduced map; CUHK03-NP")
    aligned: bool = Field(
        default=True, description="match visible parts; false: all features as one vector, as on holistic sets"
    )
    visibility: Literal["cells", "mass"] = Field(
        default="cells",
        description="cells: seen when at least min_cells cells are the part's, by the largest class; "
        "mass: by the mean of its softmax, in full from full_mass on (ours)",
    )
    min_cells: int = Field(default=1, ge=1)
    full_mass: float = Field(default=0.02, gt=0, le=1, description="share of the map")
    smoothing: float = Field(default=0.1, ge=0, lt=1)
    margin: float = Field(default=0.3, ge=0, description="of the triplet losses")
    joint_triplet: bool = Field(
        default=False,
        description="one triplet loss on all three features together, as the authors advise for occlusion",
    )
    pixel_weight: float = Field(default=0.1, ge=0)
    centre_weight: float = Field(default=0.0, ge=0, description="of the centre losses; 5e-4 on Market-1501")
    centre_rate: float = Field(default=0.5, gt=0, description="learning rate of the centres themselves")
    enhanced: bool = Field(default=False, description="clustering: sharpen activations before splitting off the person")
    cluster_every: int = Field(
        default=2, ge=1, description="epochs from one clustering to the next, the first included"
    )
    cluster_until: int = Field(default=101, ge=1, description="epochs after which labels stay as they are")
    cluster_batch: int = Field(default=64, ge=1, description="images that go through the network together")


class ISP(nn.Module):  # type: ignore[misc]
    """Parts ``global, part1 ... part{K-1}``, top to bottom; see the module's docstring."""

    Options = ISPOptions

    def __init__(self, trunk: Trunk, options: ISPOptions, population: Population) -> None:
        super().__init__()
        self.options = options
        self.backbone = trunk
        width, parts = options.width, options.classes - 1
        self.reduce = nn.Sequential(nn.Conv2d(trunk.channels, width, 1), nn.BatchNorm2d(width), nn.ReLU())
        self.attend = SpatialAttention(width) if options.attention else None
        self.classify = nn.Conv2d(width, options.classes, 1)
        dims = {"whole": trunk.channels if options.big_global else width, "fore": width, "part": parts * width}
        self.necks = nn.ModuleDict({name: BNNeck(dims[name]) for name in BRANCHES})
        self.classifiers = nn.ModuleDict({name: Classifier(dims[name], population.identities) for name in BRANCHES})
        self.centres = nn.ModuleDict()
        if options.centre_weight:
            for name in BRANCHES:
                self.centres[name] = Centres(population.identities, dims[name], options.centre_rate)
        if options.aligned:
            whole = Part("global", dims["whole"] + width, always_visible=True)
            self.schema = PartSchema((whole, *(Part(f"part{k + 1}", width) for k in range(parts))))
        else:
            self.schema = PartSchema((Part("global", sum(dims.values()), always_visible=True),))

    @classmethod
    def from_recipe(cls, recipe: Recipe, population: Population) -> ISP:
        """Builds the network a recipe describes."""
        return cls(Trunk.from_recipe(recipe), ISPOptions.model_validate(recipe.options), population)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 RGB ``(N, H, W, 3)`` to vectors ``(N, sum D)`` and visibility ``(N, P)``."""
        pooled, logits = self._describe(images)
        necked = {name: self.necks[name](pooled[name]) for name in BRANCHES}
        if not self.options.aligned:
            vectors = F.normalize(torch.cat([necked[name] for name in ("part", "whole", "fore")], dim=1), dim=1)
            return vectors, torch.ones_like(vectors[:, :1])
        pieces = [
            torch.cat([necked["whole"], necked["fore"]], dim=1),
            *necked["part"].split(self.options.width, dim=1),
        ]
        vectors = torch.cat([F.normalize(piece, dim=1) for piece in pieces], dim=1)
        seen = self._seen(logits)
        return vectors, torch.cat([torch.ones_like(seen[:, :1]), seen], dim=1)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Identity and triplet losses of each branch, the pixel loss, and the centre losses if asked for."""
        options, known = self.options, batch.known
        pooled, logits = self._describe(batch.images)
        terms: dict[str, Tensor] = {}
        for name in BRANCHES:
            scores = self.classifiers[name](self.necks[name](pooled[name])[known]).float()
            terms[f"identity_{name}"] = identity_loss(scores, batch.identity[known], smoothing=options.smoothing)
        features = {name: pooled[name].float() for name in BRANCHES}
        joint = {"triplet": torch.cat(list(features.values()), dim=1)}
        apart = {f"triplet_{name}": feature for name, feature in features.items()}
        for term, feature in (joint if options.joint_triplet else apart).items():
            terms[term] = batch_hard_triplet(euclidean(feature), batch.identity, margin=options.margin)
        terms["pixel"] = options.pixel_weight * pixel_loss(logits.float(), batch.base.pseudo)
        if self.centres:
            pulls = [self.centres[name](features[name][known], batch.identity[known]) for name in BRANCHES]
            terms["centre"] = options.centre_weight * torch.stack(pulls).sum()
        return terms

    def after_step(self, batch: Batch) -> None:
        """The centres follow the features of the step."""
        for centres in self.centres.values():
            centres.step()

    def begin_epoch(self, context: Context) -> None:
        """Every other epoch, the first included: new pseudo labels, one identity after another.

        Only one identity's features are in memory at a time.
        """
        options = self.options
        if context.epoch % options.cluster_every or context.epoch + 1 > options.cluster_until:
            return
        training = self.training
        self.eval()
        order = np.argsort(context.identities, kind="stable")
        starts = np.flatnonzero(np.diff(context.identities[order], prepend=-1))
        for identity, rows in enumerate(np.split(order, starts[1:])):
            context.set_pseudo_labels(rows, self._label(context, rows, identity).cpu().numpy())
        self.train(training)

    def attention(self, images: Tensor) -> Tensor:
        """``(N, K, h, w)``: the share of background and of each part in every cell."""
        return self._describe(images)[1].softmax(1)

    @torch.no_grad()
    def _label(self, context: Context, rows: NDArray[np.int64], seed: int) -> Tensor:
        """Pseudo labels of one identity's images, uint8 ``(n, h, w)``."""
        features = self._features(context, rows)
        parts = self.options.classes - 1
        labels = label_identity(features, parts, enhanced=self.options.enhanced, seed=seed)
        return uniform_stripes(len(rows), *features.shape[2:], parts) if labels is None else labels

    def _features(self, context: Context, rows: NDArray[np.int64]) -> Tensor:
        """The maps to be clustered, float32 ``(n, C, h, w)``, of untouched images."""
        device, size = self.classify.weight.device, self.options.cluster_batch
        batches = [context.images(rows[start : start + size]) for start in range(0, len(rows), size)]
        return torch.cat([self._reduced(self.backbone(torch.from_numpy(b).to(device))).float() for b in batches])

    def _describe(self, images: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Features before their necks, ``(N, D)`` by branch, and the pixel classifier's logits ``(N, K, h, w)``."""
        trunk = self.backbone(images)
        features = self._reduced(trunk)  # [N, C, h, w]
        logits = self.classify(features)
        shares = logits.softmax(1)
        # Means over all cells, not over the part's: as published.
        parts = torch.einsum("nkc,ndc->nkd", shares[:, 1:].flatten(2), features.flatten(2)) / logits[0, 0].numel()
        whole = trunk if self.options.big_global else features
        return {"whole": whole.mean((2, 3)), "fore": parts.sum(1), "part": parts.flatten(1)}, logits

    def _reduced(self, trunk: Tensor) -> Tensor:
        """The map that is pooled and clustered, ``(N, C, h, w)``."""
        features: Tensor = self.reduce(trunk)
        return features if self.attend is None else features * self.attend(features)

    def _seen(self, logits: Tensor) -> Tensor:
        """Visibility of the parts, ``(N, K - 1)``."""
        if self.options.visibility == "mass":
            return seen_by_mass(logits, self.options.full_mass)
        return seen_by_cells(logits, self.options.min_cells)


class SpatialAttention(nn.Module):  # type: ignore[misc]
    """How much each cell counts, in (0, 1): 3x3 at half the resolution, enlarged, 1x1, each with batch norm."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(channels, 1, 3, stride=2, padding=1), nn.BatchNorm2d(1), nn.ReLU())
        self.out = nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1), nn.Sigmoid())

    def forward(self, features: Tensor) -> Tensor:
        """``(N, C, h, w)`` to ``(N, 1, h, w)``."""
        small = F.interpolate(self.down(features), size=features.shape[2:], mode="bilinear", align_corners=True)
        attention: Tensor = self.out(small)
        return attention


def seen_by_cells(logits: Tensor, least: int) -> Tensor:
    """1 for each part that is the largest class of at least so many cells, else 0; ``(N, K, h, w)`` to ``(N, K - 1)``.

    With 1 this is the published rule, by which a single cell is enough.
    """
    parts = torch.arange(1, logits.shape[1], device=logits.device).view(1, -1, 1, 1)
    cells = (logits.argmax(1, keepdim=True) == parts).sum((2, 3))  # [N, K - 1]
    return (cells >= least).to(logits.dtype)


def seen_by_mass(logits: Tensor, full: float) -> Tensor:
    """Mean softmax of each part over the map, as a share of ``full``, at most 1; ``(N, K, h, w)`` to ``(N, K - 1)``."""
    return (logits.softmax(1)[:, 1:].mean((2, 3)) / full).clamp(max=1.0)
