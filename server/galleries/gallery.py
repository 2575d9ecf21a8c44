"""`Gallery`: items of one model, written through the store and searched in memory."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from glimpse.parts import PartFeatures
from server import faults
from server.errors import InvalidArgument, NotFound, ServerError
from server.galleries.background import Background
from server.galleries.columns import Columns
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
from server.galleries.report import GalleryReport
from server.galleries.searching import Asked, Searcher, SearchTuning
from server.galleries.segments.stretch import Ids, Mask, Segment
from server.galleries.segments.upkeep import GallerySegments
from server.galleries.settings import GallerySettings
from server.galleries.snapshots import Snapshot
from server.galleries.store import Doomed, Store
from server.security.audit import pending, touch
from server.threads import short_turns

RETRY_SECONDS = 30.0
"""Until segments are written again after the disk refused."""

_log = logging.getLogger(__name__)


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
        tuning: SearchTuning,
        segments: GallerySegments,
    ) -> None:
        self.settings = settings
        self._store = store
        self.key = key
        """What the store knows it by."""
        self._columns = columns
        self._snapshot = columns.snapshot(sequence)
        self._writing = threading.Lock()
        self._tending = threading.Lock()
        """Held while segment files are written; before `_writing`, never while it is held."""
        self._segments = segments
        self._background = background
        self._tending_is_due = False
        self._tend_from = 0.0
        self._dropped = False
        self._searcher = Searcher(settings, background, tuning)

    @property
    def snapshot(self) -> Snapshot:
        """What it holds as of its last write."""
        return self._snapshot

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
            segments=len(snapshot.stretches),
            disk_bytes=snapshot.disk_bytes,
            fast_recall=self._searcher.pace.recall,
        )

    def upsert(self, items: Sequence[NewItem], *, stored_at: Sequence[int] | None = None) -> int:
        """Adds or replaces items in one transaction; the last of equal ids wins. Returns the committed sequence.

        Args:
            items: what is stored.
            stored_at: since when distinct items are kept, for those that were in another gallery before; else now.

        Raises:
            InvalidArgument: features that do not fit the gallery's schema; nothing is stored then.
        """
        last = {item.item_id: item for item in items}
        if not last:
            return self.sequence
        with self._writing, short_turns():
            sequence = self._next_sequence()
            batch = make_batch(list(last.values()), self.settings.schema, sequence, time.time_ns() // 1000)
            if stored_at is not None:
                batch = replace(batch, stored_at=np.array(stored_at, np.int64))
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
                rows = snapshot.rows_of(list(item_ids or ()))
            return self._remove(rows), self.sequence

    @contextmanager
    def erasing(self, choose: Callable[[Snapshot], Mask]) -> Iterator[Doomed]:
        """Holds other writes back while the caller erases the chosen items from the store, as write `Doomed.sequence`.
        They leave the searches when the block ends, unless it raises; for what dead rows remember, see `purge`."""
        with self._writing:
            sequence = self._next_sequence()
            snapshot = self._snapshot
            mask = choose(snapshot)
            rows = np.flatnonzero(mask & snapshot.alive)
            item_ids, person_ids, _, _ = snapshot.texts(rows)
            dead = snapshot.texts(np.flatnonzero(mask & ~snapshot.alive))[0]
            yield Doomed(self.key, self.settings.name, sequence, item_ids, person_ids, dead)
            if len(rows):
                self._columns.kill(rows)
                self._publish(sequence)

    def get(self, item_id: str, *, image: bool = False) -> StoredItem:
        """The item with its vectors and, if asked for and kept, its image. NotFound if there is none."""
        snapshot = self._snapshot
        item = self._item(snapshot, item_id, vectors=True)
        if not image or not self.settings.keep_images:
            return item
        sequence, data = self._store.image(self.key, item_id)
        if sequence != item.sequence:
            # Written meanwhile: ask again while nobody writes, so that image and item belong together.
            with self._writing:
                snapshot = self._snapshot
                item = self._item(snapshot, item_id, vectors=True)
                _, data = self._store.image(self.key, item_id)
        return replace(item, image=data)

    def image(self, item_id: str, sequence: int) -> bytes | None:
        """The kept image of an item as write ``sequence`` left it; None if there is none, or another by now."""
        stored, data = self._store.image(self.key, item_id)
        return data if stored == sequence else None

    def features(self, item_id: str) -> PartFeatures:
        """The item's stored features, one row, decoded to float32. NotFound if there is none."""
        snapshot = self._snapshot
        return snapshot.features(np.array([self._row(snapshot, item_id)]))

    def list(self, filter: Filter, after: str, limit: int) -> list[StoredItem]:
        """Up to ``limit`` matching items with ids greater than ``after``, by id, without vectors."""
        snapshot = self._snapshot
        rows = snapshot.page(after, limit, None if filter.empty else filter.mask(snapshot))
        return snapshot.items(rows, vectors=False)

    def search(self, query: PartFeatures, options: SearchOptions) -> Ranking:
        """Ranks the gallery against one row of features.

        Raises:
            InvalidArgument: a query of another schema or of several rows, part weights or a threshold out of range.
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

    def catch_up(self, row_ids: Int64) -> None:
        """Indexes items that are in the store (ascending row ids) and in no segment. For the catalog.

        Raises:
            StoreError: the store cannot be read, or an item is in it twice.
        """
        schema = self.settings.schema
        for batch in self._store.batches(self.key, row_ids, (schema.width, len(schema))):
            with self._writing:
                if self._columns.extend(batch):
                    raise self._store.damaged(f"gallery {self.settings.name!r} holds an item twice")
                full = self._columns.is_full
                self._publish(self.sequence)
            if full:
                self.tend()  # at once, so that memory holds one open segment and not all of them

    def tend(self) -> None:
        """Seals full segments, rewrites worn ones and merges small ones, until none is left. For the background."""
        with self._tending:
            while True:
                with self._writing:
                    segments = self._segments.due(self._columns.closed)
                    self._tending_is_due = bool(segments)
                if not segments:
                    return
                try:
                    self._rewrite(segments)
                except (OSError, ServerError) as error:  # a full disk: they are searched where they are
                    _log.warning("segments of gallery %s cannot be written just now: %s", self.settings.name, error)
                    with self._writing:
                        self._tending_is_due, self._tend_from = False, time.monotonic() + RETRY_SECONDS
                    return

    def purge(self, item_ids: Collection[str], person_ids: Collection[str] = ()) -> Sequence[Path]:
        """Makes the index forget deleted and replaced items for good; what is alive stays.

        When this returns, no segment file and no array that a later search reads holds the vectors, codes, ids or
        attributes of a dead row of these items, or of a dead row that names one of these people. A search that began
        before may hold them until it ends.

        Returns:
            The files that held such rows and are gone; their live rows are in new files.

        Raises:
            OSError: a file cannot be written, the disk being full; call it again then.
        """
        ids = Ids(list(item_ids))
        people = list(person_ids)
        gone: tuple[Path, ...] = ()
        with self._tending:
            with self._writing:
                self._columns.compact()
                self._snapshot = self._columns.snapshot(self._snapshot.sequence)
                worn = [each.segment for each in self._columns.closed if each.remembers(ids, people)]
            for segment in worn:
                gone = (*gone, *self._rewrite([segment]))
        return gone

    def drop(self) -> int:
        """Removes the gallery from the store and forgets its items; returns how many there were. For the catalog."""
        with self.retiring():
            items = self._snapshot.live
            self._store.drop(self.key)
        return items

    @contextmanager
    def retiring(self) -> Iterator[int]:
        """Holds writes back while the caller removes the gallery from the store or puts another in its place; yields
        its key. It is forgotten when the block ends, unless it raises. For the catalog."""
        with self._writing:
            self._next_sequence()
            yield self.key
            self._dropped = True
            self._columns = Columns(self.settings.schema)
            self._snapshot = self._columns.snapshot(self._snapshot.sequence)
        with self._tending:
            self._segments.forget()

    def advance(self, sequence: int) -> None:
        """Counts on from ``sequence``, before anybody has seen the gallery. For the catalog."""
        with self._writing:
            self._snapshot = self._columns.snapshot(sequence)

    def _next_sequence(self) -> int:
        if self._dropped:
            raise NotFound(f"gallery {self.settings.name!r} was deleted or replaced")
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
        if pending() is not None:  # whose the items were; the store names whose they become
            touch(people=self._snapshot.texts(self._snapshot.rows_of(batch.item_ids))[1])
        self._columns.extend(self._store.upsert(self.key, batch, sequence, images))
        self._publish(sequence)

    def _remove(self, rows: Int64) -> int:
        if len(rows) == 0:
            return 0
        snapshot = self._snapshot
        sequence = snapshot.sequence + 1
        self._store.delete(self.key, *snapshot.texts(rows)[:2], sequence)
        self._columns.kill(rows)
        self._publish(sequence)
        return len(rows)

    def _publish(self, sequence: int) -> None:
        if self._columns.needs_compaction:
            self._columns.compact()
        if self._columns.is_full:
            self._columns.close()
        self._snapshot = self._columns.snapshot(sequence)
        if (
            not self._tending_is_due
            and time.monotonic() >= self._tend_from
            and self._segments.due(self._columns.closed)
        ):
            self._tending_is_due = self._background.submit(self.tend)

    def _rewrite(self, segments: Sequence[Segment]) -> Sequence[Path]:
        """Puts live rows of closed segments into one new file, `_tending` held; returns the files that are gone."""
        with self._writing:
            chosen = self._snapshot.among([each for each in self._columns.closed if each.segment in segments])
        old = [stretch.segment for stretch in chosen.stretches]
        new, rows = self._segments.rewritten(chosen)
        with self._writing:
            if self._dropped:
                return []
            self._columns.swap(old, new, rows)
            self._snapshot = self._columns.snapshot(self._snapshot.sequence)
        faults.point("seal.swapped")
        removed = self._segments.removed(old)
        faults.point("seal.removed")
        return removed
