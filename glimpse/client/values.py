"""What goes into the client and comes out of it: frozen dataclasses, no protobuf."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal, NamedTuple, TypedDict, overload

import numpy as np
from numpy.typing import NDArray

from glimpse.parts import PartFeatures, PartSchema

ImageSource = str | os.PathLike[str] | bytes | NDArray[np.uint8]
"""An image: a path, encoded bytes (JPEG, PNG, WebP, BMP), or a uint8 RGB array ``(H, W, 3)``."""

Mode = Literal["auto", "exact", "fast"]


class Box(NamedTuple):
    """A rectangle in pixels of the upright image."""

    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which items may be returned: values within a field are OR, fields are AND; an empty filter allows all.

    ``exclude`` removes items that match *all* fields of one of its entries, so that "same person and same camera"
    is ``exclude=[Filter(person_ids=["7"], camera_ids=["c1"])]``. Times without a zone are taken as UTC.
    """

    camera_ids: Sequence[str] = ()
    captured_after: datetime | None = None
    """At or after."""
    captured_before: datetime | None = None
    """Strictly before."""
    person_ids: Sequence[str] = ()
    item_ids: Sequence[str] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict)
    exclude: Sequence[Filter] = ()

    def __post_init__(self) -> None:
        for name in ("camera_ids", "person_ids", "item_ids"):
            value = getattr(self, name)
            if isinstance(value, str):  # a str is a Sequence[str] too, of its letters
                raise ValueError(f"{name} must be a list of ids; for one id write {name}=[{value!r}]")


class SearchOptions(TypedDict, total=False):
    """The keyword arguments of `Client.search` and `Client.search_all`: the fields of `Query`."""

    tracklet: Sequence[ImageSource]
    features: PartFeatures | None
    model_sha256: str
    item_id: str
    box: Box | tuple[int, int, int, int] | None
    top_k: int
    filter: Filter | None
    part_weights: Mapping[str, float]
    min_joint_visibility: float
    mode: Mode
    explain: bool
    include_incomparable: bool
    purpose: str


@dataclass(frozen=True, kw_only=True)
class Query:
    """One question to a gallery: exactly one of ``image``, ``tracklet``, ``features`` and ``item_id``, and how to rank.

    Raises:
        ValueError: none or several of the four, or a ``box`` without an ``image``.
    """

    image: ImageSource | None = None
    tracklet: Sequence[ImageSource] = ()
    """Several images of one person, fused part by part."""
    features: PartFeatures | None = None
    """Features made earlier; several rows are fused as a tracklet."""
    model_sha256: str = ""
    """The model that made ``features``; empty when the caller vouches for them."""
    item_id: str = ""
    """An item of the gallery; it is left out of its own results."""
    box: Box | tuple[int, int, int, int] | None = None
    """Crop of a larger frame: x, y, width, height in pixels."""
    top_k: int = 10
    """Matches wanted, 1 to 1,000."""
    filter: Filter | None = None
    part_weights: Mapping[str, float] = field(default_factory=dict)
    """Replaces the schema's weights; parts not named weigh 0."""
    min_joint_visibility: float = 0.0
    """Pairs that share less, in [0, 1], are incomparable."""
    mode: Mode = "auto"
    explain: bool = False
    """Fill `Match.parts`."""
    include_incomparable: bool = False
    """Fill up to ``top_k`` with incomparable items, after all others, without a distance."""
    purpose: str = ""
    """Free text for the audit trail; a gallery may require it."""

    def __post_init__(self) -> None:
        given = {
            "image": self.image is not None,
            "tracklet": len(self.tracklet) > 0,
            "features": self.features is not None,
            "item_id": bool(self.item_id),
        }
        named = [name for name, present in given.items() if present]
        if len(named) != 1:
            raise ValueError(f"a query needs exactly one of {', '.join(given)}; got {', '.join(named) or 'none'}")
        if self.box is not None and self.image is None:
            raise ValueError(f"box crops an image; this query is by {named[0]}")


@dataclass(frozen=True, slots=True)
class PartMatch:
    """What one part said about a match; ``part`` is ``"prior"`` for the prior's own share."""

    part: str
    similarity: float
    """Cosine in [-1, 1]."""
    query_visibility: float
    item_visibility: float
    weight: float
    """Share of the decision: shares sum to 1 and 1 - sum(weight * similarity) is the distance."""


