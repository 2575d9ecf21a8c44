"""Snapshots: what they show never changes, whatever is written after them."""

from __future__ import annotations

import numpy as np
import pytest

from server.galleries.codes import encode
from server.galleries.columns import Columns
from server.galleries.items import NewItem, make_batch
from server.galleries.snapshots import Snapshot
from tests.server.galleries.generated import SCHEMA, make_items, random_features


def write(columns: Columns, ids: list[str], seed: int, **fields: str) -> dict[str, NewItem]:
    items = make_items(random_features(np.random.default_rng(seed), SCHEMA, len(ids)), ids, **fields)
    columns.extend(make_batch(items, SCHEMA, seed, seed))
    return {item.item_id: item for item in items}


def contents(snapshot: Snapshot) -> dict[str, tuple[bytes, bytes, str, int]]:
    """Everything a snapshot shows, by item."""
    rows = np.flatnonzero(snapshot.alive)
    features = {}
    for item in snapshot.items(rows, vectors=True):
        assert item.vectors is not None
        visibility = item.visibility.tobytes()
        features[item.item_id] = (item.vectors.tobytes(), visibility, item.camera_id, item.sequence)
    return features


def ids(first: int, last: int) -> list[str]:
    return [f"i{n}" for n in range(first, last)]


def test_a_snapshot_shows_what_was_written() -> None:
    columns = Columns(SCHEMA)
    written = write(columns, ids(0, 700), 1, camera_id="a") | write(columns, ids(700, 3000), 2, camera_id="b")
    snapshot = columns.snapshot(2)
    assert len(snapshot.blocks) > 1
    assert contents(snapshot) == {
        item.item_id: (item.vectors.tobytes(), item.visibility.tobytes(), item.camera_id, 1 + (item.camera_id == "b"))
        for item in written.values()
    }
    rows = np.random.default_rng(0).permutation(3000)[:500]
    features = snapshot.features(rows)
    for at, row in enumerate(rows):
        item = written[snapshot.item_id(int(row))]
        np.testing.assert_array_equal(features.vectors[at], item.vectors.astype(np.float32))
        np.testing.assert_array_equal(features.visibility[at], item.visibility)
    np.testing.assert_array_equal(snapshot.visibility(rows), features.visibility.T)


def test_later_writes_do_not_change_a_snapshot() -> None:
    columns = Columns(SCHEMA)
    write(columns, ids(0, 100), 1, camera_id="a")
    first = columns.snapshot(1)
    before = contents(first)
    write(columns, ids(50, 5000), 2, camera_id="b")
    second = columns.snapshot(2)
    after_upsert = contents(second)
    columns.kill(np.arange(0, 1000))
    write(columns, ids(0, 10), 3, camera_id="c")
    third = columns.snapshot(3)
    assert contents(first) == before
    assert contents(second) == after_upsert
    assert (first.live, second.live) == (100, 5000)
    assert len(contents(third)) == third.live
    # An item replaced twice is still found by each snapshot where it was then.
    for snapshot, camera in ((first, "a"), (second, "a"), (third, "c")):
        row = snapshot.row_of("i5")
        assert row is not None
        assert snapshot.metadata(row).camera_id == camera
    assert first.row_of("i4000") is None
    assert third.row_of("i60") is None
    assert third.row_of("never") is None


def test_compaction_keeps_the_live_items_and_drops_the_dead() -> None:
    columns = Columns(SCHEMA)
    write(columns, ids(0, 1000), 1)
    write(columns, ids(0, 300), 2)
    assert not columns.needs_compaction
    columns.kill(np.arange(600, 700))
    assert columns.needs_compaction
    old = columns.snapshot(3)
    columns.compact()
    new = columns.snapshot(3)
    assert contents(new) == contents(old)
    assert (new.dead, old.dead) == (0, 400)
    assert new.page("", 5000, None).tolist() == sorted(range(new.rows), key=new.item_id)


def test_compacting_a_gallery_without_live_items_leaves_an_empty_one() -> None:
    columns = Columns(SCHEMA)
    write(columns, ids(0, 10), 1)
    columns.kill(np.arange(10))
    columns.compact()
    empty = columns.snapshot(2)
    assert (empty.rows, empty.live, len(empty.page("", 9, None)), empty.pattern_count, empty.bytes) == (0, 0, 0, 0, 0)


@pytest.mark.parametrize("sizes", [[1] * 50, [511, 1, 1, 2000], [20_000]])
def test_rows_land_in_order_across_blocks(sizes: list[int]) -> None:
    columns = Columns(SCHEMA)
    start = 0
    for size in sizes:
        write(columns, ids(start, start + size), start + 1)
        start += size
    snapshot = columns.snapshot(1)
    assert [snapshot.row_of(f"i{n}") for n in range(start)] == list(range(start))
    assert sum(size for _, size in snapshot.pieces()) == start
    rows = np.arange(start)
    vectors, visibility = snapshot.stored(rows)
    scale = np.repeat(visibility, SCHEMA.dims, axis=1)
    np.testing.assert_array_equal(snapshot.weighted(rows), vectors.astype(np.float32) * scale)
    expected = encode(vectors, visibility, SCHEMA)
    for name in ("codes", "scale", "residual", "norm"):
        written = np.concatenate([getattr(block.codes, name)[:size] for block, size in snapshot.pieces()])
        np.testing.assert_array_equal(written, getattr(expected, name))
