"""`Filter`: which items may be returned, compiled to a mask over a snapshot's rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from server.errors import InvalidArgument
from server.galleries.attributes import MAX_KEYS
from server.galleries.items import attributes_to_json, check_time
from server.galleries.segments.stretch import NO_TIME, Ids, Mask, Stretch
from server.galleries.snapshots import Snapshot

MAX_EXCLUDES = 1000
"""Each costs a look at every item."""


@dataclass(frozen=True)
class Filter:
    """Values within a field are OR, fields are AND; the empty filter allows all.

    Args:
        camera_ids: items of these cameras.
        captured_after: items captured at or after this time (microseconds since 1970 UTC); an item without a time
            does not match.
        captured_before: items captured before this time.
        person_ids: items of these people.
        item_ids: these items.
        attributes: items whose attributes hold each of these values; JSON equality, numbers as floats. At most 64
            keys, those of ``exclude`` included, and 16 KiB as JSON, as no item has more.
        exclude: each entry removes the items that match all of its fields; at most 1,000 entries.

    Raises:
        InvalidArgument: ``captured_after`` not before ``captured_before``, too many attributes or exclude entries, an
            exclude entry that is empty or has exclude entries itself.
    """

    camera_ids: tuple[str, ...] = ()
    captured_after: int | None = None
    captured_before: int | None = None
    person_ids: tuple[str, ...] = ()
    item_ids: tuple[str, ...] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict)
    exclude: tuple[Filter, ...] = ()

    def __post_init__(self) -> None:
        check_time("filter.captured_after", self.captured_after)
        check_time("filter.captured_before", self.captured_before)
        after, before = self.captured_after, self.captured_before
        if after is not None and before is not None and after >= before:
            raise InvalidArgument(
                "the filter can match nothing: captured_after must be earlier than captured_before",
                field="filter.captured_before",
            )
        attributes_to_json(self.attributes)  # checks the size
        keys = len(self.attributes) + sum(len(entry.attributes) for entry in self.exclude)
        if keys > MAX_KEYS:
            raise InvalidArgument(
                f"the filter names {keys:,} attributes, at most {MAX_KEYS} are allowed", field="filter.attributes"
            )
        check_excludes(len(self.exclude))
        for entry in self.exclude:
            if entry.exclude:
                raise InvalidArgument("entries of filter.exclude may not exclude further", field="filter.exclude")
            if entry.empty:
                raise InvalidArgument(
                    "an empty entry of filter.exclude would remove every item; name at least one field",
                    field="filter.exclude",
                )

    @property
    def empty(self) -> bool:
        """Whether it allows everything."""
        return (
            not (self.camera_ids or self.person_ids or self.item_ids or self.attributes or self.exclude)
            and self.captured_after is None
            and self.captured_before is None
        )

    def mask(self, snapshot: Snapshot) -> Mask:
        """bool ``(rows,)``: which rows match. Dead rows may match; the caller knows which are alive."""
        return np.concatenate([np.empty(0, np.bool_), *map(self._mask, snapshot.stretches)])

    def _mask(self, stretch: Stretch) -> Mask:
        segment, rows = stretch.segment, stretch.rows
        mask = np.ones(rows, np.bool_)
        if self.camera_ids:
            mask &= segment.among_cameras(self.camera_ids, rows)
        if self.person_ids:
            mask &= segment.among_people(self.person_ids, rows)
        if self.captured_after is not None:  # NO_TIME is earlier than every time
            mask &= segment.captured_at[:rows] >= self.captured_after
        if self.captured_before is not None:
            captured_at = segment.captured_at[:rows]
            mask &= (captured_at < self.captured_before) & (captured_at != NO_TIME)
        if self.item_ids:
            named = np.zeros(rows, np.bool_)
            named[stretch.live_rows_of(self._ids)] = True
            mask &= named
        for key, value in self.attributes.items():
            mask &= segment.having(key, value, rows)
        for entry in self.exclude:
            mask &= ~entry._mask(stretch)
        return mask

    @cached_property
    def _ids(self) -> Ids:
        return Ids(self.item_ids)


def check_excludes(count: int) -> None:
    """InvalidArgument when a filter has too many exclude entries."""
    if count > MAX_EXCLUDES:
        raise InvalidArgument(
            f"filter.exclude has {count:,} entries, at most {MAX_EXCLUDES:,} are allowed", field="filter.exclude"
        )
