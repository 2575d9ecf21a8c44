"""k-reciprocal re-ranking against a hand-computed example and the dense textbook version."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest

from glimpse.distance import pairwise
from glimpse.metrics import RankingMetrics
from glimpse.parts import Part, PartFeatures, PartSchema
from glimpse.reranking import NOBODY, Reranking, find_neighbours, rerank
from glimpse.scan import DistanceScan
from tests.glimpse.features import LOOSE, PEOPLE, random_features

PLANE = PartSchema((Part("global", 2),))


def textbook(query: PartFeatures, gallery: PartFeatures, settings: Reranking) -> np.ndarray:
    """The paper's steps on dense N x N arrays and Python sets, in float64."""
    everything = PartFeatures.concatenate([gallery[:0], query, gallery])
    distance = pairwise(everything, everything).distance.astype(np.float64)
    count, k1, k2 = len(everything), settings.k1, settings.k2
    apart = distance.copy()
    np.fill_diagonal(apart, np.nan)
    for i in range(count):
        farthest = max((value for value in apart[i] if value == value), default=0.0)
        distance[i] /= farthest if farthest > 0 else 1.0
    np.fill_diagonal(distance, -1.0)

    @cache
    def nearest(i: int, k: int) -> list[int]:
        order = sorted((j for j in range(count) if distance[i, j] == distance[i, j]), key=lambda j: (distance[i, j], j))
        return order[: k + 1]

    @cache
    def reciprocal(i: int, k: int) -> set[int]:
        return {j for j in nearest(i, k) if i in nearest(j, k)}

    half = int(np.around(k1 / 2))
    vectors = np.zeros((count, count))
    for i in range(count):
        close = reciprocal(i, k1)
        members = set(close)
        for j in close:
            offered = reciprocal(j, half)
            if len(offered & close) > 2 / 3 * len(offered):
                members |= offered
        for j in members:
            if distance[i, j] == distance[i, j]:
                vectors[i, j] = math.exp(-max(distance[i, j], 0.0))
        vectors[i] /= vectors[i].sum()
    expanded = np.stack([vectors[nearest(i, k2 - 1)].mean(axis=0) for i in range(count)])
    queries = len(query)
    final = np.empty((queries, len(gallery)))
    for q in range(queries):
        for g in range(len(gallery)):
            shared = np.minimum(expanded[q], expanded[queries + g]).sum()
            jaccard = 1 - shared / (2 - shared)
            final[q, g] = (1 - settings.weight) * jaccard + settings.weight * distance[q, queries + g]
    return final


def sparse(query: PartFeatures, gallery: PartFeatures, settings: Reranking) -> np.ndarray:
    blocks = [distances for _, distances in rerank(query, gallery, settings)]
    return np.concatenate(blocks)


def clustered(count: int, people: int, schema: PartSchema, seed: int) -> tuple[PartFeatures, np.ndarray]:
    """Images of people: one vector a person with noise, so that neighbourhoods mean something."""
    random = np.random.default_rng(seed)
    base = random_features(people, schema, seed=seed, hidden=0.0)
    noise = random_features(count, schema, seed=seed + 1, hidden=0.35)
    who = random.integers(0, people, count)
    vectors = base.vectors[who] + 0.7 * noise.vectors
    for p, columns in enumerate(schema.slices):
        vectors[:, columns] /= np.linalg.norm(vectors[:, columns], axis=1, keepdims=True)
        vectors[noise.visibility[:, p] == 0, columns] = 0
    return PartFeatures(vectors, noise.visibility, schema), who


def angles(*degrees: float) -> PartFeatures:
    turned = np.radians(degrees)
    vectors = np.stack([np.cos(turned), np.sin(turned)], axis=1).astype(np.float32)
    return PartFeatures(vectors, np.ones((len(degrees), 1), np.float32), PLANE)


def test_three_images_by_hand() -> None:
    # q and a are each other's nearest; b's nearest is a, but not the other way round.
    q_a, a_b, q_b = (1 - math.cos(math.radians(turn)) for turn in (10, 50, 60))
    of_q, of_a = math.exp(-q_a / q_b), math.exp(-q_a / a_b)
    v_q, v_a = {"q": 1 / (1 + of_q), "a": of_q / (1 + of_q)}, {"q": of_a / (1 + of_a), "a": 1 / (1 + of_a)}
    shared = min(v_q["q"], v_a["q"]) + min(v_q["a"], v_a["a"])
    expected = [0.7 * (1 - shared / (2 - shared)) + 0.3 * q_a / q_b, 0.7 + 0.3]
    assert expected[0] == pytest.approx(0.03418, abs=1e-5)
    found = sparse(angles(0), angles(10, 60), Reranking(k1=1, k2=1))
    np.testing.assert_allclose(found[0], expected, atol=1e-5)


def test_query_expansion_averages_over_the_first_neighbours_by_hand() -> None:
    # With k2 = 2 both q and a average V of {q, a}, so they are the same and J(q, a) = 0; b averages V of {b, a}.
    q_a, a_b, q_b = (1 - math.cos(math.radians(turn)) for turn in (10, 50, 60))
    of_q, of_a = math.exp(-q_a / q_b), math.exp(-q_a / a_b)
    v_q, v_a = (np.array([1, of_q, 0]) / (1 + of_q), np.array([of_a, 1, 0]) / (1 + of_a))  # over q, a, b
    of_pair, of_b = (v_q + v_a) / 2, (np.array([0, 0, 1]) + v_a) / 2
    shared = np.minimum(of_pair, of_b).sum()
    expected = [0.3 * q_a / q_b, 0.7 * (1 - shared / (2 - shared)) + 0.3]
    found = sparse(angles(0), angles(10, 60), Reranking(k1=1, k2=2))
    np.testing.assert_allclose(found[0], expected, atol=1e-5)


