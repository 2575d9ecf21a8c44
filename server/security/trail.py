"""`Trail`: the rows of the audit trail, each bound to the one before by a hash.

    hash(n) = SHA-256(hash(n-1) | n | length of row | row | digests),   hash(0) = 32 zero bytes

Whoever changes, removes or reorders a row has to change every later hash and the head as well. Against someone who can
write all of the store, keep the head elsewhere: it is logged, and `glimpse audit verify --head` compares.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from server.security.audit import MAX_IDS, Entry

DIGEST_BYTES = 12
"""Of an HMAC-SHA-256: by chance two of a million ids share a digest once in 10^17 stores."""
HASH_BYTES = 32
BEGINNING = bytes(HASH_BYTES)


@dataclass(frozen=True, slots=True)
class Row:
    """One row as it is kept and hashed. ``text`` is JSON with the fields of `Said`."""

    seq: int
    text: str
    digests: bytes
    hash: bytes

    @property
    def said(self) -> Said:
        return Said(**json.loads(self.text))

    def follows(self, before: bytes) -> bool:
        """Whether its hash is right, given that of the row before."""
        return hmac.compare_digest(self.hash, hash_of(before, self.seq, self.text, self.digests))

    def names(self, digest: bytes) -> bool:
        """Whether an item or person of this digest is among those it is about."""
        if digest not in self.digests:
            return False
        starts = range(0, len(self.digests), DIGEST_BYTES)
        return any(self.digests[start : start + DIGEST_BYTES] == digest for start in starts)


@dataclass(frozen=True, slots=True)
class Said:
    """What a row says. ``time`` in microseconds since 1970, as the clock said, even if it was set back; ``calls`` above
    1 where refused calls of one caller were put together; ``items`` read or changed; ``target`` what else the call
    named, such as ``snapshot nightly``."""

    time: int
    method: str
    caller: str
    peer: str
    gallery: str
    purpose: str
    code: str
    calls: int
    items: int
    top_k: int
    target: str = ""


_as_json = json.JSONEncoder(separators=(",", ":")).encode


class Digester:
    """Keyed digests of ids: the trail can be asked about a person, but tells of none by itself.

    HMAC-SHA-256 (RFC 2104), with the key's two blocks hashed once: a search has twenty ids, and `hmac.digest` would
    take more than twice as long for each.
    """

    def __init__(self, key: bytes) -> None:
        block = key.ljust(hashlib.sha256().block_size, b"\0")
        self._inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in block))
        self._outer = hashlib.sha256(bytes(byte ^ 0x5C for byte in block))

    def item(self, gallery: str, item_id: str) -> bytes:
        return self._digest("item", gallery, item_id)

    def person(self, gallery: str, person_id: str) -> bytes:
        return self._digest("person", gallery, person_id)

    def all_of(self, entry: Entry) -> bytes:
        """The digests of an entry's people and items, one after the other, sorted so that their order says nothing."""
        gallery = entry.gallery
        ids = [self.item(gallery, item_id) for item_id in dict.fromkeys(entry.items[:MAX_IDS])]
        ids += [self.person(gallery, person_id) for person_id in entry.people]
        ids += [self.item(other, item) if item else self.person(other, person) for other, item, person in entry.others]
        return b"".join(sorted(ids))

    def _digest(self, kind: str, gallery: str, name: str) -> bytes:
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(f"{kind}\0{gallery}\0{name}".encode(errors="surrogatepass"))
        outer.update(inner.digest())
        return outer.digest()[:DIGEST_BYTES]


def text_of(entry: Entry) -> str:
    """The JSON of a row."""
    said: dict[str, Any] = {
        "time": entry.time,
        "method": entry.method,
        "caller": entry.caller,
        "peer": entry.peer,
        "gallery": entry.gallery,
        "purpose": entry.purpose,
        "code": entry.code,
        "calls": entry.calls,
        "items": entry.count,
        "top_k": entry.top_k,
    }
    if entry.target:  # as in rows before there were targets
        said["target"] = entry.target
    return _as_json(said)


def hash_of(before: bytes, seq: int, text: str, digests: bytes) -> bytes:
    encoded = text.encode()
    return hashlib.sha256(
        b"".join((before, seq.to_bytes(8, "big"), len(encoded).to_bytes(4, "big"), encoded, digests))
    ).digest()


def head_of(connection: sqlite3.Connection) -> tuple[int, bytes]:
    """Number and hash of the last row, 0 and zeros when there is none."""
    seq, head = connection.execute("SELECT seq, hash FROM audit_head WHERE id = 1").fetchone()
    return int(seq), bytes(head)


def append(connection: sqlite3.Connection, said: Iterable[tuple[str, bytes]]) -> None:
    """Adds rows (text and digests), within the caller's transaction."""
    seq, head = head_of(connection)
    rows = []
    for text, digests in said:
        seq += 1
        head = hash_of(head, seq, text, digests)
        rows.append((seq, text, digests, head))
    connection.executemany("INSERT INTO audit (seq, row, digests, hash) VALUES (?, ?, ?, ?)", rows)
    connection.execute("UPDATE audit_head SET seq = ?, hash = ? WHERE id = 1", (seq, head))


def rows_between(connection: sqlite3.Connection, first: int, last: int) -> Sequence[Row]:
    """The rows still in the table with numbers ``first`` to ``last``, in order."""
    found = connection.execute(
        "SELECT seq, row, digests, hash FROM audit WHERE seq BETWEEN ? AND ? ORDER BY seq", (first, last)
    )
    return [Row(*row) for row in found]
