"""From a `Ranking` to the messages of an answer."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from itertools import repeat

from glimpse.bundle import Bundle
from glimpse.calibration import Calibration
from glimpse.distance import explain
from protos.glimpse.v1 import search_pb2
from server import wire
from server.extraction.extractor import StageSeconds
from server.galleries.gallery import Gallery
from server.galleries.ranking import Ranking, SearchOptions
from server.galleries.settings import GallerySettings
from server.services.query import Query

PAGE = 1000
"""Matches of one response of `SearchAll`."""
PAGE_BYTES = 3 << 20
"""A page with large attributes ends early: clients accept 4 MiB by default."""


def calibration_of(bundle: Bundle, settings: GallerySettings, options: SearchOptions) -> Calibration | None:
    """The bundle's calibration where it holds for the distances of a search: those of its model, by its schema's
    weights and prior."""
    calibration = bundle.manifest.calibration
    if calibration is None or options.part_weights or settings.model is None:
        return None
    ours = settings.model.sha256 == bundle.identity.sha256 and calibration.fits(settings.schema)
    return calibration if ours else None


def matches_of(
    request: search_pb2.SearchRequest,
    query: Query,
    options: SearchOptions,
    ranking: Ranking,
    calibration: Calibration | None = None,
    first: int = 0,
    last: int | None = None,
) -> list[search_pb2.Match]:
    """The matches of ranks ``first`` to ``last``. Messages that would be empty are not made: a whole ranking has
    thousands of matches, and each sub-message costs as much as the match itself."""
    matches = []
    distances = ranking.distance[first:last].tolist()
    joints = ranking.joint[first:last].tolist()
    chances: Iterable[float | None] = repeat(None, len(distances))
    if calibration is not None:
        chances = calibration.probability(ranking.distance[first:last], ranking.joint[first:last]).tolist()
    for rank, (distance, joint, chance) in enumerate(zip(distances, joints, chances, strict=True), first):
        item = ranking.item(rank)
        match = search_pb2.Match(
            item_id=item.item_id,
            person_id=item.person_id,
            camera_id=item.camera_id,
            joint_visibility=joint,
            distance=distance if distance == distance else None,  # NaN: incomparable
            probability=chance if distance == distance else None,
        )
        if item.captured_at is not None:
            match.captured_at.CopyFrom(wire.timestamp_of(item.captured_at))
        if item.attributes:
            match.attributes.CopyFrom(wire.struct_of(item.attributes))
        if request.explain:
            _explain(match, query, options, ranking, rank)
        matches.append(match)
    return matches


def _explain(match: search_pb2.Match, query: Query, options: SearchOptions, ranking: Ranking, rank: int) -> None:
    for row in explain(query.features, ranking.features(rank), part_weights=options.part_weights):
        match.parts.add(
            part=row.part,
            similarity=row.similarity,
            query_visibility=row.query_visibility,
            item_visibility=row.gallery_visibility,
            weight=row.share,
        )


def pages_of(
    request: search_pb2.SearchRequest,
    query: Query,
    options: SearchOptions,
    ranking: Ranking,
    calibration: Calibration | None = None,
) -> Iterator[search_pb2.SearchResponse]:
    """A whole ranking, page by page."""
    count, start = len(ranking.rows), 0
    size = PAGE
    while start < count:
        matches = matches_of(request, query, options, ranking, calibration, start, min(count, start + size))
        page = search_pb2.SearchResponse(matches=matches, exact=ranking.exact, rank_offset=start)
        page.gallery_sequence = ranking.sequence
        if len(matches) > 1 and page.ByteSize() > PAGE_BYTES:
            size = max(1, len(matches) * PAGE_BYTES // page.ByteSize() // 2)
            continue
        yield page
        start += len(matches)


def describe(response: search_pb2.SearchResponse, gallery: Gallery, query: Query, ranking: Ranking) -> None:
    response.query.extend(wire.visibility_messages(gallery.settings.schema, query.features.visibility[0]))
    response.model.CopyFrom(query.model)
    response.exact = ranking.exact
    response.gallery_sequence = ranking.sequence


def tell_time(
    response: search_pb2.SearchResponse | search_pb2.ExtractResponse,
    stages: StageSeconds,
    search: float | None,
    started: float,
) -> None:
    timings = response.timings
    timings.decode.CopyFrom(wire.duration_of(stages.decode))
    timings.preprocess.CopyFrom(wire.duration_of(stages.preprocess))
    timings.queue.CopyFrom(wire.duration_of(stages.queue))
    timings.inference.CopyFrom(wire.duration_of(stages.inference))
    if search is not None:
        timings.search.CopyFrom(wire.duration_of(search))
    timings.total.CopyFrom(wire.duration_of(time.perf_counter() - started))
