"""The scan's error bound, and what rests on it."""

from __future__ import annotations

import numpy as np
import pytest

from glimpse.distance import pairwise
from glimpse.parts import Part, PartFeatures, PartSchema
from server.galleries.columns import Columns, Snapshot
from server.galleries.engines import scoring
from server.galleries.engines.scoring import (
    Scan,
    closest,
    ranking_order,
    rescore,
    scan,
    scan_together,
    weighted_query,
)
from server.galleries.items import make_batch
from tests.server.galleries.generated import make_items, random_features, random_schema


def snapshot_of(features: PartFeatures, ids: list[str] | None = None) -> Snapshot:
    columns = Columns(features.schema)
    columns.extend(make_batch(make_items(features, ids), features.schema, 1, 0))
    return columns.snapshot(1)


@pytest.mark.parametrize("seed", range(30))
def test_no_scanned_distance_is_farther_from_the_oracle_than_its_slack(seed: int) -> None:
    rng = np.random.default_rng(seed)
    schema = random_schema(rng)
    features = random_features(rng, schema, 200)
    # Visibilities down to the smallest float32: numerators that underflow must widen the slack, not the error.
    faint = np.where(schema.always_visible, 1, 10.0 ** rng.uniform(-45, 0, (200, len(schema))))
    features = PartFeatures.trusted(features.vectors, features.visibility * faint.astype(np.float32), schema)
    query = random_features(rng, schema, 1)
    weights = {name: float(10.0 ** rng.uniform(-30, 30)) for name in schema.names}
    snapshot = snapshot_of(features)
    scanned = scan(snapshot, weighted_query(query, schema, weights, 0.0))
    oracle = pairwise(query, features.stored(), part_weights=weights).distance[0]
    np.testing.assert_array_equal(scanned.comparable, ~np.isnan(oracle))
    error = np.abs(scanned.distance - oracle)[scanned.comparable]
    assert (error <= scanned.slack[scanned.comparable]).all()
    visible = scanned.comparable & (features.visibility > 1e-10).all(axis=1)
    assert (scanned.slack[visible] < 1e-4).all()


def test_rows_that_float32_cannot_tell_apart_are_all_candidates() -> None:
    schema = PartSchema((Part("global", 512, always_visible=True),))
    rng = np.random.default_rng(0)
    query = random_features(rng, schema, 1)
    near = random_features(rng, schema, 400).vectors * 1e-6 + query.vectors  # distances differ by about 1e-12
    vectors = np.concatenate([random_features(rng, schema, 50).vectors, near / np.linalg.norm(near, axis=1)[:, None]])
    features = PartFeatures(vectors.astype(np.float32), np.ones((450, 1), np.float32), schema)
    snapshot = snapshot_of(features)
    weighted = weighted_query(query, schema, {}, 0.0)
    candidates = closest(scan(snapshot, weighted), 10)
    assert set(range(50, 450)) <= set(candidates.tolist())


def test_a_candidate_is_whoever_may_be_as_close_as_the_kth_certainly_is() -> None:
    distance = np.array([0.5, 0.55, 0.69, 0.9, 0.1])
    comparable = np.array([True, True, True, True, False])
    assert closest(Scan(distance, np.full(5, 0.1), comparable), 1).tolist() == [0, 1, 2]
    assert closest(Scan(distance, np.full(5, 1e-9), comparable), 2).tolist() == [0, 1]
    assert closest(Scan(distance, np.full(5, 1e-9), comparable), 9).tolist() == [0, 1, 2, 3]
    assert closest(Scan(distance, np.full(5, 1e-9), comparable), None).tolist() == [0, 1, 2, 3]


