"""Generated schemas, features and items for the tests of galleries."""

from __future__ import annotations

from typing import Any

import numpy as np

from glimpse.distance import pairwise
from glimpse.parts import Part, PartFeatures, PartSchema
from server.galleries.items import NewItem
from server.galleries.settings import GallerySettings

SCHEMA = PartSchema((Part("global", 16, always_visible=True), Part("upper", 8), Part("legs", 8)), prior=0.1)
NAMES = ("global", "head", "upper", "legs", "feet")
CAMERAS = ("c1", "c2", "c3", "")
PEOPLE = ("anna", "bela", "")


def random_schema(rng: np.random.Generator) -> PartSchema:
    """One to five parts of unequal widths; often none is always visible."""
    count = int(rng.integers(1, 6))
    always = rng.random() < 0.4
    parts = [
        Part(
            NAMES[p],
            int(rng.integers(1, 30)),
            weight=float(rng.choice([0.0, 0.5, 1.0, 3.0])) if p else 1.0,
            always_visible=bool(always and p == 0),
        )
        for p in range(count)
    ]
    return PartSchema(tuple(parts), prior=float(rng.choice([0.0, 0.0, 0.3, 2.0])))


def random_features(rng: np.random.Generator, schema: PartSchema, count: int) -> PartFeatures:
    """Rows with hidden parts, faintly visible parts, equal rows, and norms up to the allowed 1e-3 beside 1."""
    kinds = rng.integers(0, 5, (count, len(schema)))
    visibility = np.choose(
        kinds, [0.0, 1.0, rng.random(kinds.shape), rng.random(kinds.shape) * 1e-19, np.full(kinds.shape, 0.5)]
    ).astype(np.float32)
    visibility[:, schema.always_visible] = 1
    vectors = np.zeros((count, schema.width), np.float32)
    for p, columns in enumerate(schema.slices):
        part = rng.standard_normal((count, schema.dims[p]))
        part *= rng.uniform(0.9995, 1.0009, (count, 1)) / np.linalg.norm(part, axis=1, keepdims=True)
        part[(visibility[:, p] == 0) & (rng.random(count) < 0.5)] = 0
        vectors[:, columns] = part
    if count > 3:
        copies = rng.integers(0, count, count // 3)
        originals = rng.integers(0, count, count // 3)
        vectors[copies], visibility[copies] = vectors[originals], visibility[originals]
    return PartFeatures(vectors, visibility, schema)


def clustered_features(
    rng: np.random.Generator, schema: PartSchema, people: int, count: int, *, centres: int = 0
) -> PartFeatures:
    """``count`` views of ``people`` identities with a decaying spectrum and realistic occlusion: six in ten views
    hide about half of their parts, and visibilities are soft. Equal ``centres`` are the same people."""
    identity = rng.integers(0, people, count)
    seen = np.random.default_rng(centres)
    hidden = (rng.random((count, len(schema))) < 0.5) & (rng.random((count, 1)) < 0.62)
    visibility = np.where(hidden, rng.beta(1, 6, hidden.shape), rng.beta(5, 1.5, hidden.shape)).astype(np.float32)
    visibility[:, schema.always_visible] = 1
    pieces = []
    for dim in schema.dims:
        spectrum = np.arange(1, dim + 1) ** -0.5
        part = (seen.standard_normal((people, dim))[identity] + rng.standard_normal((count, dim))) * spectrum
        pieces.append(part / np.linalg.norm(part, axis=1, keepdims=True))
    return PartFeatures(np.concatenate(pieces, axis=1).astype(np.float32), visibility, schema)


def make_items(features: PartFeatures, ids: list[str] | None = None, **fields: Any) -> list[NewItem]:
    """Items of the rows; ``fields`` are given to each."""
    ids = ids or [f"item-{i:05d}" for i in range(len(features))]
    vectors = features.vectors.astype(np.float16)
    return [NewItem(item_id, vectors[i], features.visibility[i], **fields) for i, item_id in enumerate(ids)]


def gallery_settings(schema: PartSchema = SCHEMA, name: str = "lobby", **fields: Any) -> GallerySettings:
    return GallerySettings(name=name, schema=schema, created_at_us=1_700_000_000_000_000, **fields)


def oracle_ranking(
    query: PartFeatures,
    ids: list[str],
    features: PartFeatures,
    *,
    top_k: int | None,
    include_incomparable: bool = False,
    **options: Any,
) -> list[tuple[str, float, float]]:
    """``(item_id, distance, joint)`` of the expected matches, by `glimpse.distance.pairwise` over stored features."""
    result = pairwise(query, features.stored(), **options)
    rows = list(zip(ids, result.distance[0].tolist(), result.joint_visibility[0].tolist(), strict=True))
    ranked = sorted((row for row in rows if row[1] == row[1]), key=lambda row: (row[1], row[0]))
    if include_incomparable:
        ranked += sorted((row for row in rows if row[1] != row[1]), key=lambda row: row[0])
    return ranked[:top_k]
