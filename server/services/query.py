"""From a `SearchRequest` to what a gallery is asked: options, and the features of whom to look for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from glimpse.bundle import ModelIdentity
from glimpse.parts import PartFeatures
from glimpse.tracklet import fuse
from protos.glimpse.v1 import features_pb2, search_pb2
from server import wire
from server.errors import FailedPrecondition, InvalidArgument, ServerError
from server.extraction.extractor import Box, Extracted, StageSeconds
from server.galleries.filters import Filter
from server.galleries.gallery import Gallery
from server.galleries.ranking import Mode, SearchOptions
from server.galleries.settings import GallerySettings
from server.services.floor import Floor

T = TypeVar("T")

MAX_IMAGES = 64
_EVERYTHING = Filter()
_MODES: dict[int, Mode] = {
    search_pb2.SearchRequest.AUTO: "auto",
    search_pb2.SearchRequest.EXACT: "exact",
    search_pb2.SearchRequest.FAST: "fast",
}


@dataclass(frozen=True, slots=True)
class Query:
    """Whom to look for: one row of features in the gallery's schema, and what it cost to get it."""

    features: PartFeatures
    model: features_pb2.Model
    seconds: StageSeconds = field(default_factory=StageSeconds)


def options_of(request: search_pb2.SearchRequest, settings: GallerySettings, *, whole: bool) -> SearchOptions:
    """The options of a search, all checked.

    Args:
        whole: the whole ranking is wanted; ``top_k`` is ignored.
    """
    kind = request.WhichOneof("query")
    if kind is None:
        raise InvalidArgument("set one of query_image, tracklet, features or item_id", field="query")
    if request.HasField("box") and kind != "query_image":
        raise InvalidArgument(f"box goes with query_image only, this request has {kind}", field="box")
    if request.mode not in _MODES:
        raise InvalidArgument(f"mode must be AUTO, EXACT or FAST, got {request.mode}", field="mode")
    wire.purpose_of(request.purpose, settings)
    return SearchOptions(
        top_k=None if whole else wire.top_k_of(request.top_k),
        filter=wire.filter_of(request.filter) if request.HasField("filter") else _EVERYTHING,
        part_weights=wire.part_weights_of(request.part_weights, settings.schema) if request.part_weights else {},
        min_joint_visibility=wire.min_joint_of(request.min_joint_visibility),
        mode=_MODES[request.mode],
        include_incomparable=request.include_incomparable,
        leave_out=request.item_id if kind == "item_id" else None,
    )


async def with_query(
    request: search_pb2.SearchRequest,
    gallery: Gallery,
    floor: Floor,
    work: Callable[[Query], T],
    *,
    deadline: float | None,
) -> T:
    """Finds out whom a request asks about, and does the work with it.

    Args:
        work: a search, off the event loop: for an image it follows its features without waking the loop in between.

    Raises:
        InvalidArgument: an image or features are refused.
        FailedPrecondition: the gallery belongs to another model.
        NotFound: no such item.
    """
    settings = gallery.settings
    kind = request.WhichOneof("query")
    if kind in {"features", "item_id"}:
        if kind == "item_id":
            features = gallery.features(request.item_id)
        else:
            features = fuse(wire.features_of([request.features], settings))
        given = Query(features, wire.gallery_model(settings))
        return await floor.search(lambda: work(given))
    check_model(settings, floor.bundle.identity)

    def query(features: PartFeatures, seconds: StageSeconds) -> Query:
        # The gallery's own weights and prior hold, whatever the bundle says today.
        own = PartFeatures.trusted(features.vectors, features.visibility, settings.schema)
        return Query(own, floor.model, seconds)

    if kind == "query_image":
        box = _box_of(request.box) if request.HasField("box") else None
        return await floor.extractor.one(
            request.query_image,
            "query_image",
            lambda found: work(query(found.features, found.seconds)),
            box=box,
            deadline=deadline,
        )
    pieces, seconds = await _tracklet(request.tracklet.images, floor, deadline)
    return await floor.search(lambda: work(query(fuse(PartFeatures.concatenate(pieces)), seconds)))


def check_model(settings: GallerySettings, served: ModelIdentity) -> None:
    """Refuses images where the gallery belongs to another model than the served one, naming both."""
    name = settings.name
    if settings.model is None:
        raise FailedPrecondition(
            f"gallery {name!r} holds features only (its parts are {settings.schema.describe()}), and this server runs "
            f"model {served}. Send features instead of images."
        )
    if settings.model.sha256 != served.sha256:
        raise FailedPrecondition(
            f"gallery {name!r} holds features of model {settings.model}; this server runs {served}. Index the images "
            "again into a new gallery, or start the server with the first model."
        )


def images_of(images: Sequence[bytes], name: str) -> list[str]:
    """Field names of 1 to 64 images."""
    if not 1 <= len(images) <= MAX_IMAGES:
        raise InvalidArgument(f"{name} must hold 1 to {MAX_IMAGES} images, got {len(images)}", field=name)
    return [f"{name}[{index}]" for index in range(len(images))]


async def _tracklet(
    images: Sequence[bytes], floor: Floor, deadline: float | None
) -> tuple[list[PartFeatures], StageSeconds]:
    fields = images_of(images, "tracklet.images")
    outcomes = await floor.extractor.many(images, fields, deadline=deadline)
    found: list[Extracted] = []
    for outcome in outcomes:
        if isinstance(outcome, ServerError):
            raise outcome
        found.append(outcome)
    return [each.features for each in found], StageSeconds.longest([each.seconds for each in found])


def _box_of(message: search_pb2.Box) -> Box:
    return message.x, message.y, message.width, message.height
