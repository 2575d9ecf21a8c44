"""Questions to the audit trail: rows by time, method, caller, gallery, outcome and whom they are about."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from server.errors import FailedPrecondition, InvalidArgument
from server.security.segments import FOLDER, TrailError, segments_of
from server.security.trail import Row, Said, head_of, rows_between

if TYPE_CHECKING:
    from server.galleries.database import Database

CHUNK = 1000
MAX_LOOKED_AT = 50_000
"""Rows read for one page: a question that matches little gets a short or empty page, and goes on with the next."""


@dataclass(frozen=True, slots=True)
class Question:
    """Which rows are wanted; what is empty or None leaves out nothing. Times in microseconds since 1970.

    Raises:
        InvalidArgument: an item or person without its gallery, of which their digests are made.
    """

    since: int | None = None
    until: int | None = None
    method: str = ""
    caller: str = ""
    gallery: str = ""
    code: str = ""
    item_id: str = ""
    person_id: str = ""

    def __post_init__(self) -> None:
        if self.is_about_someone and not self.gallery:
            raise InvalidArgument("an item or person needs its gallery to be found by", field="gallery")

    @property
    def is_about_someone(self) -> bool:
        """The digests say the gallery then: a row about several names none."""
        return bool(self.item_id or self.person_id)

    def matches(self, said: Said) -> bool:
        """Whether a row is wanted, as far as its text says. A method may be given without its service."""
        return (
            (self.since is None or said.time >= self.since)
            and (self.until is None or said.time < self.until)
            and (not self.method or self.method in (said.method, said.method.rpartition("/")[2]))
            and (not self.caller or self.caller in (said.caller, said.caller.partition(":")[2]))
            and (not self.gallery or said.gallery == self.gallery or self.is_about_someone)
            and (not self.code or said.code == self.code)
        )


@dataclass(frozen=True, slots=True)
class Page:
    """Rows, the newest first, and the row to go on before (0: there are no more)."""

    rows: tuple[tuple[Row, Said], ...]
    next_before: int


def ask(database: Database, question: Question, before: int, size: int) -> Page:
    """Up to ``size`` matching rows with numbers below ``before`` (0: from the newest).

    Raises:
        FailedPrecondition: a sealed segment is missing or damaged.
    """
    digests = []
    if question.item_id:
        digests.append(database.digester.item(question.gallery, question.item_id))
    if question.person_id:
        digests.append(database.digester.person(question.gallery, question.person_id))
    found: list[tuple[Row, Said]] = []
    looked_at = 0
    try:
        for row in _backwards(database, before):
            if len(found) == size or looked_at == MAX_LOOKED_AT:
                return Page(tuple(found), row.seq + 1)
            looked_at += 1
            if all(row.names(digest) for digest in digests):
                said = row.said
                if question.matches(said):
                    found.append((row, said))
    except TrailError as error:
        raise FailedPrecondition(f"{error}; `glimpse audit verify` says more") from error
    return Page(tuple(found), 0)


def _backwards(database: Database, before: int) -> Iterator[Row]:
    with database.read() as connection:
        last = head_of(connection)[0]
        segments = segments_of(connection)
    last = min(last, before - 1) if before else last
    sealed = segments[-1].last if segments else 0
    while last > sealed:
        first = max(last - CHUNK, sealed) + 1
        with database.read() as connection:
            rows = rows_between(connection, first, last)
        if not rows:  # sealed meanwhile
            break
        yield from reversed(rows)
        last = rows[0].seq - 1
    with database.read() as connection:
        segments = segments_of(connection)
    for segment in reversed(segments):
        if segment.first <= last:
            yield from (row for row in reversed(segment.load(database.folder / FOLDER)) if row.seq <= last)
            last = segment.first - 1
