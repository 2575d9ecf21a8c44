"""From a `SearchRequest` to what a gallery is asked: options, and the features of whom to look for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from glimpse.bundle import ModelIdentity
from glimpse.parts import PartFeatures
from glimpse.tracklet import fuse
from protos.glimpse.v1 import features_pb2, search_pb2
from server import wire
from server.errors import FailedPrecondition, InvalidArgument, ServerError
from server.extraction.extractor import Box
from server.extraction.ticket import Extracted, StageSeconds
from server.galleries.filters import Filter
from server.galleries.gallery import Gallery
from server.galleries.ranking import Mode, SearchOptions
from server.galleries.settings import GallerySettings
from server.services.floor import Floor

MAX_IMAGES = 64
IMAGE = "query_image"
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


async def query_of(
    request: search_pb2.SearchRequest, gallery: Gallery, floor: Floor, *, deadline: float | None
) -> Query:
    """Whom a request asks about.

    Raises:
        InvalidArgument: an image or features are refused.
        FailedPrecondition: the gallery belongs to another model.
        NotFound: no such item.
    """
    settings = gallery.settings
    kind = request.WhichOneof("query")
    if kind == "item_id":
        return Query(gallery.features(request.item_id), wire.gallery_model(settings))
    if kind == "features":
        return Query(fuse(wire.features_of([request.features], settings)), wire.gallery_model(settings))
    check_model(settings, floor.bundle.identity)
    if kind == "query_image":
        found = await floor.extractor.one(request.query_image, IMAGE, box=box_of(request), deadline=deadline)
        return seen(found, settings, floor)
    pieces, seconds = await _tracklet(request.tracklet.images, floor, deadline)
    return seen(Extracted(fuse(PartFeatures.concatenate(pieces)), seconds), settings, floor)


def seen(found: Extracted, settings: GallerySettings, floor: Floor) -> Query:
    """The query of what the served model saw; the gallery's own weights and prior hold, whatever the bundle says."""
    features = PartFeatures.trusted(found.features.vectors, found.features.visibility, settings.schema)
    return Query(features, floor.model, found.seconds)


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


def box_of(request: search_pb2.SearchRequest) -> Box | None:
    """The part of the image that is meant; None for all of it."""
    box = request.box
    return (box.x, box.y, box.width, box.height) if request.HasField("box") else None


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