def test_candidates_are_few_when_distances_differ() -> None:
    schema = PartSchema((Part("global", 64, always_visible=True),))
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((3000, 64)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    snapshot = snapshot_of(PartFeatures(vectors, np.ones((3000, 1), np.float32), schema))
    weighted = weighted_query(random_features(rng, schema, 1), schema, {}, 0.0)
    assert len(closest(scan(snapshot, weighted), 10)) < 30


def test_scanning_some_rows_gives_what_scanning_all_gives_there() -> None:
    rng = np.random.default_rng(1)
    schema = random_schema(rng)
    columns = Columns(schema)
    for start in range(0, 3000, 500):  # several blocks
        features = random_features(rng, schema, 500)
        ids = [f"i{n}" for n in range(start, start + 500)]
        columns.extend(make_batch(make_items(features, ids), schema, 1, 0))
    snapshot = columns.snapshot(1)
    assert len(snapshot.blocks) > 1
    weighted = weighted_query(random_features(rng, schema, 1), schema, {}, 0.2)
    everything = scan(snapshot, weighted)
    for share in (0.0, 0.01, 0.5, 1.0):
        rows = np.flatnonzero(rng.random(3000) <= share)
        some = scan(snapshot, weighted, rows)
        np.testing.assert_array_equal(some.comparable, everything.comparable[rows])
        close = some.comparable
        np.testing.assert_allclose(some.distance[close], everything.distance[rows][close], atol=1e-5)


def test_scanning_for_several_queries_gives_what_scanning_for_each_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    schema = random_schema(rng)
    columns = Columns(schema)
    for start in range(0, 2500, 500):  # several blocks
        features = random_features(rng, schema, 500)
        columns.extend(make_batch(make_items(features, [f"i{n}" for n in range(start, start + 500)]), schema, 1, 0))
    snapshot = columns.snapshot(1)
    assert len(snapshot.blocks) > 1
    monkeypatch.setattr(
        scoring, "MULTIPLIED_AT_ONCE", 70 * 7 * schema.width
    )  # 70 rows, which no block is a multiple of
    queries = [
        weighted_query(random_features(rng, schema, 1), schema, {}, threshold) for threshold in rng.random(7).tolist()
    ]
    together = list(scan_together(snapshot, queries))
    assert len(together) == 7
    for query, scanned in zip(queries, together, strict=True):
        alone = scan(snapshot, query)
        np.testing.assert_array_equal(scanned.comparable, alone.comparable)
        close = scanned.comparable
        assert (np.abs(scanned.distance - alone.distance) <= scanned.slack + alone.slack)[close].all()
        np.testing.assert_array_equal(scanned.slack[close], alone.slack[close])


def test_equal_rows_get_equal_distances_wherever_they_stand() -> None:
    schema = PartSchema((Part("global", 100, always_visible=True), Part("upper", 33)))
    rng = np.random.default_rng(2)
    one = random_features(rng, schema, 1)
    rows = np.zeros(5001, np.int64)
    many = PartFeatures.trusted(one.vectors[rows], one.visibility[rows], schema)
    snapshot = snapshot_of(many)
    weighted = weighted_query(random_features(rng, schema, 1), schema, {}, 0.0)
    distance, _ = rescore(snapshot, weighted, np.arange(5001))
    assert len(np.unique(distance)) == 1


def test_equal_distances_are_ordered_by_item_id_and_nan_comes_last() -> None:
    schema = PartSchema((Part("global", 4, always_visible=True),))
    features = random_features(np.random.default_rng(3), schema, 6)
    snapshot = snapshot_of(features, ["f", "é", "d", "a", "b", "c"])
    distance = np.array([0.5, 0.1, np.nan, 0.5, np.nan, 0.1], np.float32)
    order = ranking_order(snapshot, np.arange(6), distance)
    assert [snapshot.item_id(row) for row in order] == ["c", "é", "a", "f", "b", "d"]


@pytest.mark.parametrize(
    ("rows", "weights", "threshold", "message"),
    [
        (2, {}, 0.0, "one query, got 2 rows"),
        (1, {"nose": 1.0}, 0.0, "unknown parts"),
        (1, {"global": -1.0}, 0.0, "at least 0"),
        (1, {}, 1.5, "min_joint_visibility"),
        (1, {}, float("nan"), "min_joint_visibility"),
    ],
)
def test_a_wrong_query_is_refused(rows: int, weights: dict[str, float], threshold: float, message: str) -> None:
    schema = PartSchema((Part("global", 4, always_visible=True),))
    features = random_features(np.random.default_rng(0), schema, rows)
    with pytest.raises(ValueError, match=message):
        weighted_query(features, schema, weights, threshold)


def test_a_query_of_another_schema_is_refused_naming_both() -> None:
    ours, theirs = PartSchema((Part("global", 4),)), PartSchema((Part("global", 5),))
    features = random_features(np.random.default_rng(0), theirs, 1)
    with pytest.raises(ValueError, match=r"global:5.*global:4"):
        weighted_query(features, ours, {}, 0.0)
