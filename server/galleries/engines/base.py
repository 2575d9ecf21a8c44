"""What every engine takes and gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from glimpse.parts import Float32
from server.galleries.columns import Snapshot
from server.galleries.engines.scoring import WeightedQuery
from server.galleries.items import Int64


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """One query, checked."""

    query: WeightedQuery
    allowed: NDArray[np.bool_] | None
    """bool ``(rows,)``: the rows that may be returned, all of them alive; None when that is every row."""
    top_k: int | None
    """None asks for the whole ranking."""
    include_incomparable: bool

    def rows(self, snapshot: Snapshot) -> int:
        """How many rows may be returned."""
        return snapshot.rows if self.allowed is None else int(np.count_nonzero(self.allowed))


@dataclass(frozen=True, slots=True, eq=False)
class Ranked:
    """Rows, best first: by distance, equal distances by item id, then incomparable ones by item id."""

    rows: Int64
    distance: Float32
    """float32 ``(K,)``; NaN where incomparable."""
    joint: Float32
    exact: bool
    """Whether no other ranking is possible."""


class Engine(Protocol):
    """Ranks snapshots of one gallery; any number of threads may search at once."""

    def search(self, snapshot: Snapshot, request: Request) -> Ranked:
        """The distances are those of `glimpse.distance` whatever the engine; which rows it found, `exact` says."""
