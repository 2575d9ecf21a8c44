"""Rank lists to look at: queries from the best ranked to the worst, and what the model found for each.

Green frames are right, red ones wrong; beside every image a strip tells which parts the model saw, below it the
similarity part by part. Where a model shows its attention there is a second picture, with every image tinted by it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from glimpse.distance import explain, pairwise
from glimpse.metrics import Ranks, Relevance, average_precision
from glimpse.parts import Float32
from glimpse.pictures.attention import tinted
from glimpse.pictures.ranking import Row, save_picture
from glimpse.preprocessing import Preprocessing
from glimpse.scan import DistanceScan
from trainer.data.listing import Int64, Listing
from trainer.evaluation.features import Extraction
from trainer.evaluation.ranking import query_ranks

Attention = Callable[[NDArray[np.uint8]], Float32]
"""uint8 ``(N, H, W, 3)`` to float32 ``(N, 1 + K, h, w)``: background and each part, in [0, 1]."""

QUERIES, TOP = 8, 8


@dataclass(frozen=True)
class RankedPart:
    """What one part said about a pair (`glimpse.distance.PartEvidence`), as pictures name it."""

    part: str
    similarity: float
    query_visibility: float
    item_visibility: float
    weight: float


@dataclass(frozen=True)
class RankedItem:
    """One gallery image in a query's rank list."""

    row: int
    """In the gallery."""
    item_id: str
    person_id: str
    camera_id: str
    distance: float | None
    joint_visibility: float
    parts: tuple[RankedPart, ...]


def rank_list(extraction: Extraction, row: int, top: int = TOP) -> list[RankedItem]:
    """The nearest items of query ``row``; junk and the query's person by its own camera are left out."""
    query, gallery = extraction.query, extraction.gallery
    one = query.features[row : row + 1]
    rule = Relevance(query.people, gallery.people, query.cameras, gallery.cameras)
    places = np.flatnonzero(np.logical_or(*rule(row)))
    distances = DistanceScan(gallery.features[places])(one)[0]
    nearest = places[np.argsort(distances, kind="stable")[:top]]  # NaN sorts last
    exact = pairwise(one, gallery.features[nearest])
    found = []
    for place, item in enumerate(nearest):
        evidence = explain(one, gallery.features[item : item + 1])
        distance = float(exact.distance[0, place])
        found.append(
            RankedItem(
                row=int(item),
                item_id=gallery.ids[item],
                person_id=str(gallery.people[item]),
                camera_id=f"c{gallery.cameras[item]}",
                distance=None if np.isnan(distance) else distance,
                joint_visibility=float(exact.joint_visibility[0, place]),
                parts=tuple(
                    RankedPart(part.part, part.similarity, part.query_visibility, part.gallery_visibility, part.share)
                    for part in evidence
                ),
            )
        )
    return found


def spread_queries(ranks: list[Ranks], count: int) -> Int64:
    """Rows of at most ``count`` queries with a positive, evenly spread from the best average precision to the worst."""
    counted = np.array([row for row, one in enumerate(ranks) if len(one)], np.int64)
    scores = np.array([average_precision(ranks[row]) for row in counted])
    ordered = counted[np.argsort(-scores, kind="stable")]
    return ordered[np.linspace(0, len(ordered) - 1, min(count, len(ordered))).astype(np.int64)]


def save_rank_lists(
    folder: Path,
    extraction: Extraction,
    listing: Listing,
    *,
    count: int = QUERIES,
    top: int = TOP,
    preprocessing: Preprocessing | None = None,
    attention: Attention | None = None,
) -> list[Path]:
    """Writes ``rankings.png`` and, with ``attention``, ``attention.png``; gives their paths.

    Args:
        folder: exists.
        extraction: of ``listing``, in its order.
        listing: where the images are loaded from.
        count: queries.
        top: items of each.
        preprocessing: the model's; needed with ``attention``.
        attention: the model's maps.

    Raises:
        ValueError: the listing is another one, or its queries have several images.
    """
    if extraction.shots is not None:
        raise ValueError("rank lists are of queries of one image; these have several")
    if extraction.query.ids != listing.query.ids or extraction.gallery.ids != listing.gallery.ids:
        raise ValueError(f"the features are not those of {listing.name}: their image ids differ")
    ranks = query_ranks(extraction.query, extraction.gallery)
    chosen = spread_queries(ranks, count)
    lists = [rank_list(extraction, int(row), top) for row in chosen]
    rows = [_row(extraction, listing, int(row), found) for row, found in zip(chosen, lists, strict=True)]
    title = f"{extraction.name}: {len(rows)} queries from the best average precision to the worst"
    note = extraction.model.get("model", "")
    written = [folder / "rankings.png"]
    save_picture(written[0], rows, title, note)
    if attention is not None:
        if preprocessing is None:
            raise ValueError("attention maps need the model's preprocessing")
        looked = [_looked(row, preprocessing, attention) for row in rows]
        written.append(folder / "attention.png")
        save_picture(written[1], looked, f"{title}; tinted by attention", note)
    return written


def _row(extraction: Extraction, listing: Listing, row: int, found: list[RankedItem]) -> Row:
    query = extraction.query
    seen = query.features.visibility[row].tolist()
    return Row(
        label=query.ids[row],
        person_id=str(query.people[row]),
        image=listing.query.load(row),
        visibility=dict(zip(query.features.schema.names, seen, strict=True)),
        matches=found,
        images=[listing.gallery.load(item.row) for item in found],
    )


def _looked(row: Row, preprocessing: Preprocessing, attention: Attention) -> Row:
    """The same row with its images as the model saw them, tinted."""
    pixels = [preprocessing(image) for image in (row.image, *row.images) if image is not None]
    shown = [tinted(image, maps) for image, maps in zip(pixels, attention(np.stack(pixels)), strict=True)]
    return replace(row, image=shown[0], images=shown[1:])
