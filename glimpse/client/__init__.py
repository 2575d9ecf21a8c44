"""The Python client of a Glimpse server.

    from glimpse.client import Client

    with Client("localhost:50051") as glimpse:
        for match in glimpse.search("lobby", "query.jpg", top_k=5):
            print(match.item_id, match.distance, match.joint_visibility)

`Client` has one method a task; what goes in and comes out are the frozen dataclasses of `glimpse.client.values`;
a refusal by the server is a `GlimpseError` whose message is the server's own sentence.
"""

from glimpse.client.audit import AuditRow, AuditVerdict
from glimpse.client.client import Client
from glimpse.client.errors import (
    AlreadyExists,
    DeadlineExceeded,
    FailedPrecondition,
    GlimpseError,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
)
from glimpse.client.keeping import EraseReport, MigrationInfo, RestoredGallery, SnapshotInfo
from glimpse.client.values import (
    Box,
    Extraction,
    Filter,
    GalleryInfo,
    GalleryStats,
    ImageSource,
    Item,
    ItemResult,
    Match,
    ModelInfo,
    PartMatch,
    Query,
    RefusedImage,
    SearchOptions,
    SearchResult,
    ServerStats,
    StoredItem,
    Timings,
)

__all__ = [
    "AlreadyExists",
    "AuditRow",
    "AuditVerdict",
    "Box",
    "Client",
    "DeadlineExceeded",
    "EraseReport",
    "Extraction",
    "FailedPrecondition",
    "Filter",
    "GalleryInfo",
    "GalleryStats",
    "GlimpseError",
    "ImageSource",
    "InvalidArgument",
    "Item",
    "ItemResult",
    "Match",
    "MigrationInfo",
    "ModelInfo",
    "NotFound",
    "PartMatch",
    "PermissionDenied",
    "Query",
    "RefusedImage",
    "ResourceExhausted",
    "RestoredGallery",
    "SearchOptions",
    "SearchResult",
    "ServerStats",
    "SnapshotInfo",
    "StoredItem",
    "Timings",
    "Unauthenticated",
    "Unavailable",
]
