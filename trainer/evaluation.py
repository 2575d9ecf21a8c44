"""Evaluation through the distance and metrics that the server uses. Knows no torch.

Images become `PartFeatures` by any callable; the gallery's vectors are rounded to float16 as a server stores them, the
queries' are not, as in a search by image. Metrics stream over blocks of queries: no distance matrix has to exist.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glimpse.bundle import SchemaEntry
from glimpse.distance import resolve_weights
from glimpse.metrics import RankingMetrics, RetrievalMetrics
from glimpse.parts import Float32, PartFeatures, PartSchema
from glimpse.preprocessing import Preprocessing
from trainer.data.listing import ImageSet, Int64, Listing

Extractor = Callable[[NDArray[np.uint8]], PartFeatures]
Progress = Callable[[int, int], None]

BATCH = 8  # batches beyond 8 gain nothing on a CPU
QUERY_BLOCK = 64
OCCLUSION_EDGES = (0.0, 0.01, 0.3, 0.5, 0.6, 0.7, 1.01)


@dataclass(frozen=True)
class LabelledFeatures:
    """Features with what a metric needs to know of their images."""

    features: PartFeatures
    ids: tuple[str, ...]
    people: Int64
    cameras: Int64
    hidden: Float32 | None = None

    def take(self, rows: Int64) -> LabelledFeatures:
        """Some of the rows, in the given order."""
        return LabelledFeatures(
            self.features[rows],
            tuple(self.ids[row] for row in rows),
            self.people[rows],
            self.cameras[rows],
            None if self.hidden is None else self.hidden[rows],
        )


@dataclass(frozen=True)
class Extraction:
    """Both sides of a listing as features, with its name and facts."""

    name: str
    facts: tuple[str, ...]
    query: LabelledFeatures
    gallery: LabelledFeatures


@dataclass(frozen=True)
class Report:
    """Figures of one evaluation and the facts of its protocol."""

    name: str
    facts: tuple[str, ...]
    rows: Mapping[str, RetrievalMetrics]
    """``weighted``, ``unweighted`` (the same features with every visibility set to 1), then ``hidden A-B %``."""

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        rows = {name: metrics.to_dict() for name, metrics in self.rows.items()}
        return {"data": self.name, "protocol": list(self.facts), "rows": rows}


class DistanceScan:
    """Distances to one gallery as two matrix products: `glimpse.distance.pairwise` for galleries of any size.

    Products run in float64, so that a pair's distance is the oracle's but for its last bit.
    """

    def __init__(self, gallery: PartFeatures, part_weights: Mapping[str, float] | None = None) -> None:
        self.schema = gallery.schema
        self.alpha = resolve_weights(self.schema, part_weights)
        self.visibility = gallery.visibility.astype(np.float64)  # [G, P]
        self.weighted = gallery.vectors * self._spread(self.visibility)  # [G, D]

    def __call__(self, query: PartFeatures) -> Float32:
        """float32 ``(Q, G)``; NaN where a pair shares nothing."""
        weight = self.alpha * query.visibility  # [Q, P]
        numerator = (query.vectors * self._spread(weight)) @ self.weighted.T  # [Q, G]
        total = weight @ self.visibility.T  # [Q, G]
        with np.errstate(invalid="ignore", divide="ignore"):
            distance = np.where(total > 0, 1.0 - numerator / (total + self.schema.prior), np.nan)
        return np.clip(distance, 0.0, 2.0).astype(np.float32)

    def _spread(self, per_part: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.repeat(per_part, self.schema.dims, axis=1)


def extract(
    images: ImageSet, preprocessing: Preprocessing, run: Extractor, progress: Progress | None = None
) -> LabelledFeatures:
    """Features of every image: decoded or drawn, preprocessed and run in batches."""
    pieces = []
    for start in range(0, len(images), BATCH):
        rows = range(start, min(start + BATCH, len(images)))
        pieces.append(run(np.stack([preprocessing(images.load(row)) for row in rows])))
        if progress:
            progress(rows.stop, len(images))
    return LabelledFeatures(PartFeatures.concatenate(pieces), images.ids, images.people, images.cameras, images.hidden)


def extract_listing(
    listing: Listing, preprocessing: Preprocessing, run: Extractor, progress: Progress | None = None
) -> Extraction:
    """Features of queries, and of the gallery as a server stores it; ``progress(done, all)`` counts both."""
    queries, everything = len(listing.query), len(listing.query) + len(listing.gallery)

    def report(done: int, _: int, before: int = 0) -> None:
        if progress:
            progress(before + done, everything)

    query = extract(listing.query, preprocessing, run, report)
    gallery = extract(listing.gallery, preprocessing, run, lambda done, count: report(done, count, queries))
    return Extraction(listing.name, listing.facts, query, replace(gallery, features=gallery.features.stored()))


def rank(
    query: LabelledFeatures,
    gallery: LabelledFeatures,
    *,
    weighted: bool = True,
    part_weights: Mapping[str, float] | None = None,
) -> RetrievalMetrics:
    """Metrics of all queries; ``weighted=False`` sets every visibility to 1 on both sides."""
    left, right = query.features, gallery.features
    if not weighted:
        left, right = fully_visible(left), fully_visible(right)
    scan = DistanceScan(right, part_weights)
    metrics = RankingMetrics()
    for start in range(0, len(left), QUERY_BLOCK):
        rows = slice(start, start + QUERY_BLOCK)
        metrics.add_block(scan(left[rows]), query.people[rows], gallery.people, query.cameras[rows], gallery.cameras)
    return metrics.result()


def fully_visible(features: PartFeatures) -> PartFeatures:
    """The same vectors with every visibility 1: what a system without visibility would rank by."""
    return PartFeatures.trusted(features.vectors, np.ones_like(features.visibility), features.schema)


def evaluate(extraction: Extraction) -> Report:
    """The report on extracted features: with visibility, without, and by how much of the query is hidden."""
    query, gallery = extraction.query, extraction.gallery
    rows = {"weighted": rank(query, gallery), "unweighted": rank(query, gallery, weighted=False)}
    if query.hidden is not None:
        for low, high in pairwise(OCCLUSION_EDGES):
            chosen = np.flatnonzero((query.hidden >= low) & (query.hidden < high))
            if 0 < len(chosen) < len(query.hidden):
                rows[f"hidden {low:.0%}-{min(high, 1):.0%}"] = rank(query.take(chosen), gallery)
    return Report(extraction.name, extraction.facts, rows)


def save_features(path: Path, extraction: Extraction) -> None:
    """Writes an ``.npz``: per side vectors, visibility, ids, people and cameras; and the schema.

    Vectors are float32 in the queries and float16 in the gallery, which is rounded to it already.
    """
    schema = SchemaEntry.of(extraction.gallery.features.schema).model_dump(mode="json")
    about = {"data": extraction.name, "protocol": list(extraction.facts), "schema": schema}
    arrays: dict[str, Any] = {"about": json.dumps(about)}
    for side, labelled in (("query", extraction.query), ("gallery", extraction.gallery)):
        arrays[f"{side}_vectors"] = labelled.features.vectors.astype(np.float16 if side == "gallery" else np.float32)
        arrays[f"{side}_visibility"] = labelled.features.visibility
        arrays[f"{side}_ids"] = np.array(labelled.ids)
        arrays[f"{side}_people"] = labelled.people
        arrays[f"{side}_cameras"] = labelled.cameras
        if labelled.hidden is not None:
            arrays[f"{side}_hidden"] = labelled.hidden
    np.savez(path, **arrays)


def load_features(path: Path) -> Extraction:
    """The features as `save_features` wrote them; ValueError when the file is something else."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            about = json.loads(str(arrays["about"]))
            schema = SchemaEntry.model_validate(about["schema"]).to_schema()
            query, gallery = (_read_side(arrays, side, schema) for side in ("query", "gallery"))
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is not a features file of `glimpse evaluate --features-out`: {error}") from error
    return Extraction(str(about["data"]), tuple(about["protocol"]), query, gallery)


def _read_side(arrays: Mapping[str, NDArray[Any]], side: str, schema: PartSchema) -> LabelledFeatures:
    vectors = arrays[f"{side}_vectors"].astype(np.float32)
    features = PartFeatures(vectors, arrays[f"{side}_visibility"], schema)
    hidden = arrays.get(f"{side}_hidden")
    ids = tuple(arrays[f"{side}_ids"].tolist())
    return LabelledFeatures(features, ids, arrays[f"{side}_people"], arrays[f"{side}_cameras"], hidden)
