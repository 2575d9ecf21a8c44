"""`Entry`: what the audit trail will say of the call being answered, gathered while it is answered.

A transaction that changes people's data writes the entry of its call itself, so that there is no change without its
row and no row without its change: `server.galleries.database.Database.write`. Everything else is written by the
`server.security.recorder.Recorder` right after the answer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

MAX_IDS = 10_000
"""People and items of one row that are named by digests; further ones are counted only."""
MAX_PURPOSE = 1000
MAX_TARGET = 400
OK = "OK"

_NAMED = {"snapshot": "snapshot", "alias": "alias", "into": "gallery"}
"""Fields of requests that name things of their own, and what these are called in a row."""


class Entry:
    """One row to be. Ids are kept only until they become digests.

    Args:
        method: ``SearchService/Search``, or what the server does by itself.
        caller: the name of a `Caller`.
        peer: the address that the call came from.
        record: takes the entry when it is complete.
    """

    __slots__ = (
        "caller",
        "calls",
        "code",
        "count",
        "gallery",
        "items",
        "method",
        "others",
        "peer",
        "people",
        "purpose",
        "record",
        "rows",
        "target",
        "time",
        "top_k",
    )

    def __init__(
        self,
        method: str,
        caller: str,
        peer: str,
        gallery: str = "",
        record: Callable[[Entry], None] = lambda entry: None,
    ) -> None:
        self.method = method
        self.caller = caller
        self.peer = peer
        self.gallery = gallery
        self.record = record
        self.purpose = ""
        self.target = ""
        """What is named beside the gallery: ``snapshot nightly``, ``alias front``."""
        self.code = OK
        self.calls = 1
        self.top_k = 0
        self.count = 0
        """Items that were read or changed."""
        self.items: list[str] = []
        self.people: dict[str, None] = {}
        self.others: list[tuple[str, str, str]] = []
        """What was changed in galleries that the row does not name: gallery, item and person, one of them empty."""
        self.rows = 0
        """Rows that transactions have written for this entry."""
        self.time = time.time_ns() // 1000

    def asked(self, request: Any) -> None:
        """Notes what a request says of itself: gallery, purpose, ``top_k``, and the ids, people and things it names."""
        fields = request.DESCRIPTOR.fields_by_name
        for name in ("alias", "gallery"):  # which stands for one, and the last word if there are both
            if name in fields and getattr(request, name):
                self.gallery = getattr(request, name)[:64]
        named = [(kind, getattr(request, name)) for name, kind in _NAMED.items() if name in fields]
        self.target = ", ".join(f"{kind} {name}" for kind, name in named if name)[:MAX_TARGET]
        if "purpose" in fields:
            self.purpose = request.purpose[:MAX_PURPOSE]
        if "top_k" in fields:
            self.top_k = request.top_k
        if "images" in fields:  # of people, if of no gallery
            self.count += len(request.images)
        if "item_id" in fields and request.item_id:
            self.items.append(request.item_id)
        if "item_ids" in fields:
            self.items += request.item_ids[: MAX_IDS - len(self.items)]
        if "person_id" in fields and request.person_id:
            self.people[request.person_id] = None
        chosen = request.filter if "filter" in fields else request
        if "person_ids" in chosen.DESCRIPTOR.fields_by_name:
            self.people.update(dict.fromkeys(chosen.person_ids[:MAX_IDS]))

    def told(self, response: Any, people: str) -> None:
        """Notes whom a response tells of; ``people`` as in `Access`."""
        found = [response] if people == "." else getattr(response, people)
        self.count += len(found)
        room = MAX_IDS - len(self.items)
        for item in found[:room] if len(found) > room else found:
            self.items.append(item.item_id)
            if item.person_id:
                self.people[item.person_id] = None

    def touched(self, items: Iterable[str], people: Iterable[str], count: int | None, gallery: str) -> None:
        ids = list(items)
        people = [person for person in people if person]
        self.count += len(ids) if count is None else count
        if gallery and gallery != self.gallery:
            found = [(gallery, item, "") for item in ids] + [(gallery, "", person) for person in people]
            self.others += found[: max(0, MAX_IDS - len(self.others))]
            return
        self.items += ids[: max(0, MAX_IDS - len(self.items))]
        if len(self.people) < MAX_IDS:
            self.people.update(dict.fromkeys(people))

    def written(self) -> None:
        """A transaction has written the row; the call may go on to write more."""
        self.rows += 1
        self.count = 0
        self.items = []
        self.people = {}
        self.others = []

    def part(self) -> Entry:
        """A row of its own for one request of a stream: this entry then needs none, if all goes well."""
        self.rows += 1
        return Entry(self.method, self.caller, self.peer, record=self.record)

    def page(self, response: Any, people: str) -> Entry:
        """A row of its own for one response of a stream, complete."""
        page = self.part()
        page.gallery, page.purpose, page.top_k = self.gallery, self.purpose, self.top_k
        if people:
            page.told(response, people)
        return page

    def end(self, code: str = OK) -> None:
        """The entry is complete."""
        self.code = code
        self.record(self)


_entry: ContextVar[Entry | None] = ContextVar("entry", default=None)


def pending() -> Entry | None:
    """The entry of the call being answered; None outside of calls, and for calls that are not audited."""
    return _entry.get()


def begin(entry: Entry | None) -> None:
    """Makes ``entry`` the pending one, for this task and what it starts."""
    _entry.set(entry)


def touch(items: Iterable[str] = (), people: Iterable[str] = (), count: int | None = None, gallery: str = "") -> None:
    """Says whom a transaction is about. Called within it, by what changes items.

    Args:
        items, people: their ids.
        count: how many items, when not all of them are named.
        gallery: theirs, when a call may be about several.
    """
    entry = _entry.get()
    if entry is not None:
        entry.touched(items, people, count, gallery)


def resolved(gallery: str) -> None:
    """The name in the request stands for this gallery. The row names it so, or its people could not be found by it."""
    entry = _entry.get()
    if entry is not None:
        entry.gallery = gallery


def aimed(target: str) -> None:
    """Names what a call is about beside the gallery, where its request leaves that to the server."""
    entry = _entry.get()
    if entry is not None:
        entry.target = target[:MAX_TARGET]


@contextmanager
def aside() -> Iterator[None]:
    """For transactions of a call that change nothing of people's data: they write no row."""
    token = _entry.set(None)
    try:
        yield
    finally:
        _entry.reset(token)


@contextmanager
def acting(method: str, gallery: str = "") -> Iterator[None]:
    """For what the server does by itself, such as deleting what is past its retention: each transaction of the block
    writes a row of this name."""
    token = _entry.set(Entry(method, "server", "", gallery))
    try:
        yield
    finally:
        _entry.reset(token)
