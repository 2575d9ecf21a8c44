"""SearchService: rank a gallery against a query."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence

import numpy as np
from grpc import StatusCode

from glimpse.parts import PartFeatures
from protos.glimpse.v1 import search_pb2, search_pb2_grpc
from server import wire
from server.errors import ServerError, forget_traceback
from server.extraction.ticket import Extracted, StageSeconds
from server.interceptors import Context, deadline_of, note
from server.parsing import Refused
from server.security import audit
from server.services.answers import Outcome, Question, answers
from server.services.floor import Floor
from server.services.matches import calibration_of, describe, pages_of, tell_time
from server.services.pipeline import Pipeline
from server.services.query import IMAGE, box_of, check_model, images_of, options_of, query_of, seen
from server.services.together import Together
from server.statuses import status_of

_log = logging.getLogger(__name__)

PIPELINE = 16
"""Requests of one `SearchStream` in progress at once."""


class SearchService(search_pb2_grpc.SearchServiceServicer):
    """`floor` is called at every request: it is there only once the server has loaded."""

    def __init__(self, floor: Callable[[], Floor]) -> None:
        self._floor = floor
        self._together = Together()

    async def Search(  # type: ignore[override]  # the stub allows sync and async at once
        self, request: search_pb2.SearchRequest, context: Context
    ) -> search_pb2.SearchResponse:
        response = await self._answer(request, deadline_of(context))
        note(gallery=request.gallery, matches=len(response.matches))
        if request.purpose:
            note(purpose=request.purpose)
        return response

    async def SearchStream(  # type: ignore[override]
        self, requests: AsyncIterator[search_pb2.SearchRequest | Refused], context: Context
    ) -> AsyncIterator[search_pb2.SearchResponse]:
        responses = Pipeline[search_pb2.SearchResponse](PIPELINE)
        deadline = deadline_of(context)

        async def read() -> None:
            async for request in requests:
                await responses.add(self._answer_or_error(request, deadline))

        reader = asyncio.create_task(read())
        reader.add_done_callback(lambda _: responses.end())
        count = 0
        try:
            async for response in responses:
                count += 1
                yield response
            note(requests=count)
            await reader  # a stream that broke off, or the server drains
        finally:
            reader.cancel()
            responses.cancel()

    async def SearchAll(  # type: ignore[override]
        self, request: search_pb2.SearchRequest, context: Context
    ) -> AsyncIterator[search_pb2.SearchResponse]:
        floor = self._floor()
        started = time.perf_counter()
        gallery = floor.catalog.get(request.gallery)
        options = options_of(request, gallery.settings, whole=True)
        query = await query_of(request, gallery, floor, deadline=deadline_of(context))

        def work() -> tuple[Iterator[search_pb2.SearchResponse], search_pb2.SearchResponse, int]:
            begun = time.perf_counter()
            ranking = gallery.search(query.features, options)
            seconds = time.perf_counter() - begun
            floor.telemetry.stage("search", seconds)
            calibration = calibration_of(floor.bundle, gallery.settings, options)
            pages = pages_of(request, query, options, ranking, calibration)
            first = next(pages, None) or search_pb2.SearchResponse()
            describe(first, gallery, query, ranking)
            tell_time(first, query.seconds, seconds, started)
            return pages, first, len(ranking)

        pages, first, count = await floor.search(work)
        note(gallery=request.gallery, matches=count)
        page: search_pb2.SearchResponse | None = first
        while page is not None:
            yield page
            page = await floor.search(lambda: next(pages, None))

    async def Extract(  # type: ignore[override]
        self, request: search_pb2.ExtractRequest, context: Context
    ) -> search_pb2.ExtractResponse:
        floor = self._floor()
        started = time.perf_counter()
        fields = images_of(request.images, "images")
        outcomes = await floor.extractor.many(request.images, fields, deadline=deadline_of(context))
        schema = floor.bundle.schema
        vectors = np.zeros((len(outcomes), schema.width), np.float32)
        visibility = np.zeros((len(outcomes), len(schema)), np.float32)
        visibility[:, schema.always_visible] = 1
        errors = []
        found: list[Extracted] = []
        for index, outcome in enumerate(outcomes):
            if isinstance(outcome, ServerError):
                errors.append(search_pb2.ImageError(index=index, status=status_of(outcome)))
            else:
                found.append(outcome)
                vectors[index] = outcome.features.vectors[0]
                visibility[index] = outcome.features.visibility[0]
        note(images=len(outcomes), refused=len(errors))
        features = PartFeatures.trusted(vectors, visibility, schema)
        response = search_pb2.ExtractResponse(
            features=wire.features_message(features, floor.model.schema, floor.model.sha256),
            errors=errors,
            model=floor.model,
        )
        tell_time(response, StageSeconds.longest([each.seconds for each in found]), None, started)
        return response

    async def _answer_or_error(
        self, request: search_pb2.SearchRequest | Refused, deadline: float | None
    ) -> search_pb2.SearchResponse:
        call = audit.pending()
        entry = None if call is None else call.part()
        audit.begin(entry)  # for this task, which is this request's alone
        code = audit.OK
        try:
            if isinstance(request, Refused):
                raise request.error
            if entry is not None:
                entry.asked(request)
            response = await self._answer(request, deadline)
            if entry is not None:
                entry.told(response, "matches")
            return response
        except Exception as error:  # one request's failure, ours included, is not the stream's
            code = error.code.name if isinstance(error, ServerError) else StatusCode.INTERNAL.name
            if not isinstance(error, ServerError):
                _log.error("unexpected error in SearchStream", exc_info=error)
            forget_traceback(error)
            return search_pb2.SearchResponse(error=status_of(error))
        finally:
            if entry is not None:
                entry.end(code)

    async def _answer(self, request: search_pb2.SearchRequest, deadline: float | None) -> search_pb2.SearchResponse:
        floor = self._floor()
        started = time.perf_counter()
        if request.WhichOneof("query") == IMAGE:
            floor.batcher.check(deadline)
        gallery = floor.catalog.get(request.gallery)
        options = options_of(request, gallery.settings, whole=False)
        calibration = calibration_of(floor.bundle, gallery.settings, options)
        question = Question(request, gallery, options, started, calibration)
        if request.WhichOneof("query") != IMAGE:
            query = await query_of(request, gallery, floor, deadline=deadline)
            return await self._together.answer(floor, question, query)
        check_model(gallery.settings, floor.bundle.identity)
        # The search follows its features without waking the event loop in between.
        return await floor.extractor.answer(
            request.query_image, IMAGE, self._answers, question, box=box_of(request), deadline=deadline
        )

    def _answers(self, found: Sequence[tuple[Question, Extracted]]) -> Iterator[Outcome]:
        floor = self._floor()
        queries = [(question, seen(each, question.gallery.settings, floor)) for question, each in found]
        return answers(queries, floor.telemetry)
