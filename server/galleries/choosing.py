"""`Order`: who is to be erased."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from server.errors import InvalidArgument
from server.galleries.attributes import canonical
from server.galleries.filters import Filter
from server.galleries.items import MAX_TEXT
from server.galleries.segments.stretch import Mask
from server.galleries.snapshots import Snapshot
from server.galleries.store import Kept

MAX_IDS = 10_000


@dataclass(frozen=True, slots=True)
class Order:
    """Items by id, all items of people, and all that match a filter; any of these, and at least one.

    Args:
        gallery: in which gallery; None for all.
        item_ids, person_ids: at most 10,000 each. Unknown ones are no error: they may be in a backup.
        filter: not empty.

    Raises:
        InvalidArgument: none of the three, an empty id or filter, or too many ids.
    """

    gallery: str | None = None
    item_ids: tuple[str, ...] = ()
    person_ids: tuple[str, ...] = ()
    filter: Filter | None = None

    def __post_init__(self) -> None:
        if not (self.item_ids or self.person_ids or self.filter):
            raise InvalidArgument("say whom to erase: by item_ids, person_ids or a filter")
        if self.filter is not None and self.filter.empty:
            raise InvalidArgument(
                "an empty filter would erase every item; name at least one field, or delete the gallery", field="filter"
            )
        for name, named in (("item_ids", self.item_ids), ("person_ids", self.person_ids)):
            if len(named) > MAX_IDS:
                raise InvalidArgument(f"{name} has {len(named):,} entries, at most {MAX_IDS:,} are allowed", field=name)
            if not all(0 < len(each) <= MAX_TEXT for each in named):
                raise InvalidArgument(f"each of {name} must have 1 to {MAX_TEXT} characters", field=name)

    @property
    def people(self) -> Sequence[str]:
        """Everybody who is named."""
        return (*self.person_ids, *(self.filter.person_ids if self.filter else ()))

    @property
    def filtered_items(self) -> Sequence[str]:
        """Items that the filter names."""
        return self.filter.item_ids if self.filter else ()

    def mask(self, snapshot: Snapshot) -> Mask:
        """bool ``(rows,)``: which rows of a gallery are meant; dead ones may be among them."""
        mask = np.zeros(snapshot.rows, np.bool_)
        if self.item_ids:
            mask |= Filter(item_ids=self.item_ids).mask(snapshot)
        if self.person_ids:
            mask |= Filter(person_ids=self.person_ids).mask(snapshot)
        if self.filter is not None:
            mask |= self.filter.mask(snapshot)
        return mask

    def fits(self, item: Kept) -> bool:
        """Whether an item of a backup is meant by the filter."""
        return self.filter is not None and matches(self.filter, item)


def matches(chosen: Filter, item: Kept) -> bool:
    """What `Filter.mask` says of a row, for an item of a backup."""
    time = item.captured_at
    if chosen.camera_ids and item.camera_id not in chosen.camera_ids:
        return False
    if chosen.person_ids and item.person_id not in chosen.person_ids:
        return False
    if chosen.item_ids and item.item_id not in chosen.item_ids:
        return False
    if chosen.captured_after is not None and (time is None or time < chosen.captured_after):
        return False
    if chosen.captured_before is not None and (time is None or time >= chosen.captured_before):
        return False
    if chosen.attributes:
        known = json.loads(item.attributes) if item.attributes else {}
        for key, value in chosen.attributes.items():
            if key not in known or canonical(known[key]) != canonical(value):
                return False
    return not any(matches(entry, item) for entry in chosen.exclude)
