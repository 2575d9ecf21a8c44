"""`SearchOptions` and `Ranking`: what a search is asked and what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np

from glimpse.parts import Float32, PartFeatures
from server.errors import InvalidArgument
from server.galleries.columns import Snapshot
from server.galleries.filters import Filter
from server.galleries.items import Int64, ItemMetadata

Mode = Literal["auto", "exact", "fast"]
_MODES = get_args(Mode)


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """How to search.

    Args:
        top_k: matches wanted, at least 1; None asks for the whole ranking.
        filter: restricts the items.
        part_weights: part name -> weight >= 0; when not empty, replaces the schema's weights.
        min_joint_visibility: pairs that share less are incomparable, in [0, 1].
        mode: "exact" scores every item; "fast" chooses by compact codes, where the gallery holds them (it has a latency
            target or is compact), and is exact elsewhere; "auto" is fast in a compact gallery and where exact searches
            would miss the latency target.
        include_incomparable: fill up to ``top_k`` with incomparable items.
        leave_out: an item that is not to be returned, if it is there.

    Raises:
        InvalidArgument: ``top_k`` below 1 or an unknown mode. Weights and the threshold depend on the schema and are
            checked by the search.
    """

    top_k: int | None = 10
    filter: Filter = field(default_factory=Filter)
    part_weights: Mapping[str, float] = field(default_factory=dict)
    min_joint_visibility: float = 0.0
    mode: Mode = "auto"
    include_incomparable: bool = False
    leave_out: str | None = None

    def __post_init__(self) -> None:
        if self.top_k is not None and self.top_k < 1:
            raise InvalidArgument(f"top_k must be at least 1, got {self.top_k}", field="top_k")
        if self.mode not in _MODES:
            raise InvalidArgument(f"mode must be one of {list(_MODES)}, got {self.mode!r}", field="mode")


@dataclass(frozen=True, slots=True, eq=False)
class Ranking:
    """Matches, best first, over one snapshot of a gallery, however long one pages through them."""

    rows: Int64
    """``(K,)``: rows of the snapshot; of use to `item` and `features` only."""
    distance: Float32
    """float32 ``(K,)`` in [0, 2]; NaN where incomparable."""
    joint: Float32
    """float32 ``(K,)``: joint visibility in [0, 1]."""
    exact: bool
    """Whether this is certainly the exact ranking."""
    sequence: int
    """The last committed write that it reflects."""
    snapshot: Snapshot = field(repr=False)

    def __len__(self) -> int:
        return len(self.rows)

    def item(self, i: int) -> ItemMetadata:
        """Id, person, camera, time and attributes of the i-th match."""
        return self.snapshot.metadata(int(self.rows[i]))

    def item_ids(self) -> list[str]:
        """The ids of all matches."""
        return [self.snapshot.item_id(row) for row in self.rows.tolist()]

    def features(self, i: int) -> PartFeatures:
        """The stored features of the i-th match, one row."""
        return self.snapshot.features(np.array([self.rows[i]]))
