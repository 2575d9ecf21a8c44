"""`Gallery`: items of one model, written through the store and searched in memory."""

from __future__ import annotations

import threading
import time
from bisect import bisect_right
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from glimpse.parts import PartFeatures
from server.errors import InvalidArgument, NotFound, ServerError
from server.galleries.background import Background
from server.galleries.columns import Columns, Snapshot
from server.galleries.filters import Filter
from server.galleries.items import (
    Batch,
    Int64,
    NewItem,
    StoredItem,
    attributes_to_json,
    check_text,
    check_time,
    make_batch,
)
from server.galleries.ranking import Ranking, SearchOptions
from server.galleries.searching import Asked, Searcher
from server.galleries.settings import GallerySettings
from server.galleries.store import Store


@dataclass(frozen=True, slots=True)
class GalleryReport:
    """What a gallery holds, as of one write."""

    items: int
    bytes: int
    """Features and metadata of live items."""
    sequence: int
    tombstones: int
    """Deleted or replaced rows that still take memory."""
    patterns: int
    """Visibility patterns (which parts are visible) among the live items."""
    memory_bytes: int
    fast_recall: float | None
    """Share of the exact matches that fast searches found, by samples; None before the first sample."""


class Gallery:
    """One gallery; made by `catalog.Catalog`. Every method may be called from any thread.

    Writes of a gallery run one after the other; each is on disk before it can be seen, and is seen whole by every
    search that starts after it returns. All writing methods raise ResourceExhausted when the disk is full,
    Unavailable when it fails, and NotFound when the gallery was deleted.
    """

    def __init__(
        self,
        store: Store,
        key: int,
        settings: GallerySettings,
        columns: Columns,
        sequence: int,
        background: Background,
        recall_every: int,
    ) -> None:
        self.settings = settings
        self._store = store
        self._key = key
        self._columns = columns
        self._snapshot = columns.snapshot(sequence)
        self._writing = threading.Lock()
        self._dropped = False
        self._searcher = Searcher(settings, background, recall_every)

    @property
    def sequence(self) -> int:
        """The last committed write."""
        return self._snapshot.sequence

    def __len__(self) -> int:
        return self._snapshot.live

    def report(self) -> GalleryReport:
        snapshot = self._snapshot
        return GalleryReport(
            items=snapshot.live,
            bytes=snapshot.bytes,
            sequence=snapshot.sequence,
            tombstones=snapshot.dead,
            patterns=snapshot.pattern_count,
            memory_bytes=snapshot.memory_bytes,
            fast_recall=self._searcher.pace.recall,
        )

    def upsert(self, items: Sequence[NewItem]) -> int:
        """Adds or replaces items in one transaction; the last of equal ids wins. Returns the committed sequence.

        Raises:
            InvalidArgument: features that do not fit the gallery's schema; nothing is stored then.
        """
        last = {item.item_id: item for item in items}
        if not last:
            return self.sequence
        with self._writing:
            sequence = self._next_sequence()
            batch = make_batch(list(last.values()), self.settings.schema, sequence, time.time_ns() // 1000)
            images = [item.image for item in last.values()] if self.settings.keep_images else None
            self._write(batch, sequence, images)
        return sequence

    def update(
        self,
        item_id: str,
        *,
        person_id: str | None = None,
        camera_id: str | None = None,
        captured_at: int | None = None,
        attributes: Mapping[str, Any] | None = None,
    ) -> StoredItem:
        """Replaces the given metadata of an item (None leaves a field as it is); its features and age stay.

        Raises:
            NotFound: no such item.
            InvalidArgument: a value that `NewItem` would refuse.
        """
        changes: dict[str, Any] = {}
        if person_id is not None:
            check_text("person_id", person_id)
            changes["person_ids"] = [person_id]
        if camera_id is not None:
            check_text("camera_id", camera_id)
            changes["camera_ids"] = [camera_id]
        if captured_at is not None:
            check_time("captured_at", captured_at)
            changes["captured_at"] = [captured_at]
        if attributes is not None:
            changes["attributes"] = [attributes_to_json(attributes)]
        with self._writing:
            sequence = self._next_sequence()
            row = self._row(self._snapshot, item_id)
            batch = self._snapshot.batch(np.array([row]))
            self._write(replace(batch, sequences=np.array([sequence]), **changes), sequence, None)
            snapshot = self._snapshot
        return self._item(snapshot, item_id, vectors=False)

    def delete(self, *, item_ids: Collection[str] | None = None, filter: Filter | None = None) -> tuple[int, int]:
        """Removes the named items (unknown ids are no error), or all that match a filter.

        Returns:
            How many were there and are gone, and the committed sequence.

        Raises:
            InvalidArgument: both or neither given, or an empty filter.
        """
        if (item_ids is None) == (filter is None):
            raise InvalidArgument("name the items to delete either by item_ids or by a filter")
        if filter is not None and filter.empty:
            raise InvalidArgument(
                "an empty filter would delete every item; name at least one field, or delete the gallery",
                field="filter",
            )
        with self._writing:
            self._next_sequence()
            snapshot = self._snapshot
            if filter is not None:
                rows = np.flatnonzero(filter.mask(snapshot) & snapshot.alive)
            else:
                found = {snapshot.row_of(item_id) for item_id in item_ids or ()}
                rows = np.array(sorted(row for row in found if row is not None), np.int64)
            return self._remove(rows), self.sequence

    def expire(self, now_us: int) -> int:
        """Removes the items stored longer ago than the gallery's retention; returns how many."""
        retention = self.settings.retention_us
        if retention is None:
            return 0
        with self._writing:
            self._next_sequence()
            snapshot = self._snapshot
            return self._remove(np.flatnonzero(snapshot.alive & (snapshot.stored_at < now_us - retention)))

    def get(self, item_id: str, *, image: bool = False) -> StoredItem:
        """The item with its vectors and, if asked for and kept, its image. NotFound if there is none."""
        snapshot = self._snapshot
        item = self._item(snapshot, item_id, vectors=True)
        if not image or not self.settings.keep_images:
            return item
        sequence, data = self._store.image(self._key, item_id)
        if sequence != item.sequence:
            # Written meanwhile: ask again while nobody writes, so that image and item belong together.
            with self._writing:
                snapshot = self._snapshot
                item = self._item(snapshot, item_id, vectors=True)
                _, data = self._store.image(self._key, item_id)
        return replace(item, image=data)

    def features(self, item_id: str) -> PartFeatures:
        """The item's stored features, one row, decoded to float32. NotFound if there is none."""
        snapshot = self._snapshot
        return snapshot.features(np.array([self._row(snapshot, item_id)]))

    def list(self, filter: Filter, after: str, limit: int) -> list[StoredItem]:
        """Up to ``limit`` matching items with ids greater than ``after``, by id, without vectors."""
        snapshot = self._snapshot
        rows = snapshot.by_item_id
        if after:
            rows = rows[bisect_right(rows, after, key=snapshot.item_id) :]
        if not filter.empty:
            mask = filter.mask(snapshot)
            rows = [row for row in rows if mask[row]]
        return snapshot.items(np.array(rows[:limit], np.int64), vectors=False)

    def search(self, query: PartFeatures, options: SearchOptions) -> Ranking:
        """Ranks the gallery against one row of features.

        Raises:
            InvalidArgument: a query of another schema or of several rows, part weights or a threshold out of range.
            FailedPrecondition: a fast search on a server without Faiss.
        """
        (ranking,) = self.search_together([(query, options)])
        if isinstance(ranking, ServerError):
            raise ranking
        return ranking

    def search_together(self, asked: Sequence[Asked]) -> Sequence[Ranking | ServerError]:
        """Ranks the gallery, as of one write, against several queries; exact searches read the items once for all.

        Returns:
            For each query its ranking, or the error that `search` would raise.
        """
        return self._searcher.search(self._snapshot, asked)

    def drop(self) -> int:
        """Removes the gallery from the store and forgets its items; returns how many there were. For the catalog."""
        with self._writing:
            self._next_sequence()
            self._store.drop(self._key)
            self._dropped = True
            items = self._snapshot.live
            self._columns = Columns(self.settings.schema)
            self._snapshot = self._columns.snapshot(self._snapshot.sequence)
            self._searcher.forget()
        return items

    def _next_sequence(self) -> int:
        if self._dropped:
            raise NotFound(f"gallery {self.settings.name!r} was deleted")
        return self._snapshot.sequence + 1

    def _row(self, snapshot: Snapshot, item_id: str) -> int:
        row = snapshot.row_of(item_id)
        if row is None:
            raise NotFound(f"gallery {self.settings.name!r} has no item {item_id[:80]!r}")
        return row

    def _item(self, snapshot: Snapshot, item_id: str, *, vectors: bool) -> StoredItem:
        return snapshot.items(np.array([self._row(snapshot, item_id)]), vectors=vectors)[0]

    def _write(self, batch: Batch, sequence: int, images: Sequence[bytes | None] | None) -> None:
        self._columns.reserve(len(batch))
        self._store.upsert(self._key, batch, sequence, images)
        self._columns.extend(batch)
        self._publish(sequence)

    def _remove(self, rows: Int64) -> int:
        if len(rows) == 0:
            return 0
        snapshot = self._snapshot
        sequence = snapshot.sequence + 1
        self._store.delete(self._key, [snapshot.item_id(row) for row in rows.tolist()], sequence)
        self._columns.kill(rows)
        self._publish(sequence)
        return len(rows)

    def _publish(self, sequence: int) -> None:
        if self._columns.needs_compaction:
            self._columns = self._columns.compacted()
        self._snapshot = self._columns.snapshot(sequence)
