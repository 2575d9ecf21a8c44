"""Which segments of a gallery are to be written anew, and the writing."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from server.galleries import columns
from server.galleries.items import Int64
from server.galleries.segments.folder import SegmentFolder
from server.galleries.segments.sealed import SealedSegment
from server.galleries.segments.sealing import GONE, seal, sealing_order
from server.galleries.segments.stretch import Segment, Stretch
from server.galleries.settings import GallerySettings
from server.galleries.snapshots import Snapshot
from server.galleries.store import Store
from server.threads import short_turns

WORN = 0.25
"""A sealed segment is rewritten when a larger share of its rows is dead."""
SMALL = 0.5
"""Segments with fewer live rows than this share of a full one are merged."""


class GallerySegments:
    """The segment files of one gallery."""

    def __init__(self, folder: SegmentFolder, gallery: int, settings: GallerySettings, store: Store) -> None:
        schema, model = settings.schema, settings.model
        self._folder = folder
        self._gallery = gallery
        self._schema = schema
        self._exact = not settings.compact
        self._fast = settings.compact or settings.latency_target_us is not None
        self._store = store
        self._facts = {
            "gallery": gallery,
            "parts": [[part.name, part.dim, part.weight, part.always_visible] for part in schema.parts],
            "prior": schema.prior,
            "model": dataclasses.asdict(model) if model else None,
        }

    def opened(self) -> list[SealedSegment]:
        """The sound segments on disk, oldest first; the others are removed."""
        return self._folder.open(self._gallery, self._schema, self._facts, exact=self._exact, fast=self._fast)

    def due(self, closed: Sequence[Stretch]) -> list[Segment]:
        """What is to be written into one new file next; empty when all is well."""
        for stretch in closed:
            if not stretch.segment.disk_bytes() or stretch.dead > WORN * stretch.rows:
                return [stretch.segment]
        small = sorted(
            (each for each in closed if each.live < SMALL * columns.SEGMENT_ROWS), key=lambda each: each.live
        )
        rows = np.cumsum([stretch.live for stretch in small])
        together = [
            stretch.segment for stretch, total in zip(small, rows, strict=True) if total <= columns.SEGMENT_ROWS
        ]
        return together if len(together) > 1 else []

    def rewritten(self, chosen: Snapshot) -> tuple[SealedSegment | None, Int64]:
        """A new segment of the live rows of ``chosen``, and those in its order; None when there are no such rows.

        Raises:
            OSError: it cannot be written.
        """
        rows = sealing_order(chosen)
        row_ids = self._row_ids(chosen, rows)
        rows, row_ids = rows[row_ids != GONE], row_ids[row_ids != GONE]  # those were deleted meanwhile
        if len(rows) == 0:
            return None, rows
        path = self._folder.next(self._gallery)
        with short_turns():
            seal(path, self._facts, chosen, rows, row_ids)
        return SealedSegment(path, self._schema, self._facts, exact=self._exact, fast=self._fast, fresh=True), rows

    def removed(self, segments: Sequence[Segment]) -> list[Path]:
        """Removes the files of segments that are not used any more; returns which those were."""
        paths = [segment.path for segment in segments if isinstance(segment, SealedSegment)]
        for path in paths:
            self._folder.remove(path)
        return paths

    def forget(self) -> None:
        """Removes all files of the gallery."""
        self._folder.forget(self._gallery)

    def _row_ids(self, chosen: Snapshot, rows: Int64) -> Int64:
        row_ids = np.empty(len(rows), np.int64)
        for stretch in chosen.stretches:
            ours = np.flatnonzero((rows >= stretch.start) & (rows < stretch.stop))
            local = rows[ours] - stretch.start
            segment = stretch.segment
            if isinstance(segment, SealedSegment):
                row_ids[ours] = segment.row_ids[local]
            else:
                item_ids = [segment.item_id(row) for row in local.tolist()]
                row_ids[ours] = self._store.row_ids(self._gallery, item_ids)
        return row_ids
