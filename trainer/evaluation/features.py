"""Images to labelled features, and the file that keeps them.

Images become `PartFeatures` by any callable; the gallery's vectors are rounded to float16 as a server stores them, the
queries' are not, as in a search by image.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glimpse.bundle import SchemaEntry
from glimpse.parts import Float32, PartFeatures, PartSchema
from glimpse.preprocessing import Preprocessing
from trainer.data.listing import DatasetError, ImageSet, Int64, Listing, Shots

Extractor = Callable[..., PartFeatures]
"""uint8 images ``(N, H, W, 3)``, and key-points ``(N, 17, 3)`` for a model that is given them, to features."""
Progress = Callable[[int, int], None]
Points = Callable[[str, tuple[int, int]], Float32]
"""An image's id and its size ``(h, w)`` to its key-points ``(17, 3)``, in pixels of the preprocessed image."""

BATCH = 8  # batches beyond 8 gain nothing on a CPU


@dataclass(frozen=True)
class LabelledFeatures:
    """Features with what a metric needs to know of their images."""

    features: PartFeatures
    ids: tuple[str, ...]
    people: Int64
    cameras: Int64
    hidden: Float32 | None = None

    def __len__(self) -> int:
        return len(self.features)

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
    """Both sides of a listing as features, with the facts of the protocol and of the model."""

    name: str
    facts: tuple[str, ...]
    query: LabelledFeatures
    gallery: LabelledFeatures
    model: Mapping[str, str] = field(default_factory=dict)
    """What a reader must know of the model: its name, seed, training; empty when nobody knows."""
    shots: Shots | None = None
    """Set where a query is several images."""


def extract(
    images: ImageSet,
    preprocessing: Preprocessing,
    run: Extractor,
    progress: Progress | None = None,
    *,
    points: Points | None = None,
    batch: int = BATCH,
) -> LabelledFeatures:
    """Features of every image: decoded or drawn, preprocessed and run in batches.

    Raises:
        DatasetError: there are no images, or one cannot be read.
        ValueError: the model's features are refused (`PartFeatures`): a visible part of all zeros, NaN, ...
    """
    if len(images) == 0:
        raise DatasetError("there are no images to take features of")
    pieces = []
    for start in range(0, len(images), batch):
        rows = range(start, min(start + batch, len(images)))
        loaded = [images.load(row) for row in rows]
        pixels = np.stack([preprocessing(image) for image in loaded])
        if points is None:
            pieces.append(run(pixels))
        else:
            given = [points(images.ids[row], image.shape[:2]) for row, image in zip(rows, loaded, strict=True)]
            pieces.append(run(pixels, np.stack(given)))
        if progress:
            progress(rows.stop, len(images))
    return LabelledFeatures(PartFeatures.concatenate(pieces), images.ids, images.people, images.cameras, images.hidden)


def extract_listing(
    listing: Listing,
    preprocessing: Preprocessing,
    run: Extractor,
    progress: Progress | None = None,
    *,
    model: Mapping[str, str] | None = None,
    points: Points | None = None,
    batch: int = BATCH,
) -> Extraction:
    """Features of queries, and of the gallery as a server stores it; ``progress(done, all)`` counts both.

    Raises:
        DatasetError: queries or gallery are empty. ValueError: see `extract`.
    """
    for side, images in (("queries", listing.query), ("gallery images", listing.gallery)):
        if len(images) == 0:
            raise DatasetError(f"{listing.name} has no {side}")
    queries, everything = len(listing.query), len(listing.query) + len(listing.gallery)

    def report(done: int, _: int, before: int = 0) -> None:
        if progress:
            progress(before + done, everything)

    query = extract(listing.query, preprocessing, run, report, points=points, batch=batch)
    gallery = extract(
        listing.gallery,
        preprocessing,
        run,
        lambda done, count: report(done, count, queries),
        points=points,
        batch=batch,
    )
    stored = replace(gallery, features=gallery.features.stored())
    return Extraction(listing.name, listing.facts, query, stored, model or {}, listing.shots)


def fully_visible(features: PartFeatures) -> PartFeatures:
    """The same vectors with every visibility 1: what a system without visibility would rank by.

    A hidden part whose vector is all zeros then counts as alike to nothing: cosine 0 to every item.
    """
    return PartFeatures.trusted(features.vectors, np.ones_like(features.visibility), features.schema)


def save_features(path: Path, extraction: Extraction) -> None:
    """Writes an ``.npz``: per side vectors, visibility, ids, people and cameras; schema and facts.

    Vectors are float32 in the queries and float16 in the gallery, which is rounded to it already.
    """
    schema = SchemaEntry.of(extraction.gallery.features.schema).model_dump(mode="json")
    about: dict[str, Any] = {"data": extraction.name, "protocol": list(extraction.facts), "schema": schema}
    about["model"] = dict(extraction.model)
    arrays: dict[str, Any] = {}
    if extraction.shots is not None:
        about["pool"] = extraction.shots.pool
        arrays["query_sets"] = extraction.shots.sets
    arrays["about"] = json.dumps(about)
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
            shots = Shots(arrays["query_sets"], about["pool"]) if "pool" in about else None
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is not a features file of `glimpse evaluate --features-out`: {error}") from error
    return Extraction(str(about["data"]), tuple(about["protocol"]), query, gallery, about.get("model", {}), shots)


def _read_side(arrays: Mapping[str, NDArray[Any]], side: str, schema: PartSchema) -> LabelledFeatures:
    vectors = arrays[f"{side}_vectors"].astype(np.float32)
    features = PartFeatures(vectors, arrays[f"{side}_visibility"], schema)
    hidden = arrays.get(f"{side}_hidden")
    ids = tuple(arrays[f"{side}_ids"].tolist())
    return LabelledFeatures(features, ids, arrays[f"{side}_people"], arrays[f"{side}_cameras"], hidden)
