"""Measures a method on held-out identities, by the distance that ranks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from glimpse.parts import PartFeatures, PartSchema
from glimpse.preprocessing import Preprocessing
from trainer.data.listing import ImageSet, Listing
from trainer.evaluation import LabelledFeatures, rank
from trainer.tuning import Pair, tune_together, under

_BATCH_CPU = 8  # more gains nothing there
_BATCH = 128


def features_of(method: Any, images: NDArray[np.uint8], points: NDArray[np.float32] | None = None) -> PartFeatures:
    """`PartFeatures` of uint8 images ``(N, H, W, 3)``, in evaluation mode; the method's mode is restored.

    ``points`` ``(N, 17, 3)`` are key-points for a method whose ``pose`` is ``given``; without them it sees the whole
    person everywhere. Other methods take none.
    """
    if points is not None and getattr(method, "pose", None) != "given":
        raise ValueError(f"{type(method).__name__} takes no key-points")
    mode, device = method.training, next(method.parameters()).device
    inputs = [torch.from_numpy(images)] + ([] if points is None else [torch.from_numpy(points)])
    method.eval()
    try:
        with torch.inference_mode():
            vectors, visibility = method(*(tensor.to(device) for tensor in inputs))
    finally:
        method.train(mode)
    return PartFeatures(vectors.float().cpu().numpy(), visibility.float().cpu().numpy(), method.schema)


class Validation:
    """Listings of held-out identities. Their images are prepared at the first use and kept."""

    def __init__(self, listings: Sequence[Listing], preprocessing: Preprocessing) -> None:
        self.listings = tuple(listings)
        self.preprocessing = preprocessing
        self._prepared: dict[int, NDArray[np.uint8]] = {}

    def __bool__(self) -> bool:
        return bool(self.listings)

    def measure(self, method: Any) -> dict[str, float]:
        """``validation_rank1``, ``validation_mAP`` and both ``_unweighted``, of the first listing; those of any other
        with its number at the end: ``validation_mAP_2``. Shares in [0, 1]."""
        return self._figures(self._extract(method))

    def tune(self, method: Any) -> tuple[PartSchema, dict[str, float]]:
        """The schema with the prior and part weights that are best over all listings, and the figures it gives."""
        pairs = self._extract(method)
        schema = tune_together(pairs)
        return schema, self._figures([(under(schema, query), under(schema, gallery)) for query, gallery in pairs])

    def describe(self, figures: dict[str, float]) -> str:
        """The figures as part of a log line."""
        shown = []
        for i, listing in enumerate(self.listings):
            rank1, plain, mean = (100 * figures[_named(name, i)] for name in ("rank1", "rank1_unweighted", "mAP"))
            shown.append(f"{listing.name}: Rank-1 {rank1:.1f} % (all visibilities 1: {plain:.1f} %), mAP {mean:.1f} %")
        return " | ".join(shown)

    def _figures(self, pairs: Sequence[Pair]) -> dict[str, float]:
        figures = {}
        for i, (query, gallery) in enumerate(pairs):
            weighted, plain = rank(query, gallery), rank(query, gallery, weighted=False)
            for name, share in (
                ("rank1", weighted.rank1),
                ("mAP", weighted.mAP),
                ("rank1_unweighted", plain.rank1),
                ("mAP_unweighted", plain.mAP),
            ):
                figures[_named(name, i)] = round(share, 4) if math.isfinite(share) else 0.0
        return figures

    def _extract(self, method: Any) -> list[Pair]:
        return [(self._side(method, listing.query), self._side(method, listing.gallery)) for listing in self.listings]

    def _side(self, method: Any, images: ImageSet) -> LabelledFeatures:
        pixels = self._prepared.get(id(images))
        if pixels is None:
            pixels = np.stack([self.preprocessing(images.load(row)) for row in range(len(images))])
            self._prepared[id(images)] = pixels
        size = _BATCH_CPU if next(method.parameters()).device.type == "cpu" else _BATCH
        pieces = [features_of(method, pixels[start : start + size]) for start in range(0, len(pixels), size)]
        return LabelledFeatures(
            PartFeatures.concatenate(pieces), images.ids, images.people, images.cameras, images.hidden
        )


def _named(figure: str, listing: int) -> str:
    return f"validation_{figure}" + (f"_{listing + 1}" if listing else "")
