"""A request is let go of when its call ends, not when the garbage collector comes: it may hold megabytes."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from protos.glimpse.v1 import gallery_pb2, search_pb2
from tests.abuse.serving import GOOD_FEATURES, GOOD_IMAGE, answer_of
from tests.bundles import tiny_bundle
from tests.server.running import Running

Search = search_pb2.SearchRequest
BAD_IMAGE = GOOD_IMAGE[:70]
REQUESTS = (Search, search_pb2.ExtractRequest, gallery_pb2.UpsertRequest, gallery_pb2.ListItemsRequest)

CALLS: list[tuple[str, str, Any]] = [
    ("a search", "Search", Search(gallery="crowd", query_image=GOOD_IMAGE)),
    ("a search by features", "Search", Search(gallery="crowd", features=GOOD_FEATURES)),
    ("a search by a bad image", "Search", Search(gallery="crowd", query_image=BAD_IMAGE)),
    ("a search by a bad tracklet", "Search", Search(gallery="crowd", tracklet={"images": [GOOD_IMAGE, BAD_IMAGE]})),
    ("a search by bad features", "Search", Search(gallery="crowd", features={"vectors": b"x"})),
    ("a search by a bad filter", "Search", Search(gallery="crowd", item_id="0-0", filter={"exclude": [{}]})),
    ("a search with bad weights", "Search", Search(gallery="crowd", item_id="0-0", part_weights={"hat": 1})),
    ("a search in no gallery", "Search", Search(gallery="nowhere", query_image=GOOD_IMAGE)),
    ("a whole ranking", "SearchAll", Search(gallery="crowd", query_image=GOOD_IMAGE)),
    ("a whole ranking by a bad image", "SearchAll", Search(gallery="crowd", query_image=BAD_IMAGE)),
    ("an extraction", "Extract", search_pb2.ExtractRequest(images=[GOOD_IMAGE, BAD_IMAGE] * 5)),
    ("an extraction of nothing", "Extract", search_pb2.ExtractRequest()),
    ("a bad page", "ListItems", gallery_pb2.ListItemsRequest(gallery="crowd", page_token="!")),
    (
        "a stream of searches",
        "SearchStream",
        [Search(gallery="crowd", query_image=image) for image in (GOOD_IMAGE, BAD_IMAGE)],
    ),
    (
        "a batch",
        "Upsert",
        [
            gallery_pb2.UpsertRequest(
                gallery="crowd",
                items=[
                    gallery_pb2.Item(item_id="0-0", image=GOOD_IMAGE),
                    gallery_pb2.Item(item_id="bad image", image=BAD_IMAGE),
                    gallery_pb2.Item(item_id="bad features", features={"vectors": b"x"}),
                    gallery_pb2.Item(item_id="\0", features=GOOD_FEATURES),
                ],
            )
        ],
    ),
    ("a bad batch", "Upsert", [gallery_pb2.UpsertRequest(gallery="crowd")]),
]


@pytest.fixture(scope="module")
def inside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server in this process, whose objects can be counted."""
    folder: Path = tmp_path_factory.mktemp("inside")
    with Running(folder / "data", tiny_bundle(folder / "model").source) as running:
        running.gallery("crowd")
        running.crowd("crowd", 3)
        yield running


@pytest.mark.parametrize(("name", "method", "request_"), CALLS, ids=[case[0] for case in CALLS])
def test_request_is_let_go_of_when_its_call_ends(inside: Running, name: str, method: str, request_: Any) -> None:
    service = inside.search if hasattr(inside.search, method) else inside.galleries

    def call() -> None:
        answer_of(getattr(service, method), iter(request_) if isinstance(request_, list) else request_, timeout=30)

    async def nothing() -> None:
        """What the call left for the event loop to do has been done by then."""

    call()
    gc.collect()
    held = requests_in_memory()
    gc.disable()
    try:
        for _ in range(5):
            call()
        for _ in range(3):
            inside.run(nothing())
        assert requests_in_memory() <= held + 1  # a thread may still hold the last one it worked for
    finally:
        gc.enable()


def requests_in_memory() -> int:
    return sum(isinstance(each, REQUESTS) for each in gc.get_objects())
