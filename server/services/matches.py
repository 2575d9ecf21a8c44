"""From a `Ranking` to the messages of an answer."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from itertools import repeat

from google.protobuf.duration_pb2 import Duration

from glimpse.bundle import Bundle
from glimpse.calibration import Calibration
from glimpse.distance import explain
from protos.glimpse.v1 import search_pb2
from server import wire
from server.extraction.ticket import StageSeconds
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


def add_matches(
    response: search_pb2.SearchResponse,
    request: search_pb2.SearchRequest,
    query: Query,
    options: SearchOptions,
    ranking: Ranking,
    calibration: Calibration | None = None,
    first: int = 0,
    last: int | None = None,
) -> None:
    """Adds the matches of ranks ``first`` to ``last``. They are made in place, as a message put into another is copied,
    and without inner messages that would be empty: a whole ranking has thousands of matches."""
    distances = ranking.distance[first:last].tolist()
    joints = ranking.joint[first:last].tolist()
    chances: Iterable[float | None] = repeat(None, len(distances))
    if calibration is not None:
        chances = calibration.probability(ranking.distance[first:last], ranking.joint[first:last]).tolist()
    for rank, (distance, joint, chance) in enumerate(zip(distances, joints, chances, strict=True), first):
        item = ranking.item(rank)
        match = response.matches.add(
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
        page = search_pb2.SearchResponse(exact=ranking.exact, rank_offset=start, gallery_sequence=ranking.sequence)
        add_matches(page, request, query, options, ranking, calibration, start, min(count, start + size))
        made = len(page.matches)
        if made > 1 and page.ByteSize() > PAGE_BYTES:
            size = max(1, made * PAGE_BYTES // page.ByteSize() // 2)
            continue
        yield page
        start += made


def describe(response: search_pb2.SearchResponse, gallery: Gallery, query: Query, ranking: Ranking) -> None:
    for part, visibility in zip(gallery.settings.schema.names, query.features.visibility[0].tolist(), strict=True):
        response.query.add(part=part, visibility=visibility)
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
    _set(timings.decode, stages.decode)
    _set(timings.preprocess, stages.preprocess)
    _set(timings.queue, stages.queue)
    _set(timings.inference, stages.inference)
    if search is not None:
        _set(timings.search, search)
    _set(timings.total, time.perf_counter() - started)


def _set(duration: Duration, seconds: float) -> None:
    duration.FromNanoseconds(round(seconds * 1e9))
