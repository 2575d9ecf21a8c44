"""How a segment file of yesterday is held against the store of today.

A file may be older than the store: items were replaced, updated or deleted after it was sealed, or the process was
killed between any two steps of sealing, or somebody has put an older store back. So nothing is believed of a file but
its bytes, and each of its rows carries the version it is of: the store's row id, the write that stored it, and the
CRC-32 over everything that the store says of the item. The store has an index of just these three (30 bytes an item;
a second for a million), which is read once at start:

- a row whose version the store has is alive. It is the store's item: a row id means one item until that is deleted,
  and whoever gets the id afterwards is of a later write. The checksum settles what is left: another store's write of
  the same number.
- a row whose version the store does not have is dead: replaced, updated, or deleted.
- an item whose version no file has is read from the store into the open segment: written since, or lost with a file.

A version that two files have (the kill came between a new file and the removal of the old) counts once.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from server.galleries.items import Int64
from server.galleries.segments.sealed import SealedSegment
from server.galleries.segments.stretch import Mask
from server.galleries.segments.texts import UInt32


class Versions:
    """The versions of a gallery's items, each to be claimed by at most one row of one segment.

    Args:
        row_ids, sequences, checksums: ``(N,)``, as the store has them.
    """

    def __init__(self, row_ids: Int64, sequences: Int64, checksums: UInt32) -> None:
        order = np.argsort(row_ids, kind="stable")
        self._row_ids, self._sequences, self._checksums = row_ids[order], sequences[order], checksums[order]
        self._claimed: NDArray[np.bool_] = np.zeros(len(order), np.bool_)

    def claim(self, segment: SealedSegment) -> Mask:
        """Which rows of the segment are alive; their versions are taken."""
        if len(self._row_ids) == 0:
            return np.zeros(segment.rows, np.bool_)
        at = np.minimum(np.searchsorted(self._row_ids, segment.row_ids), len(self._row_ids) - 1)
        alive: Mask = self._row_ids[at] == segment.row_ids
        alive &= self._sequences[at] == segment.sequences
        alive &= self._checksums[at] == segment.checksums
        alive &= ~self._claimed[at]
        self._claimed[at[alive]] = True
        return alive

    def unclaimed(self) -> Int64:
        """Ascending row ids of the items that no segment has."""
        return self._row_ids[~self._claimed]
