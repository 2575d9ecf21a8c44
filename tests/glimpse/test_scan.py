"""The fast scan against the oracle: values within its tolerance, ranks exactly."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glimpse.distance import pairwise
from glimpse.metrics import Relevance, block_ranks
from glimpse.parts import Part, PartFeatures, PartSchema
from glimpse.scan import FAINT, TILE, DistanceScan, query_blocks
from tests.glimpse.features import LOOSE, PEOPLE, one, random_features

ONE_PART = PartSchema((Part("global", 7),))


@pytest.mark.parametrize("schema", [PEOPLE, LOOSE, ONE_PART])
def test_distances_are_the_oracles_within_the_tolerance_and_agree_on_what_is_incomparable(schema: PartSchema) -> None:
    query, gallery = random_features(9, schema, seed=1), random_features(TILE + 30, schema, seed=2).stored()
    scan = DistanceScan(gallery)
    scanned, oracle = scan(query), pairwise(query, gallery).distance
    assert scanned.dtype == np.float32
    np.testing.assert_array_equal(np.isnan(scanned), np.isnan(oracle))
    np.testing.assert_allclose(scanned, oracle, rtol=0, atol=scan.tolerance)
    rows, columns = (places.ravel() for places in np.indices(oracle.shape))
    np.testing.assert_allclose(scan.of_pairs(query, rows, columns), oracle.ravel(), rtol=0, atol=scan.tolerance)


def test_the_tolerance_holds_for_wide_parts_and_for_items_that_equal_the_query() -> None:
    schema = PartSchema(tuple(Part(f"p{i}", 512) for i in range(9)))
    gallery = random_features(60, schema, seed=3)
    scan = DistanceScan(gallery)
    off = np.abs(scan(gallery[:20]) - pairwise(gallery[:20], gallery).distance)
    assert off.max() < scan.tolerance / 4  # room for a BLAS that sums in another order
    assert scan.tolerance < 5e-6


def test_part_weights_of_the_caller_replace_the_schemas_however_large() -> None:
    query, gallery = random_features(5, seed=5), random_features(6, seed=6)
    weights = {"upper": 3e38, "global": 1e38}
    oracle = pairwise(query, gallery, part_weights=weights).distance
    np.testing.assert_allclose(DistanceScan(gallery, weights)(query), oracle, rtol=0, atol=1e-6)


@pytest.mark.parametrize("faint", [FAINT / 10, 1e-30, 1e-38])
def test_parts_that_hardly_show_are_compared_all_the_same(faint: float) -> None:
    # In float32 the product of two such visibilities would be 0, and the pair incomparable.
    query = one(LOOSE, [[1, 0, 0, 0, 0, 0, 0, 0], [0] * 5], [faint, 0])
    gallery = one(LOOSE, [[0.6, 0.8, 0, 0, 0, 0, 0, 0], [0] * 5], [faint, 0])
    oracle = pairwise(query, gallery).distance
    assert oracle[0, 0] == pytest.approx(0.4)
    np.testing.assert_allclose(DistanceScan(gallery)(query), oracle, atol=1e-6)


def test_features_of_another_schema_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"query parts upper:8, legs:5 differ from the gallery's global:12"):
        DistanceScan(random_features(2))(random_features(2, LOOSE))


def _oracle_ranks(
    query: PartFeatures, gallery: PartFeatures, people: np.ndarray, others: np.ndarray
) -> list[list[int]]:
    distances = pairwise(query, gallery).distance
    return [ranks.tolist() for ranks in block_ranks(distances, people, others)]


def _scanned_ranks(
    query: PartFeatures, gallery: PartFeatures, people: np.ndarray, others: np.ndarray
) -> list[list[int]]:
    scan, rule = DistanceScan(gallery), Relevance(people, others)
    distances = scan(query)
    return [scan.ranks(query[i : i + 1], distances[i], *rule(i)).tolist() for i in range(len(query))]


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), copies=st.integers(1, 6), schema=st.sampled_from([PEOPLE, LOOSE, ONE_PART]))
def test_ranks_are_the_oracles_exactly_even_among_copies_and_near_copies(
    seed: int, copies: int, schema: PartSchema
) -> None:
    random = np.random.default_rng(seed)
    base = random_features(12, schema, seed=seed, hidden=0.4)
    # Copies tie exactly; nudges of an ulp or two differ by less than a float32 product can tell.
    rows = random.integers(0, len(base), 12 * copies)
    nudged = base.vectors[rows] * (1 + random.integers(-2, 3, (len(rows), 1)) * 2.0**-23).astype(np.float32)
    gallery = PartFeatures(nudged.astype(np.float32), base.visibility[rows], schema)
    people, others = random.integers(0, 3, len(base)), random.integers(0, 3, len(rows))
    assert _scanned_ranks(base, gallery, people, others) == _oracle_ranks(base, gallery, people, others)


def test_a_tie_that_float32_products_cannot_see_counts_against_the_model() -> None:
    # All items are the same image: every negative stands before every positive.
    image = random_features(1, seed=9)
    gallery = PartFeatures.concatenate([image] * (TILE + 5))
    people = np.arange(TILE + 5) % 2
    scan = DistanceScan(gallery)
    ranks = scan.ranks(image, scan(image)[0], people == 1, people == 0)
    assert ranks[0] == (people == 0).sum() + 1


def test_blocks_cover_all_queries_and_shrink_as_the_gallery_grows() -> None:
    assert list(query_blocks(0, 100)) == []
    blocks = list(query_blocks(1200, 100))
    assert [row for rows in blocks for row in range(rows.start, rows.stop)] == list(range(1200))
    assert next(query_blocks(10_000, 10_000_000)).stop == 1
