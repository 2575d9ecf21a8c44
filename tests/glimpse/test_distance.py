"""The distance: the formula, its special cases in the literature, and what the engines may rely on."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glimpse.distance import check_min_joint, explain, pairwise, resolve_weights
from glimpse.parts import Part, PartFeatures, PartSchema
from tests.glimpse.features import LOOSE, PEOPLE, one, random_features

PLAIN = PartSchema((Part("global", 2, always_visible=True), Part("upper", 2)))
QUERY = one(PLAIN, [[1, 0], [0, 1]], [1, 0.5])
ITEM = one(PLAIN, [[0.6, 0.8], [0.6, 0.8]], [1, 0.8])


def _with(schema: PartSchema, **fields: float) -> PartSchema:
    return PartSchema(schema.parts, **fields)


def _naive(query: PartFeatures, item: PartFeatures, alpha: list[float], prior: float) -> tuple[float, float]:
    """Distance and joint visibility of one pair, straight from the definition."""
    schema = item.schema
    top = total = shared = scale = 0.0
    for p, columns in enumerate(schema.slices):
        weight = alpha[p] * float(query.visibility[0, p]) * float(item.visibility[0, p])
        cosine = math.fsum(
            float(a) * float(b) for a, b in zip(query.vectors[0, columns], item.vectors[0, columns], strict=True)
        )
        top += weight * cosine
        total += weight
        if not schema.parts[p].always_visible:
            shared += weight
            scale += alpha[p]
    return (1 - top / (total + prior) if total > 0 else math.nan), (shared / scale if scale else 1.0)


def test_distance_and_joint_visibility_by_hand():
    # w = 1, 0.5 * 0.8 = 0.4; similarities 0.6, 0.8: d = 1 - (0.6 + 0.32) / 1.4
    distance, joint = pairwise(QUERY, ITEM)
    assert distance[0, 0] == pytest.approx(1 - 0.92 / 1.4, abs=1e-7)
    assert joint[0, 0] == pytest.approx(0.4)


def test_prior_shrinks_the_similarity_and_comes_from_the_gallery():
    shrunk = PartFeatures(ITEM.vectors, ITEM.visibility, _with(PLAIN, prior=0.6))
    assert pairwise(QUERY, shrunk).distance[0, 0] == pytest.approx(1 - 0.92 / 2.0, abs=1e-7)
    asked = PartFeatures(QUERY.vectors, QUERY.visibility, _with(PLAIN, prior=0.6))
    assert pairwise(asked, ITEM).distance[0, 0] == pytest.approx(1 - 0.92 / 1.4, abs=1e-7)


def test_part_weights_replace_the_schema_and_unnamed_parts_weigh_nothing():
    distance, joint = pairwise(QUERY, ITEM, part_weights={"upper": 3.0})
    assert distance[0, 0] == pytest.approx(1 - 0.8, abs=1e-7)
    assert joint[0, 0] == pytest.approx(0.4)
    distance, joint = pairwise(QUERY, ITEM, part_weights={"global": 1.0, "upper": 0.0})
    assert distance[0, 0] == pytest.approx(1 - 0.6, abs=1e-7)
    assert joint[0, 0] == 1.0
    assert pairwise(QUERY, ITEM, part_weights={}).distance == pairwise(QUERY, ITEM).distance


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), prior=st.sampled_from([0.0, 0.3, 2.0]))
def test_every_pair_follows_the_definition(seed, prior):
    for base in (PEOPLE, LOOSE):
        schema = _with(base, prior=prior)
        query, gallery = random_features(3, schema, seed), random_features(4, schema, seed + 1, hidden=0.6)
        distance, joint = pairwise(query, gallery)
        for q in range(3):
            for g in range(4):
                expected = _naive(query[[q]], gallery[[g]], schema.weights.tolist(), prior)
                np.testing.assert_allclose((distance[q, g], joint[q, g]), expected, atol=2e-7)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_with_one_global_part_it_is_the_score_of_pgfa(seed):
    """Miao et al., ICCV 2019, eq. 8: cosines moved to [0, 1], averaged over the shared parts and the global one."""
    schema = PartSchema((Part("global", 12, always_visible=True), Part("top", 8), Part("middle", 8), Part("low", 8)))
    random = np.random.default_rng(seed)
    query, gallery = random_features(3, schema, seed, hidden=0), random_features(5, schema, seed + 1, hidden=0)
    query.visibility[:, 1:] = random.integers(0, 2, (3, 3))
    gallery.visibility[:, 1:] = random.integers(0, 2, (5, 3))
    cosines = np.stack([query.vectors[:, c] @ gallery.vectors[:, c].T for c in schema.slices])  # [P, Q, G]
    shared = query.visibility.T[:, :, None] * gallery.visibility.T[:, None, :]  # [P, Q, G]
    score = (shared * (cosines + 1) / 2).sum(0) / shared.sum(0)
    np.testing.assert_allclose(score, 1 - pairwise(query, gallery).distance / 2, atol=1e-6)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_two_matrix_products_give_the_same_distances(seed):
    """The form that the server's exact engine computes."""
    query, gallery = random_features(6, PEOPLE, seed), random_features(9, PEOPLE, seed + 1)
    alpha, per_column = PEOPLE.weights, np.repeat(np.arange(3), PEOPLE.dims)
    left = query.vectors * (alpha * query.visibility)[:, per_column]
    right = gallery.vectors * gallery.visibility[:, per_column]
    weight = (alpha * query.visibility) @ gallery.visibility.T
    np.testing.assert_allclose(
        pairwise(query, gallery).distance, 1 - left @ right.T / (weight + np.float32(PEOPLE.prior)), atol=1e-5
    )


