"""A gallery against a dictionary: random writes, searches, seals and restarts, each answer held against the oracle's.

2,000 operations by default (a few seconds); 20,000 with

    GLIMPSE_MODEL_OPERATIONS=20000 python -m pytest tests/server/galleries/segments/test_model.py

A failure names the seed and the operation it broke at; GLIMPSE_MODEL_SEED replays it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glimpse.parts import PartFeatures
from server.errors import NotFound
from server.galleries.catalog import Catalog
from server.galleries.filters import Filter
from server.galleries.gallery import Gallery
from server.galleries.items import NewItem
from server.galleries.ranking import SearchOptions
from server.galleries.searching import SearchTuning
from tests.server.galleries.generated import (
    CAMERAS,
    PEOPLE,
    SCHEMA,
    gallery_settings,
    make_items,
    oracle_ranking,
    random_features,
)
from tests.server.galleries.segments.galleries import small_segments
from tests.server.galleries.test_filters import matches, random_filter

pytestmark = pytest.mark.usefixtures(small_segments.__name__)

OPERATIONS = int(os.environ.get("GLIMPSE_MODEL_OPERATIONS", "2000"))
SEED = int(os.environ.get("GLIMPSE_MODEL_SEED", "0"))
IDS = [f"i{n}" for n in range(420)]
VALUES = ("a", 1, None, ["x"])


@dataclass
class Model:
    """The gallery under test and what it must hold."""

    data: Path
    rng: np.random.Generator
    items: dict[str, NewItem] = field(default_factory=dict)
    done: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.catalog = Catalog.open(self.data, SearchTuning(recall_every=0))
        self.gallery: Gallery = self.catalog.create(gallery_settings())
        self.pool = random_features(self.rng, SCHEMA, 400)

    def run(self, operations: int) -> None:
        steps: list[tuple[float, Callable[[], None]]] = [
            (0.30, self.add),
            (0.08, self.update),
            (0.10, self.delete),
            (0.01, self.delete_matching),
            (0.33, self.search),
            (0.06, self.look_up),
            (0.04, self.page),
            (0.03, self.seal),
            (0.03, self.purge),
            (0.01, self.wait),
            (0.01, self.restart),
        ]
        chances, chosen = zip(*steps, strict=True)
        for _ in range(operations):
            step = chosen[int(self.rng.choice(len(chosen), p=chances))]
            step()
            self.done[step.__name__] = self.done.get(step.__name__, 0) + 1
            assert len(self.gallery) == len(self.items)

    def some_ids(self, most: int) -> list[str]:
        count = int(self.rng.integers(1, most + 1))
        return [IDS[n] for n in self.rng.choice(len(IDS), count, replace=False)]

    def metadata(self) -> dict[str, Any]:
        rng = self.rng
        return {
            "person_id": PEOPLE[rng.integers(3)],
            "camera_id": CAMERAS[rng.integers(4)],
            "captured_at": None if rng.random() < 0.2 else int(rng.integers(0, 50)),
            "attributes": {"k": VALUES[rng.integers(4)]} if rng.random() < 0.6 else None,
        }

    def add(self) -> None:
        ids = self.some_ids(12)
        rows = self.pool[self.rng.integers(0, len(self.pool), len(ids))]
        items = [make_items(rows[at : at + 1], [item_id], **self.metadata())[0] for at, item_id in enumerate(ids)]
        self.gallery.upsert(items)
        self.items |= {item.item_id: item for item in items}

    def update(self) -> None:
        (item_id,) = self.some_ids(1)
        changes = {name: value for name, value in self.metadata().items() if self.rng.random() < 0.6}
        changes = {name: value for name, value in changes.items() if value is not None}
        known = self.items.get(item_id)
        if known is None:
            with pytest.raises(NotFound):
                self.gallery.update(item_id, **changes)
            return
        self.gallery.update(item_id, **changes)
        kept = {name: getattr(known, name) for name in ("person_id", "camera_id", "captured_at", "attributes")}
        self.items[item_id] = NewItem(item_id, known.vectors, known.visibility, **(kept | changes))

    def delete(self) -> None:
        ids = self.some_ids(8)
        assert self.gallery.delete(item_ids=ids)[0] == sum(self.items.pop(item_id, None) is not None for item_id in ids)

    def delete_matching(self) -> None:
        chosen = random_filter(self.rng)
        if chosen.empty:
            return
        gone = [item_id for item_id, item in self.items.items() if matches(chosen, item)]
        if len(gone) > 60:
            return
        assert self.gallery.delete(filter=chosen)[0] == len(gone)
        for item_id in gone:
            del self.items[item_id]

    def search(self) -> None:
        rng = self.rng
        query = random_features(rng, SCHEMA, 1)
        options = SearchOptions(
            top_k=None if rng.random() < 0.1 else int(rng.integers(1, 40)),
            filter=random_filter(rng) if rng.random() < 0.5 else Filter(),
            min_joint_visibility=float(rng.choice([0.0, 0.0, 0.3])),
            include_incomparable=bool(rng.random() < 0.3),
            leave_out=str(rng.choice(IDS)) if rng.random() < 0.2 else None,
        )
        ids = [i for i, item in self.items.items() if matches(options.filter, item) and i != options.leave_out]
        ranking = self.gallery.search(query, options)
        expected = oracle_ranking(
            query,
            ids,
            self.features(ids),
            top_k=options.top_k,
            include_incomparable=options.include_incomparable,
            min_joint_visibility=options.min_joint_visibility,
        )
        assert ranking.exact
        assert ranking.item_ids() == [row[0] for row in expected]
        np.testing.assert_allclose(ranking.distance, [row[1] for row in expected], atol=1e-5)
        np.testing.assert_allclose(ranking.joint, [row[2] for row in expected], atol=1e-6)

    def features(self, ids: list[str]) -> PartFeatures:
        vectors = np.array([self.items[i].vectors for i in ids], np.float32).reshape(len(ids), SCHEMA.width)
        visibility = np.array([self.items[i].visibility for i in ids], np.float32).reshape(len(ids), len(SCHEMA))
        return PartFeatures.trusted(vectors, visibility, SCHEMA)

    def look_up(self) -> None:
        (item_id,) = self.some_ids(1)
        known = self.items.get(item_id)
        if known is None:
            with pytest.raises(NotFound):
                self.gallery.get(item_id)
            return
        found = self.gallery.get(item_id)
        assert (found.person_id, found.camera_id, found.captured_at) == (
            known.person_id,
            known.camera_id,
            known.captured_at,
        )
        assert found.attributes == (known.attributes or {})
        np.testing.assert_array_equal(found.vectors, known.vectors)
        np.testing.assert_array_equal(found.visibility, known.visibility)

    def page(self) -> None:
        after, limit = str(self.rng.choice(["", *IDS])), int(self.rng.integers(1, 500))
        chosen = random_filter(self.rng)
        expected = sorted(i for i, item in self.items.items() if i > after and matches(chosen, item))
        assert [item.item_id for item in self.gallery.list(chosen, after, limit)] == expected[:limit]

    def seal(self) -> None:
        """Closes the open segment before it is full."""
        with self.gallery._writing:
            self.gallery._columns.close()
            self.gallery._publish(self.gallery.sequence)

    def purge(self) -> None:
        ids = self.some_ids(5)
        self.gallery.purge(ids)
        snapshot = self.gallery._snapshot
        dead = {snapshot.item_id(row) for row in np.flatnonzero(~snapshot.alive).tolist()}
        assert not dead & set(ids)

    def wait(self) -> None:
        """For the background: until here everything ran beside it."""
        self.catalog.drain()

    def restart(self) -> None:
        sequence = self.gallery.sequence
        self.catalog.close()
        self.catalog = Catalog.open(self.data, SearchTuning(recall_every=0))
        self.gallery = self.catalog.get("lobby")
        assert self.gallery.sequence == sequence


@pytest.mark.timeout(60 + OPERATIONS // 20)  # each write waits for the disk
def test_a_gallery_answers_as_a_dictionary_and_the_oracle_do(tmp_path: Path) -> None:
    model = Model(tmp_path, np.random.default_rng(SEED))
    try:
        model.run(OPERATIONS)
        model.restart()
        for _ in range(5):
            model.search()
    except BaseException as error:
        error.add_note(f"GLIMPSE_MODEL_SEED={SEED}, after {sum(model.done.values())} operations: {model.done}")
        raise
    finally:
        model.catalog.close()
    assert len(model.done) == 11, "every operation has run"
