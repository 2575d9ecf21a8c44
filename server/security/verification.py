"""`verify`: is the audit trail whole? Works beside a running server, on nothing but the data folder."""

from __future__ import annotations

import hmac
import re
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from server.security.segments import FOLDER, PRUNED, Segment, TrailError, segments_of
from server.security.trail import BEGINNING, Row, head_of


@dataclass(frozen=True, slots=True)
class Head:
    """The last row of a trail: what to write down elsewhere, so that a later trail can be held against it."""

    seq: int
    hash: bytes

    def __str__(self) -> str:
        return f"{self.seq}:{self.hash.hex()}"

    @classmethod
    def parse(cls, text: str) -> Head:
        """The inverse of ``str``; ValueError for anything else."""
        seq, _, digest = text.partition(":")
        if not re.fullmatch(r"[0-9]{1,18}", seq) or not re.fullmatch(r"[0-9a-f]{64}", digest):
            raise ValueError(
                f"head {text[:80]!r}: expected NUMBER:HASH with 64 hex digits, as `audit verify` prints it"
            )
        return cls(int(seq), bytes.fromhex(digest))


@dataclass(frozen=True, slots=True)
class Verdict:
    """What `verify` found: the rows it read, the first of them, the head, and what is wrong (empty: nothing)."""

    rows: int
    first: int
    head: Head
    problem: str


@dataclass(frozen=True, slots=True)
class Ends:
    """What the store itself holds of a trail at one moment: the head, the list of segments, the rows after them."""

    head: Head
    segments: list[Segment]
    rows: list[Row]

    @classmethod
    def read(cls, connection: sqlite3.Connection) -> Ends:
        """In one short transaction: whoever waits for readers to be gone need not wait for the whole trail."""
        connection.execute("BEGIN")
        try:
            head = Head(*head_of(connection))
            segments = segments_of(connection)
            found = connection.execute("SELECT seq, row, digests, hash FROM audit ORDER BY seq").fetchall()
        finally:
            connection.execute("ROLLBACK")
        return cls(head, segments, [Row(*row) for row in found])


def verify(ends: Ends, folder: Path, expected: Head | None = None) -> Verdict:
    """Reads the whole trail and recomputes its hashes.

    Args:
        folder: the data folder.
        expected: a head noted earlier, which the trail must still hold.
    """
    walk = _Walk(expected)
    problem = ""
    try:
        if ends.segments:
            walk.begin(ends.segments[0].before)
        for segment in ends.segments:
            for row in segment.load(folder / FOLDER):
                walk.step(row)
            walk.segment(segment)
        for row in ends.rows:
            walk.step(row)
        walk.end(ends.head)
    except TrailError as error:
        problem = str(error)
    return Verdict(walk.count, walk.first, ends.head, problem)


def verify_folder(folder: Path, expected: Head | None = None) -> Verdict:
    """`verify` for a data folder, whether or not a server runs on it. sqlite3.Error when there is no store."""
    from server.galleries.database import FILE

    location = f"{(folder / FILE).resolve().as_uri()}?mode=ro"
    with closing(sqlite3.connect(location, uri=True, isolation_level=None)) as connection:
        ends = Ends.read(connection)
    return verify(ends, folder, expected)


class _Walk:
    """From row to row; TrailError at the first that is not what must follow."""

    def __init__(self, expected: Head | None) -> None:
        self.count = 0
        self.first = 0
        self._expected = expected
        self._met = expected is None or expected.seq == 0
        self._before = BEGINNING
        self._last = 0
        self._pruned = 0

    def begin(self, before: bytes) -> None:
        """The hash that the first row follows, when earlier rows were deleted for their age."""
        self._before = before

    def step(self, row: Row) -> None:
        if self.count == 0:
            self.first = row.seq
            if row.seq == 1:
                self._before = BEGINNING
        elif row.seq != self._last + 1:
            raise TrailError(_gap(self._last, row.seq))
        if not row.follows(self._before):
            if self.count == 0 and row.seq > 1:
                raise TrailError(f"the rows before row {row.seq} are missing, or it was changed")
            raise TrailError(f"row {row.seq} was changed, or another one stood before it")
        if self._expected is not None and row.seq == self._expected.seq:
            self._met = hmac.compare_digest(row.hash, self._expected.hash)
            if not self._met:
                raise TrailError(f"row {row.seq} is another one than the head noted earlier: the trail was rewritten")
        if row.said.method == PRUNED:
            self._pruned = max(self._pruned, row.said.items)
        self.count, self._last, self._before = self.count + 1, row.seq, row.hash

    def segment(self, segment: Segment) -> None:
        """The segment has ended."""
        if self._last != segment.last:
            raise TrailError(f"segment {segment.name} ends at row {self._last}")

    def end(self, head: Head) -> None:
        """The trail has ended."""
        if self._last < head.seq:
            raise TrailError(_gap(self._last, head.seq + 1))
        if not hmac.compare_digest(self._before, head.hash) or self._last > head.seq:
            raise TrailError("the last row is another one than the head of the store says")
        if self.first > 1 and self._pruned < self.first - 1:
            raise TrailError(_gap(self._pruned, self.first))
        if not self._met and self._expected is not None and self._expected.seq >= self.first:
            raise TrailError(
                f"the trail ends at row {self._last}, before row {self._expected.seq} that was noted earlier: "
                "the trail was cut or an older copy was put back"
            )


def _gap(last: int, following: int) -> str:
    if last + 2 >= following:
        return f"row {last + 1} is missing"
    return f"rows {last + 1} to {following - 1} are missing"