@pytest.mark.parametrize("schema", [PEOPLE, LOOSE], ids=["always visible", "incomparable pairs"])
@pytest.mark.parametrize(
    "settings",
    [Reranking(k1=6, k2=3), Reranking(), Reranking(k1=5, k2=1, weight=0.0), Reranking(k1=3, k2=2, weight=1.0)],
    ids=str,
)
@pytest.mark.parametrize("seed", [1, 2])
def test_distances_and_rankings_are_the_dense_textbooks(schema: PartSchema, settings: Reranking, seed: int) -> None:
    features, _ = clustered(90, 12, schema, seed)
    query, gallery = features[:20], features[20:]
    dense, found = textbook(query, gallery, settings), sparse(query, gallery, settings)
    if schema is LOOSE:
        assert np.isnan(dense).any()
    np.testing.assert_allclose(found, dense, rtol=0, atol=2e-6)
    for row, reference in zip(found, dense, strict=True):
        ordered = reference[np.argsort(row, kind="stable")]
        ordered = ordered[~np.isnan(ordered)]
        assert (np.diff(ordered) >= -2e-6).all()  # only what ties in float32 may stand either way


def test_copies_tie_and_the_lower_row_comes_first_as_in_the_textbook() -> None:
    features, _ = clustered(30, 6, PEOPLE, seed=4)
    everything = PartFeatures.concatenate([features, features[::3], features[::3]])
    query, gallery = everything[:10], everything[10:]
    settings = Reranking(k1=4, k2=3)
    np.testing.assert_allclose(sparse(query, gallery, settings), textbook(query, gallery, settings), atol=2e-6)


def test_a_gallery_smaller_than_k1_makes_everybody_a_neighbour() -> None:
    features, _ = clustered(8, 3, PEOPLE, seed=5)
    query, gallery = features[:3], features[3:]
    np.testing.assert_allclose(
        sparse(query, gallery, Reranking()), textbook(query, gallery, Reranking()), rtol=0, atol=2e-6
    )


def test_an_image_that_shows_nothing_is_nobodys_neighbour_and_ranks_last() -> None:
    features, _ = clustered(12, 3, LOOSE, seed=6)
    visibility, vectors = features.visibility.copy(), features.vectors.copy()
    visibility[7], vectors[7] = 0, 0
    features = PartFeatures(vectors, visibility, LOOSE)
    neighbours = find_neighbours(DistanceScan(features), 4)
    assert neighbours.rows[7].tolist() == [7] + [NOBODY] * 4
    assert not (np.delete(neighbours.rows, 7, axis=0) == 7).any()
    assert np.isnan(sparse(features[:4], features[4:], Reranking(k1=4, k2=2))[:, 3]).all()


def test_an_image_is_its_own_nearest_even_where_the_prior_keeps_it_apart_from_itself() -> None:
    schema = PartSchema((Part("upper", 8),), prior=1.0)
    features = random_features(6, schema, seed=7, hidden=0.0)
    own = np.diag(DistanceScan(features)(features))
    assert (own > 0.4).all()
    assert find_neighbours(DistanceScan(features), 2).rows[:, 0].tolist() == list(range(6))


def test_re_ranking_lifts_a_match_whose_neighbours_agree() -> None:
    features, who = clustered(160, 16, PEOPLE, seed=8)
    query, gallery = features[:40], features[40:]
    before, after = RankingMetrics(), RankingMetrics()
    before.add_block(pairwise(query, gallery).distance, who[:40], who[40:])
    for rows, distances in rerank(query, gallery, Reranking(k1=7, k2=3)):
        after.add_block(distances, who[:40][rows], who[40:])
    assert after.result().mAP > before.result().mAP + 0.02


def test_the_gallerys_weights_and_prior_count() -> None:
    features, _ = clustered(30, 5, PEOPLE, seed=9)
    query, gallery = features[:6], features[6:]
    other = PartSchema(tuple(Part(p.name, p.dim, 5.0, p.always_visible) for p in PEOPLE.parts), prior=3.0)
    read_otherwise = PartFeatures.trusted(query.vectors, query.visibility, other)
    settings = Reranking(k1=4, k2=2)
    np.testing.assert_array_equal(sparse(read_otherwise, gallery, settings), sparse(query, gallery, settings))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"k1": 0}, "k1 must be at least 1, got 0"),
        ({"k1": 3, "k2": 5}, r"k2 must be within \[1, k1 \+ 1\] = \[1, 4\], got 5"),
        ({"k2": 0}, "k2 must be within"),
        ({"weight": 1.5}, r"weight must be within \[0, 1\], got 1.5"),
        ({"weight": math.nan}, r"weight must be within \[0, 1\], got nan"),
    ],
)
def test_settings_out_of_range_are_refused(values: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Reranking(**values)  # type: ignore[arg-type]


def test_an_empty_side_is_refused() -> None:
    features = random_features(3)
    with pytest.raises(ValueError, match="needs queries and a gallery, got 3 and 0 images"):
        list(rerank(features, features[:0]))
