"""From searches and whom they ask about to their responses; searches of one gallery are ranked together."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from glimpse.calibration import Calibration
from protos.glimpse.v1 import search_pb2
from server.errors import ServerError
from server.galleries.gallery import Gallery
from server.galleries.ranking import Ranking, SearchOptions
from server.services.matches import add_matches, describe, tell_time
from server.services.query import Query
from server.telemetry import Telemetry
from server.tracing import Trace, current


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """A request that was checked."""

    request: search_pb2.SearchRequest
    gallery: Gallery
    options: SearchOptions
    started: float
    """When it came, on the clock of `time.perf_counter`."""
    calibration: Calibration | None = None
    """What gives its matches a probability, where it holds for their distances."""
    trace: Trace | None = field(default_factory=current)
    """Of the call that asks."""


Outcome = search_pb2.SearchResponse | Exception
Ranked = tuple[Ranking | ServerError, float]
"""A ranking, or why there is none, and the seconds that it took."""


def answers(asked: Sequence[tuple[Question, Query]], telemetry: Telemetry) -> Iterator[Outcome]:
    """The answer to each search, in order, or the error it met."""
    ranked: dict[int, Ranked] = {}
    for place, (question, query) in enumerate(asked):
        if place not in ranked:
            ranked.update(_ranked(question.gallery, asked))
        ranking, seconds = ranked.pop(place)
        telemetry.stage("search", seconds)
        if question.trace is not None:
            question.trace.stage("search", time.perf_counter() - seconds, seconds)
        if isinstance(ranking, ServerError):
            yield ranking
            continue
        try:
            yield _response(question, query, ranking, seconds, telemetry)
        except Exception as error:  # this caller's, not those of the others
            yield error


def _ranked(gallery: Gallery, asked: Sequence[tuple[Question, Query]]) -> dict[int, Ranked]:
    """What is asked of one gallery, ranked together: by the places in ``asked``."""
    places = [place for place, (question, _) in enumerate(asked) if question.gallery is gallery]
    begun = time.perf_counter()
    rankings = gallery.search_together([(asked[place][1].features, asked[place][0].options) for place in places])
    seconds = time.perf_counter() - begun
    return {place: (ranking, seconds) for place, ranking in zip(places, rankings, strict=True)}


def _response(
    question: Question, query: Query, ranking: Ranking, seconds: float, telemetry: Telemetry
) -> search_pb2.SearchResponse:
    if len(ranking):
        telemetry.best_match(float(ranking.joint[0]))
    response = search_pb2.SearchResponse()
    add_matches(response, question.request, query, question.options, ranking, question.calibration)
    describe(response, question.gallery, query, ranking)
    tell_time(response, query.seconds, seconds, question.started)
    return response
