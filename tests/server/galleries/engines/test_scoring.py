"""Exact distances and their order."""

from __future__ import annotations

import numpy as np
import pytest

from glimpse.distance import pairwise
from glimpse.parts import Part, PartFeatures, PartSchema
from server.galleries.columns import Columns
from server.galleries.engines.scoring import evidence, ranking_order, rescore, rescore_stored, weighted_query
from server.galleries.items import make_batch
from server.galleries.snapshots import Snapshot
from tests.server.galleries.generated import make_items, random_features, random_schema


def snapshot_of(features: PartFeatures, ids: list[str] | None = None) -> Snapshot:
    columns = Columns(features.schema)
    columns.extend(make_batch(make_items(features, ids), features.schema, 1, 0))
    return columns.snapshot(1)


@pytest.mark.parametrize("seed", range(40))
def test_rescored_distances_are_the_oracles_to_the_bit(seed: int) -> None:
    rng = np.random.default_rng(seed)
    schema = random_schema(rng)
    features = random_features(rng, schema, 300)
    # Visibilities down to the smallest float32, whose products underflow.
    faint = np.where(schema.always_visible, 1, 10.0 ** rng.uniform(-45, 0, (300, len(schema))) * rng.choice([1, 1e9]))
    visibility = np.minimum(features.visibility * faint, 1).astype(np.float32)
    features = PartFeatures.trusted(features.vectors, visibility, schema)
    query = random_features(rng, schema, 1)
    weights = {name: float(10.0 ** rng.uniform(-200, 30)) for name in schema.names}
    threshold = float(rng.choice([0.0, 1e-9, 0.3]))
    weighted = weighted_query(query, schema, weights, threshold)
    distance, joint = rescore(snapshot_of(features), weighted, np.arange(300))
    oracle = pairwise(query, features.stored(), part_weights=weights, min_joint_visibility=threshold)
    np.testing.assert_array_equal(distance, oracle.distance[0])
    np.testing.assert_array_equal(joint, oracle.joint_visibility[0])


def test_a_distance_between_two_float32_is_asked_of_the_oracle() -> None:
    from server.galleries.engines.kernels import rescore as kernel

    schema = PartSchema((Part("global", 2, always_visible=True),))
    # A distance of exactly half a float32 step, 2^-26, below 1/2, so that the last digit of the sum decides.
    vectors = np.array([[0.5, 2.0**-13]], np.float16)
    query = PartFeatures.trusted(np.array([[1.0, 2.0**-13]], np.float32), np.ones((1, 1), np.float32), schema)
    weighted = weighted_query(query, schema, {}, 0.0)
    exact = 1 - (0.5 + 2.0**-26)
    assert np.float32(exact - 1e-12) != np.float32(exact + 1e-12)
    distance, joint, doubtful = np.empty(1, np.float32), np.empty(1, np.float32), np.empty(1, np.uint8)
    kernel.rescore_rows(
        vectors.view(np.int16),
        np.ones((1, 1), np.float32),
        np.array([0, 2]),
        query.vectors[0].astype(np.float64),
        weighted.visibility,
        weighted.alpha,
        weighted.optional,
        weighted.optional_sum,
        0.0,
        0.0,
        *(distance, joint, doubtful),
    )
    assert doubtful[0] == 1
    found, _ = rescore_stored(schema, weighted, vectors, np.ones((1, 1), np.float32))
    oracle = pairwise(query, PartFeatures.trusted(vectors.astype(np.float32), np.ones((1, 1), np.float32), schema))
    np.testing.assert_array_equal(found, oracle.distance[0])


def test_evidence_is_comparable_exactly_where_the_oracle_says_so() -> None:
    rng = np.random.default_rng(4)
    for _ in range(40):
        schema = random_schema(rng)
        features, query = random_features(rng, schema, 100), random_features(rng, schema, 1)
        threshold = float(rng.choice([0.0, 0.25, 0.5]))
        _, comparable = evidence(weighted_query(query, schema, {}, threshold), features.visibility.T)
        oracle = pairwise(query, features, min_joint_visibility=threshold).distance[0]
        np.testing.assert_array_equal(comparable, ~np.isnan(oracle))


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
