"""Galleries with small segments, and everything that one shows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from server.galleries import columns
from server.galleries.catalog import Catalog
from server.galleries.filters import Filter
from server.galleries.gallery import Gallery
from server.galleries.items import NewItem
from server.galleries.searching import SearchTuning
from tests.server.galleries.generated import SCHEMA, gallery_settings, make_items, random_features

SEGMENT_ROWS = 100


@pytest.fixture
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    """A segment is full at 100 rows."""
    monkeypatch.setattr(columns, "SEGMENT_ROWS", SEGMENT_ROWS)


@contextmanager
def opened(data: Path, **settings: Any) -> Iterator[tuple[Catalog, Gallery]]:
    """The catalog of a folder and its gallery `lobby`, made if it is not there."""
    catalog = Catalog.open(data, SearchTuning(recall_every=1))
    try:
        known = catalog.list()
        yield catalog, known[0] if known else catalog.create(gallery_settings(**settings))
    finally:
        catalog.close()


def some_items(seed: int, count: int, first: int = 0, **fields: Any) -> list[NewItem]:
    """Items ``i<first>`` to ``i<first + count - 1>``; another seed gives other features."""
    features = random_features(np.random.default_rng(seed), SCHEMA, count)
    return make_items(features, [f"i{n:05}" for n in range(first, first + count)], **fields)


def contents(gallery: Gallery) -> dict[str, Any]:
    """Everything the gallery holds, by item id, comparable with ``==``."""
    found = [gallery.get(item.item_id) for item in gallery.list(Filter(), "", 1_000_000)]
    return {
        item.item_id: (
            item.person_id,
            item.camera_id,
            item.captured_at,
            item.attributes,
            item.sequence,
            item.visibility.tobytes(),
            item.vectors.tobytes() if item.vectors is not None else None,
        )
        for item in found
    }


def files(data: Path) -> list[Path]:
    """The segment files."""
    return sorted((data / "segments").glob("*.seg"))


Write = Callable[[Gallery], Any]