def test_pair_without_a_shared_visible_part_has_no_distance_and_ranks_last():
    query = one(LOOSE, [[1] + [0] * 7, [0] * 5], [1, 0])
    gallery = PartFeatures.concatenate(
        [
            one(LOOSE, [[0] * 8, [1] + [0] * 4], [0, 1]),  # shares nothing
            one(LOOSE, [[-1] + [0] * 7, [0] * 5], [0.1, 0]),  # the opposite, hardly seen
        ]
    )
    distance, joint = pairwise(query, gallery)
    assert np.isnan(distance[0, 0])
    assert distance[0, 1] == 2.0
    assert joint[0, 0] == 0.0
    assert np.argsort(distance[0]).tolist() == [1, 0]


def test_prior_does_not_make_an_incomparable_pair_comparable():
    schema = _with(LOOSE, prior=1.0)
    query, item = one(schema, [[1] + [0] * 7, [0] * 5], [1, 0]), one(schema, [[0] * 8, [1] + [0] * 4], [0, 1])
    assert np.isnan(pairwise(query, item).distance[0, 0])


def test_pair_below_the_minimum_joint_visibility_has_no_distance_but_keeps_its_joint_visibility():
    at_it = float(pairwise(QUERY, ITEM).joint_visibility[0, 0])
    assert not np.isnan(pairwise(QUERY, ITEM, min_joint_visibility=0.399).distance[0, 0])
    above = pairwise(QUERY, ITEM, min_joint_visibility=0.401)
    assert np.isnan(above.distance[0, 0])
    assert above.joint_visibility[0, 0] == at_it


def test_joint_visibility_is_one_when_every_part_is_always_visible():
    schema = PartSchema((Part("global", 4, always_visible=True),))
    features = random_features(3, schema)
    assert (pairwise(features, features, min_joint_visibility=1.0).joint_visibility == 1).all()


def test_distance_of_a_row_to_itself_is_zero_and_never_below():
    features = random_features(200, _with(PEOPLE, prior=0.0))
    own = np.diag(pairwise(features, features).distance)
    assert own.min() >= 0
    assert own.max() < 1e-6