@dataclass(frozen=True, slots=True)
class Match:
    """One ranked item."""

    item_id: str
    person_id: str
    """Empty when unknown."""
    distance: float | None
    """In [0, 2], smaller is closer; None when the pair is incomparable."""
    joint_visibility: float
    """Evidence the pair shares, in [0, 1]."""
    probability: float | None
    """Calibrated chance that it is the same person; None when the model carries no calibration."""
    camera_id: str
    captured_at: datetime | None
    attributes: dict[str, Any]
    parts: tuple[PartMatch, ...]
    """Per-part evidence when the query asked to ``explain``."""


@dataclass(frozen=True, slots=True)
class Timings:
    """Where the time of a request went, in seconds."""

    decode: float
    preprocess: float
    queue: float
    inference: float
    search: float
    total: float


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A model as its bundle records it."""

    name: str
    version: str
    sha256: str
    method: str
    schema: PartSchema | None
    height: int
    width: int
    provider: str
    """Execution provider in use; empty in reports about a gallery."""
    license: str


@dataclass(frozen=True)
class SearchResult(Sequence[Match]):
    """The matches of one query, best first, and how they came about."""

    matches: tuple[Match, ...]
    query: dict[str, float]
    """Visibility of each part of the query."""
    model: ModelInfo | None
    exact: bool
    """Whether this is certainly the exact ranking."""
    sequence: int
    """The last committed write that the ranking reflects."""
    timings: Timings

    @overload
    def __getitem__(self, index: int) -> Match: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Match, ...]: ...
    def __getitem__(self, index: int | slice) -> Match | tuple[Match, ...]:
        return self.matches[index]

    def __len__(self) -> int:
        return len(self.matches)


@dataclass(frozen=True, slots=True)
class RefusedImage:
    """Why one image of `Client.extract` gave no features."""

    index: int
    code: str
    message: str


@dataclass(frozen=True)
class Extraction:
    """Part features of images, a row an image."""

    features: PartFeatures
    """Rows of refused images are all zeros (an always-visible part keeps visibility 1)."""
    errors: tuple[RefusedImage, ...]
    model: ModelInfo
    timings: Timings


@dataclass(frozen=True, kw_only=True)
class Item:
    """One image of a person to be indexed: exactly one of ``image`` and ``features`` (one row).

    Raises:
        ValueError: both or neither, or features of more than one row.
    """

    item_id: str
    image: ImageSource | None = None
    features: PartFeatures | None = None
    model_sha256: str = ""
    person_id: str = ""
    camera_id: str = ""
    captured_at: datetime | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if (self.image is None) == (self.features is None):
            raise ValueError(f"item {self.item_id!r} needs exactly one of image and features")
        if self.features is not None and len(self.features) != 1:
            raise ValueError(f"item {self.item_id!r}: features must have one row, got {len(self.features)}")


@dataclass(frozen=True, slots=True)
class ItemResult:
    """What became of one item."""

    item_id: str
    code: str
    """``"OK"`` when it was stored and survives a crash; otherwise the status of the refusal."""
    message: str
    sequence: int
    """The committed write of its batch."""

    @property
    def ok(self) -> bool:
        return self.code == "OK"


@dataclass(frozen=True)
class StoredItem:
    """An item as the gallery holds it."""

    item_id: str
    person_id: str
    camera_id: str
    captured_at: datetime | None
    attributes: dict[str, Any]
    visibility: dict[str, float]
    features: PartFeatures | None
    """The stored features, one row; None in lists."""
    image: bytes | None
    """The kept image; None in lists and in galleries that keep none."""
    sequence: int


@dataclass(frozen=True)
class GalleryInfo:
    """A gallery and what it holds."""

    name: str
    items: int
    bytes: int
    sequence: int
    model: ModelInfo | None
    """None for a gallery of features only."""
    schema: PartSchema
    keep_images: bool
    retention: timedelta | None
    require_purpose: bool
    latency_target: timedelta | None
    created_at: datetime | None
    compact: bool = False


@dataclass(frozen=True, slots=True)
class GalleryStats:
    """State of one gallery's index."""

    gallery: str
    live: int
    tombstones: int
    patterns: int
    sequence: int
    memory_bytes: int
    fast_recall: float | None
    segments: int = 0
    """Pieces of the index."""
    disk_bytes: int = 0
    """Size of its files."""


@dataclass(frozen=True, slots=True)
class ServerStats:
    """Counters since the server's start."""

    version: str
    uptime: timedelta
    requests: dict[str, int]
    """Keyed "Method/CODE"."""
    images: int
    batches: int
    queue_depth: int
    resident_bytes: int
    galleries: tuple[GalleryStats, ...]
