"""What is put into a segment file: the live rows of older segments, by visibility pattern, ready to be searched."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glimpse.parts import Float32, PartSchema
from server.galleries.blocks import Block
from server.galleries.codes import pattern_order
from server.galleries.compact import compress, room
from server.galleries.items import Float16, Int64
from server.galleries.segments import container
from server.galleries.segments.container import Streamed
from server.galleries.segments.sealed import CODES, COMPACT, VECTORS
from server.galleries.segments.texts import Lookup, pack
from server.galleries.snapshots import Snapshot

GATHERED_AT_ONCE = 1024
GONE = -1
"""The row id of an item that the store no longer has in this version."""


def sealing_order(snapshot: Snapshot) -> Int64:
    """The live rows in the order in which they are to be sealed."""
    rows = np.flatnonzero(snapshot.alive)
    return rows[pattern_order(snapshot.visibility(rows).T)]


def seal(path: Path, facts: Mapping[str, Any], snapshot: Snapshot, rows: Int64, row_ids: Int64) -> None:
    """Writes the file of these rows of the snapshot, whose ids in the store are ``row_ids``. OSError if it cannot."""
    facts = {**facts, "rows": len(rows), "sequence": int(snapshot.gathered("sequences", rows).max(initial=0))}
    container.write(path, facts, {**_features(snapshot, rows), **_metadata(snapshot, rows, row_ids)})


def _features(snapshot: Snapshot, rows: Int64) -> dict[str, NDArray[Any] | Streamed]:
    shape = (len(rows), snapshot.schema.width)
    numbers = {name: np.empty(len(rows), np.float32) for name in ("scale", "residual", "norm")}
    for block, places, local in _spread(snapshot, rows):
        for name, column in numbers.items():
            column[places] = getattr(block.codes, name)[local]
    visibility = snapshot.visibility(rows)
    compact = room(len(rows), snapshot.schema)
    vectors = _gathered(snapshot, rows, np.float16, lambda block, at: block.read(at))
    return {
        CODES: Streamed(np.int8, shape, _gathered(snapshot, rows, np.int8, lambda block, at: block.codes.codes[at])),
        "visibility": visibility,
        **numbers,
        VECTORS: Streamed(np.float16, shape, _compressing(vectors, visibility.T.copy(), snapshot.schema, compact)),
        # Behind the vectors, of which they are made.
        **{COMPACT + name: array for name, array in compact.items()},
    }


def _compressing(
    vectors: Iterator[Float16], visibility: Float32, schema: PartSchema, into: Mapping[str, NDArray[Any]]
) -> Iterator[Float16]:
    """The pieces of the vectors, unchanged; the fast engine's arrays are filled while they pass by."""
    start = 0
    for piece in vectors:
        compress(piece, visibility[start : start + len(piece)], schema, into, start)
        yield piece
        start += len(piece)


def _spread(snapshot: Snapshot, rows: Int64) -> Iterator[tuple[Block, Int64, Int64]]:
    """For each block the places in ``rows`` that it has, and which of its own rows those are."""
    order = np.argsort(rows, kind="stable")
    for block, at, local in snapshot.split(rows[order]):
        yield block, order[at], local


def _gathered(
    snapshot: Snapshot, rows: Int64, dtype: type[np.generic], read: Callable[[Block, Int64], NDArray[Any]]
) -> Iterator[NDArray[Any]]:
    """An array's rows in pieces; all of them use the same memory, for fresh pages cost more than the copying."""
    buffer = np.empty((min(len(rows), GATHERED_AT_ONCE), snapshot.schema.width), dtype)
    for start in range(0, len(rows), GATHERED_AT_ONCE):
        chunk = rows[start : start + GATHERED_AT_ONCE]
        for block, places, local in _spread(snapshot, chunk):
            buffer[places] = read(block, local)
        yield buffer[: len(chunk)]


def _metadata(snapshot: Snapshot, rows: Int64, row_ids: Int64) -> dict[str, NDArray[Any]]:
    item_ids, people, cameras, attributes = snapshot.texts(rows)
    digests, digest_rows = Lookup.arrays(item_ids)
    arrays = {
        "captured_at": snapshot.gathered("captured_at", rows),
        "sequences": snapshot.gathered("sequences", rows),
        "stored_at": snapshot.gathered("stored_at", rows),
        "checksums": snapshot.gathered("checksums", rows),
        "sizes": snapshot.gathered("sizes", rows),
        "row_ids": row_ids,
        "digests": digests,
        "digest_rows": digest_rows,
        "by_item_id": np.array(sorted(range(len(rows)), key=item_ids.__getitem__), np.uint32),
    }
    arrays["item_ids"], arrays["item_id_offsets"] = pack(item_ids)
    arrays["attributes"], arrays["attribute_offsets"] = pack(attributes)
    arrays["camera"], (arrays["cameras"], arrays["camera_offsets"]) = _coded(cameras)
    arrays["person"], (arrays["people"], arrays["person_offsets"]) = _coded(people)
    return arrays


def _coded(texts: Sequence[str]) -> tuple[NDArray[np.int32], tuple[NDArray[np.uint8], NDArray[np.uint32]]]:
    """The code of each text, and the distinct texts in the order of their codes, which is that of their bytes."""
    distinct = sorted(set(texts))  # code points sort as UTF-8 does
    codes = {text: code for code, text in enumerate(distinct)}
    return np.array([codes[text] for text in texts], np.int32), pack(distinct)
