"""Texts of a sealed segment as one run of bytes: a million of them as Python objects would take 60 bytes more each."""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

UInt8 = NDArray[np.uint8]
UInt32 = NDArray[np.uint32]
UInt64 = NDArray[np.uint64]


def pack(texts: Sequence[str]) -> tuple[UInt8, UInt32]:
    """The texts as UTF-8, one after the other, and the ``(N + 1,)`` offsets at which they begin and the last ends."""
    encoded = [text.encode() for text in texts]
    offsets = np.fromiter(accumulate(map(len, encoded), initial=0), np.uint32, len(encoded) + 1)
    return np.frombuffer(b"".join(encoded), np.uint8), offsets


class Texts(Sequence[str]):
    """Packed texts, decoded one by one when they are asked for."""

    def __init__(self, blob: UInt8, offsets: UInt32) -> None:
        self._blob = blob.data
        self._offsets = offsets

    def __len__(self) -> int:
        return len(self._offsets) - 1

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> list[str]: ...

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self.encoded(index).decode()

    def encoded(self, index: int) -> bytes:
        """The text as UTF-8."""
        return bytes(self._blob[self._offsets[index] : self._offsets[index + 1]])

    def position(self, text: str) -> int | None:
        """Where ``text`` is; the texts must be distinct and in the order of their UTF-8 bytes."""
        wanted = text.encode()
        at = bisect_left(range(len(self)), wanted, key=self.encoded)
        return at if at < len(self) and self.encoded(at) == wanted else None


def digests(item_ids: Sequence[str]) -> UInt64:
    """A 64-bit digest of each id, the same in every process; nobody finds ids that share one by chance."""
    joined = b"".join([hashlib.blake2b(item_id.encode(), digest_size=8).digest() for item_id in item_ids])
    return np.frombuffer(joined, "<u8")


class Lookup:
    """Finds rows by their ids' digests, which it holds in ascending order: 12 bytes a row instead of a dict's 150."""

    def __init__(self, sorted_digests: UInt64, rows: UInt32, item_ids: Texts) -> None:
        self._digests = sorted_digests
        self._rows = rows
        self._item_ids = item_ids

    @staticmethod
    def arrays(item_ids: Sequence[str]) -> tuple[UInt64, UInt32]:
        """The sorted digests of the ids, and the row of each."""
        unsorted = digests(item_ids)
        order = np.argsort(unsorted, kind="stable")
        return unsorted[order], order.astype(np.uint32)

    def rows(self, item_ids: Sequence[str], wanted: UInt64) -> dict[int, int]:
        """Position in ``item_ids`` -> row, for those that are here; ``wanted`` are the ids' digests."""
        first = np.searchsorted(self._digests, wanted)
        inside = first < len(self._digests)
        hits = np.flatnonzero(inside)
        hits = hits[self._digests[first[hits]] == wanted[hits]]
        found = {}
        for position in hits.tolist():
            at, digest = int(first[position]), wanted[position]
            while at < len(self._digests) and self._digests[at] == digest:
                row = int(self._rows[at])
                if self._item_ids[row] == item_ids[position]:
                    found[position] = row
                    break
                at += 1
        return found
