"""The scan: no row that could be among the closest is left out, and few others are kept."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glimpse.distance import pairwise
from glimpse.parts import Part, PartFeatures, PartSchema
from server.galleries.columns import Columns
from server.galleries.engines import scanning
from server.galleries.engines.base import Request
from server.galleries.engines.kernels import scan as scan_kernel
from server.galleries.engines.rounding import round_queries
from server.galleries.engines.scanning import candidates
from server.galleries.engines.scoring import weighted_query
from server.galleries.items import make_batch
from server.galleries.snapshots import Snapshot
from tests.server.galleries.generated import clustered_features, make_items, random_features

PEOPLE = PartSchema((Part("global", 64, always_visible=True), Part("upper", 48), Part("legs", 33)), prior=0.2)


def snapshot_of(features: PartFeatures, batch: int = 700) -> Snapshot:
    """Rows in several blocks."""
    columns = Columns(features.schema)
    for start in range(0, len(features), batch):
        rows = features[start : start + batch]
        ids = [f"i{n:06}" for n in range(start, start + len(rows))]
        columns.extend(make_batch(make_items(rows, ids), features.schema, 1, 0))
    return columns.snapshot(1)


def wild_schema(rng: np.random.Generator) -> PartSchema:
    """One to sixteen parts of very unequal widths."""
    names = [f"p{p}" for p in range(int(rng.integers(1, 17)))]
    dims = rng.choice([1, 2, 5, 16, 31, 64, 65, 130], len(names))
    weights = rng.choice([0.0, 1e-6, 1.0, 1.0, 50.0], len(names))
    weights[0] = 1.0
    parts = [Part(name, int(dim), float(weight)) for name, dim, weight in zip(names, dims, weights, strict=True)]
    return PartSchema(tuple(parts), prior=float(rng.choice([0.0, 0.1, 3.0])))


def expected(
    query: PartFeatures, features: PartFeatures, allowed: np.ndarray, top_k: int, **options: float
) -> set[int]:
    """Rows at most as far as the ``top_k``-th closest."""
    distance = pairwise(query, features.stored(), **options).distance[0]
    distance = np.where(allowed, distance, np.nan)
    closest = np.sort(distance[~np.isnan(distance)])[:top_k]
    return set(np.flatnonzero(distance <= closest[-1]).tolist()) if len(closest) else set()


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), together=st.integers(1, 9), tiled=st.booleans(), threads=st.integers(1, 3))
def test_no_row_that_can_be_among_the_closest_is_left_out(seed: int, together: int, tiled: bool, threads: int) -> None:
    rng = np.random.default_rng(seed)
    schema = wild_schema(rng)
    count = int(rng.integers(1, 400))
    features = random_features(rng, schema, count)
    faint = np.where(rng.random((count, len(schema))) < 0.2, 10.0 ** rng.uniform(-45, 0, (count, len(schema))), 1)
    features = PartFeatures.trusted(features.vectors, (features.visibility * faint).astype(np.float32), schema)
    snapshot = snapshot_of(features, 90)
    shared = rng.random(count) < rng.choice([0.02, 0.5, 1.0])
    requests, wanted = [], []
    for _ in range(together):
        query = random_features(rng, schema, 1) if rng.random() < 0.7 else features[[int(rng.integers(count))]].stored()
        threshold = float(rng.choice([0.0, 0.0, 0.3]))
        allowed = shared if rng.random() < 0.5 else rng.random(count) < 0.7
        top_k = int(rng.choice([1, 3, 10, 500]))
        weighted = weighted_query(query, schema, {}, threshold)
        requests.append(Request(weighted, allowed, top_k, False))
        wanted.append(expected(query, features, allowed, top_k, min_joint_visibility=threshold))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scanning, "PIECE_ROWS", int(rng.choice([7, 64, 1000])))
        found = candidates(snapshot, requests, threads)
    for request, rows, needed in zip(requests, found, wanted, strict=True):
        assert request.allowed is not None
        assert request.allowed[rows].all()
        assert (np.diff(rows) > 0).all()
        assert needed <= set(rows.tolist())


def test_rows_that_the_codes_cannot_tell_apart_are_all_kept_however_many() -> None:
    schema = PartSchema((Part("global", 512, always_visible=True),))
    rng = np.random.default_rng(0)
    query = random_features(rng, schema, 1)
    near = random_features(rng, schema, 3000).vectors * 1e-6 + query.vectors  # distances differ by about 1e-12
    vectors = np.concatenate([random_features(rng, schema, 50).vectors, near / np.linalg.norm(near, axis=1)[:, None]])
    features = PartFeatures(vectors.astype(np.float32), np.ones((3050, 1), np.float32), schema)
    request = Request(weighted_query(query, schema, {}, 0.0), None, 10, False)
    for requests in ([request], [request] * 5):
        for found in candidates(snapshot_of(features), requests):
            assert set(range(50, 3050)) <= set(found.tolist())


@pytest.mark.parametrize("together", [1, 6])
def test_few_rows_are_kept_when_people_differ(together: int) -> None:
    rng = np.random.default_rng(1)
    snapshot = snapshot_of(clustered_features(rng, PEOPLE, 300, 3000))
    asked = clustered_features(rng, PEOPLE, 300, together)
    requests = [Request(weighted_query(asked[[q]], PEOPLE, {}, 0.0), None, 10, False) for q in range(together)]
    assert all(10 <= len(found) < 200 for found in candidates(snapshot, requests))


def test_plain_loops_and_instructions_give_the_same_products() -> None:
    rng = np.random.default_rng(2)
    codes = rng.integers(-127, 128, (70, 200), dtype=np.int8)
    queries = np.zeros((8, 264), np.int16)
    queries[:, 10:150] = rng.integers(-127, 128, (8, 140))
    queries[:, 190:200] = rng.integers(-127, 128, (8, 10))
    queries[0, 10:16] = 127  # the largest sums of neighbours
    codes[:9, 10:16] = [[127], [-127], [-127], [127], [0], [1], [-1], [127], [-127]]
    spans = np.array([[10, 150], [190, 200]])
    tiles = np.array([[10, 3]])  # the last step covers the second span too
    rows = np.array([0, 5, 3, *range(8, 70)], np.int32)
    addresses = np.empty(64 + scan_kernel.AHEAD, np.int64)
    spill = np.zeros(264, np.int8)
    for begin in (0, 3):
        chunk = rows[begin : begin + 64]
        expected = queries[:, :200].astype(np.int32) @ codes[chunk].astype(np.int32).T
        products = np.zeros((8, 64), np.int32)
        scan_kernel._multiply_plainly(codes, chunk, queries, spans, products)
        np.testing.assert_array_equal(products[:, : len(chunk)], expected)
        scan_kernel._find_addresses(codes, rows, begin, tiles, spill, addresses)
        if scan_kernel.IN_FOURS:
            fine = 64 * queries[:1]
            products[:] = 0
            scan_kernel._multiply_in_fours(addresses, len(chunk), fine, tiles, products)
            np.testing.assert_array_equal(products[0, : len(chunk)], 64 * expected[0])
        for count in (4, 8, 20) if scan_kernel.IN_TILES else ():
            # Fine codes reach further than a byte.
            times, kind = (1, np.int8) if scan_kernel.COARSE else (64, np.int16)
            many = np.resize(times * queries, (count, 264)).astype(kind)
            products = np.zeros((count, 64), np.int32)
            scan_kernel._multiply_in_tiles(addresses, len(chunk), many, tiles, products)
            shift = scan_kernel.SHIFT * many.sum(axis=1, dtype=np.int32)[:, None]
            np.testing.assert_array_equal(
                products[:, : len(chunk)] - shift, np.resize(times * expected, (count, len(chunk)))
            )


def test_only_what_some_query_shows_is_multiplied() -> None:
    schema = PartSchema(tuple(Part(name, 10) for name in "abcde"))
    features = random_features(np.random.default_rng(3), schema, 2)
    visibility = np.array([[0, 1, 0.5, 0, 0], [0, 0, 1, 0, 0.1]], np.float32)
    features = PartFeatures.trusted(features.vectors, visibility, schema)
    features.vectors[:] = 0.3
    queries = [weighted_query(features[[q]], schema, {}, 0.0) for q in range(2)]
    assert round_queries(schema, queries).spans.tolist() == [[10, 30], [40, 50]]
    assert round_queries(schema, queries[:1]).spans.tolist() == [[10, 30]]
    assert round_queries(schema, queries).tiles.tolist() == [[10, 1]]