def test_equal_items_get_bit_equal_distances_wherever_they_stand():
    query, gallery = random_features(5, seed=1), random_features(300, seed=2)
    order = np.random.default_rng(0).integers(0, 300, 1_000)
    whole = pairwise(query, gallery[order]).distance
    np.testing.assert_array_equal(whole, pairwise(query, gallery).distance[:, order])
    for q, g in ((0, 0), (3, 17), (4, 999)):
        alone = pairwise(query[[q]], gallery[order[[g]]]).distance
        assert alone[0, 0] == whole[q, g]


def test_distance_does_not_depend_on_which_side_asks():
    left, right = random_features(4, seed=1), random_features(6, seed=2)
    np.testing.assert_array_equal(pairwise(left, right).distance, pairwise(right, left).distance.T)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), weighted=st.booleans())
def test_shares_of_an_explanation_sum_to_one_and_reproduce_the_distance(seed, weighted):
    weights = {"upper": 2.0, "legs": 0.5} if weighted else None
    query, item = random_features(1, PEOPLE, seed, hidden=0), random_features(1, PEOPLE, seed + 1, hidden=0)
    rows = explain(query, item, part_weights=weights)
    assert [row.part for row in rows] == ["global", "upper", "legs", "prior"]
    assert sum(row.share for row in rows) == pytest.approx(1)
    rebuilt = 1 - sum(row.share * row.similarity for row in rows)
    assert rebuilt == pytest.approx(float(pairwise(query, item, part_weights=weights).distance[0, 0]), abs=1e-6)
    assert rows[1].query_visibility == pytest.approx(float(query.visibility[0, 1]))
    assert rows[1].gallery_visibility == pytest.approx(float(item.visibility[0, 1]))


def test_explanation_of_an_incomparable_pair_has_no_shares():
    query, item = one(LOOSE, [[1] + [0] * 7, [0] * 5], [1, 0]), one(LOOSE, [[0] * 8, [1] + [0] * 4], [0, 1])
    assert [row.share for row in explain(query, item)] == [0, 0, 0]


def test_explanation_takes_one_pair_of_one_schema():
    with pytest.raises(ValueError, match="one query and one item, got 2 and 1 rows"):
        explain(random_features(2), random_features(1))
    with pytest.raises(ValueError, match="differ from the gallery's"):
        explain(random_features(1), random_features(1, LOOSE))


def test_features_of_another_schema_are_refused_with_both_names():
    message = "query parts upper:8, legs:5 differ from the gallery's global:12, upper:8, legs:5"
    with pytest.raises(ValueError, match=message):
        pairwise(random_features(1, LOOSE), random_features(1, PEOPLE))


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"tail": 1.0}, r"unknown parts \['tail'\] in part_weights; this model has \['global', 'upper', 'legs'\]"),
        ({"upper": -1.0}, "must be finite and at least 0, got {'upper': -1.0}"),
        ({"upper": math.nan}, "got {'upper': nan}"),
        ({"upper": math.inf}, "got {'upper': inf}"),
        ({"upper": 0.0, "legs": 0.0}, "at least one part must weigh more than 0"),
    ],
)
def test_wrong_part_weights_are_refused(weights, message):
    with pytest.raises(ValueError, match=message):
        pairwise(random_features(1), random_features(1), part_weights=weights)


def test_weights_resolve_in_the_order_of_the_schema():
    assert resolve_weights(PEOPLE).tolist() == [1.0, 1.0, 0.5]
    assert resolve_weights(PEOPLE, {"legs": 2.0}).tolist() == [0.0, 0.0, 2.0]


@pytest.mark.parametrize("threshold", [-0.1, 1.1, math.nan])
def test_minimum_joint_visibility_out_of_range_is_refused(threshold):
    with pytest.raises(ValueError, match=r"min_joint_visibility must be within \[0, 1\], got"):
        pairwise(QUERY, ITEM, min_joint_visibility=threshold)


def test_minimum_joint_visibility_in_range_comes_back():
    assert [check_min_joint(value) for value in (0, 0.5, 1)] == [0, 0.5, 1]


def test_no_rows_on_a_side_give_an_empty_matrix():
    none = random_features(1)[:0]
    assert pairwise(none, random_features(3)).distance.shape == (0, 3)
    assert pairwise(random_features(3), none).distance.shape == (3, 0)
