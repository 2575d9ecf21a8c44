"""CMC, mAP and mINP against hand-computed numbers and the textbook's argsort."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glimpse.metrics import CMC_RANKS, RankingMetrics, from_ranking, positive_ranks

NAN = float("nan")


def _of_ranks(*ranks: int):
    metrics = RankingMetrics()
    metrics.add(np.array(ranks, np.int64))
    return metrics.result()


@pytest.mark.parametrize(
    ("ranks", "standard", "trapezoidal", "inp"),
    [
        ((1,), 1.0, 1.0, 1.0),
        ((2,), 0.5, 0.25, 0.5),
        ((1, 2, 3), 1.0, 1.0, 1.0),
        ((1, 3, 10), (1 + 2 / 3 + 3 / 10) / 3, (1 + (1 / 2 + 2 / 3) / 2 + (2 / 9 + 3 / 10) / 2) / 3, 0.3),
        ((4, 5), (1 / 4 + 2 / 5) / 2, ((0 + 1 / 4) / 2 + (1 / 4 + 2 / 5) / 2) / 2, 0.4),
    ],
)
def test_average_precisions_and_inp_by_hand(ranks, standard, trapezoidal, inp):
    result = _of_ranks(*ranks)
    assert result.mAP == pytest.approx(standard)
    assert result.mAP_trapezoidal == pytest.approx(trapezoidal)
    assert result.mINP == pytest.approx(inp)


def test_the_published_example_of_the_two_definitions():
    result = _of_ranks(1, 3, 10)
    assert round(result.mAP, 3) == 0.656
    assert round(result.mAP_trapezoidal, 3) == 0.615


def test_cmc_counts_the_first_hit_and_is_averaged_over_queries():
    metrics = RankingMetrics()
    for ranks in ([1, 9], [2], [6, 7, 8], [21]):
        metrics.add(np.array(ranks))
    result = metrics.result()
    assert result.ranks == CMC_RANKS == (1, 5, 10, 20)
    assert result.cmc == (0.25, 0.5, 0.75, 0.75)
    assert result.rank1 == 0.25
    assert result.to_dict()["rank10"] == 0.75
    assert list(result.to_dict()) == [
        "queries", "skipped", "rank1", "rank5", "rank10", "rank20", "mAP", "mAP_trapezoidal", "mINP"
    ]  # fmt: skip


def test_chosen_cmc_ranks_are_sorted_and_keep_rank_1():
    metrics = RankingMetrics(ranks=(3, 2))
    metrics.add(np.array([3]))
    assert metrics.result().ranks == (1, 2, 3)
    assert metrics.result().cmc == (0.0, 0.0, 1.0)
    with pytest.raises(ValueError, match=r"must be at least 1, got \[0, 5\]"):
        RankingMetrics(ranks=(0, 5))


@pytest.mark.parametrize(
    ("distances", "positive", "keep", "expected"),
    [
        ([0.3, 0.1, 0.2], [1, 0, 1], None, [2, 3]),
        ([0.2, 0.2, 0.2], [1, 0, 1], None, [2, 3]),  # a tie: the negative goes first
        ([0.1, 0.2, 0.2, 0.3], [0, 1, 0, 0], None, [3]),
        ([NAN, 0.5, NAN, 0.4], [1, 1, 0, 0], None, [2, 4]),  # incomparable: after every number and tied with NaN
        ([NAN, 1.9], [0, 1], None, [1]),
        ([0.1, 0.2, 0.3, 0.4], [1, 0, 1, 0], [0, 1, 1, 1], [2]),  # a positive that does not take part
        ([0.1, 0.2, 0.3], [0, 0, 1], [1, 0, 1], [2]),  # a negative that does not take part
        ([0.1, 0.2], [0, 0], None, []),
        ([], [], None, []),
        ([0.1, 0.2], [1, 1], None, [1, 2]),
    ],
)
def test_positive_ranks_by_hand(distances, positive, keep, expected):
    kept = None if keep is None else np.array(keep, bool)
    ranks = positive_ranks(np.array(distances, np.float32), np.array(positive, bool), kept)
    assert ranks.tolist() == expected
    assert ranks.dtype == np.int64


def _textbook(distances, query_ids, gallery_ids, query_cameras, gallery_cameras):
    """Argsort per query (negatives first among equals), then precision at every hit; Zheng et al. 2015."""
    first, standard, trapezoidal, inp, skipped = [], [], [], [], 0
    for q in range(len(query_ids)):
        entries = []
        for g in range(len(gallery_ids)):
            same = gallery_ids[g] == query_ids[q]
            if gallery_ids[g] in (-1, "-1") or (same and gallery_cameras[g] == query_cameras[q]):
                continue
            value = distances[q][g]
            entries.append((value != value, value if value == value else 0.0, same))
        ranking = [same for _, _, same in sorted(entries)]  # False sorts before True
        places = [place for place, same in enumerate(ranking, 1) if same]
        if not places or query_ids[q] in (-1, "-1", ""):
            skipped += 1
            continue
        recall, precision, area, total = 0.0, 1.0, 0.0, 0.0
        for place, same in enumerate(ranking, 1):  # the old toolbox: trapezoids under the precision-recall curve
            hits = sum(ranking[:place])
            area += (hits / len(places) - recall) * (precision + hits / place) / 2
            recall, precision = hits / len(places), hits / place
            total += hits / place if same else 0.0
        first.append(places[0])
        standard.append(total / len(places))
        trapezoidal.append(area)
        inp.append(len(places) / places[-1])
    return first, standard, trapezoidal, inp, skipped


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 100_000), levels=st.sampled_from([4, 10_000]), text=st.booleans(), missing=st.booleans())
def test_blocks_agree_with_the_textbook(seed, levels, text, missing):
    random = np.random.default_rng(seed)
    queries, gallery = int(random.integers(1, 8)), int(random.integers(1, 40))
    distances = (random.integers(0, levels, (queries, gallery)) / levels).astype(np.float32)  # few levels: many ties
    if missing:
        distances[random.random(distances.shape) < 0.2] = NAN
    ids = [random.integers(-1, 4, n) for n in (queries, gallery)]
    cameras = [random.integers(0, 3, n) for n in (queries, gallery)]
    if text:
        ids, cameras = [a.astype(str) for a in ids], [a.astype(str) for a in cameras]
    first, standard, trapezoidal, inp, skipped = _textbook(distances, *ids, *cameras)
    metrics = RankingMetrics()
    half = queries // 2
    for rows in (slice(0, half), slice(half, None)):  # streaming must not matter
        metrics.add_block(distances[rows], ids[0][rows], ids[1], cameras[0][rows], cameras[1])
    if not first:
        with pytest.raises(ValueError, match=f"none of {queries} queries has another image of its person"):
            metrics.result()
        return
    result = metrics.result()
    assert (result.queries, result.skipped) == (len(first), skipped)
    assert result.cmc == tuple(np.mean([place <= k for place in first]) for k in CMC_RANKS)
    np.testing.assert_allclose(
        (result.mAP, result.mAP_trapezoidal, result.mINP),
        (np.mean(standard), np.mean(trapezoidal), np.mean(inp)),
        rtol=1e-12,
    )
    assert result.mAP_trapezoidal <= result.mAP + 1e-12


def test_ranking_of_an_api_gives_the_same_numbers_as_its_distances():
    random = np.random.default_rng(3)
    distances = random.permuted(np.tile(np.arange(200, dtype=np.float32), (20, 1)), axis=1)
    query_ids, gallery_ids = random.integers(0, 10, 20), random.integers(0, 10, 200)
    by_distance, by_ranking = RankingMetrics(), RankingMetrics()
    by_distance.add_block(distances, query_ids, gallery_ids)
    for row, identity in zip(distances, query_ids, strict=True):
        by_ranking.add(from_ranking(gallery_ids[g] == identity for g in np.argsort(row)))
    assert by_ranking.result() == by_distance.result()


def test_ranks_of_a_ranking():
    assert from_ranking([False, True, False, True]).tolist() == [2, 4]
    assert from_ranking([]).tolist() == []


def test_model_that_gives_everything_one_distance_gains_nothing():
    metrics = RankingMetrics()
    metrics.add_block(np.zeros((1, 100), np.float32), [1], [1] * 5 + [2] * 95)
    assert metrics.result().rank1 == 0
    assert metrics.result().mINP == 5 / 100


def test_same_person_and_camera_is_left_out_but_neither_alone_is():
    distances = np.array([[0.1, 0.2, 0.3]], np.float32)
    metrics = RankingMetrics()
    metrics.add_block(distances, [7], [7, 8, 7], ["a"], ["a", "a", "b"])
    assert metrics.result().mAP == 0.5  # only the third is a positive, and the second is ahead of it
    without_cameras = RankingMetrics()
    without_cameras.add_block(distances, [7], [7, 8, 7])
    assert without_cameras.result().mAP == pytest.approx((1 + 2 / 3) / 2)


@pytest.mark.parametrize("junk", [-1, "-1"])
def test_junk_is_left_out_and_person_0_stays_as_a_distractor(junk):
    kind = type(junk)
    metrics = RankingMetrics()
    gallery = [junk, kind(0), kind(5)]
    metrics.add_block(np.array([[0.1, 0.2, 0.3]], np.float32), [kind(5)], gallery)
    assert metrics.result().mAP == 0.5


@pytest.mark.parametrize(("query", "gallery"), [([-1], [-1, 3]), (["-1"], ["-1", "3"]), ([""], ["", "3"])])
def test_query_that_is_nobody_has_no_positives(query, gallery):
    metrics = RankingMetrics()
    metrics.add_block(np.array([[0.1, 0.2]], np.float32), query, gallery)
    with pytest.raises(ValueError, match="none of 1 queries"):
        metrics.result()


def test_item_without_an_id_is_a_distractor():
    metrics = RankingMetrics()
    metrics.add_block(np.array([[0.1, 0.2]], np.float32), ["5"], ["", "5"])
    assert metrics.result().mAP == 0.5


def test_queries_without_a_positive_are_counted_apart():
    metrics = RankingMetrics()
    metrics.add_block(np.array([[0.1, 0.2], [0.1, 0.2]], np.float32), [5, 6], [5, 7])
    assert (metrics.result().queries, metrics.result().skipped) == (1, 1)
    assert metrics.result().mAP == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.zeros(3), [1], [1, 2, 3]), r"must have shape \(Q, G\), got \(3,\)"),
        ((np.zeros((1, 3)), [1, 2], [1, 2, 3]), r"ids must have shapes \(1,\) and \(3,\), got \(2,\) and \(3,\)"),
        ((np.zeros((1, 3)), [1], [1, 2]), r"got \(1,\) and \(2,\)"),
        ((np.zeros((1, 3)), [1], ["1", "2", "3"]), "ids must be all integers or all text, got int64 and <U1"),
        ((np.zeros((1, 3)), [1.0], [1.0, 2.0, 3.0]), "got float64 and float64"),
        ((np.zeros((1, 3)), [1], [1, 2, 3], [1]), "for both queries and gallery, or for neither"),
        ((np.zeros((1, 3)), [1], [1, 2, 3], [1], ["a", "b", "c"]), "cameras must be all integers or all text"),
    ],
)
def test_block_that_does_not_fit_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        RankingMetrics().add_block(*arguments)


@pytest.mark.parametrize("ranks", [[0, 1], [2, 2], [3, 1]])
def test_ranks_that_cannot_be_are_refused(ranks):
    with pytest.raises(ValueError, match="ascend without ties"):
        RankingMetrics().add(np.array(ranks))


def test_rows_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"got \(3,\) and \(2,\)"):
        positive_ranks(np.zeros(3), np.zeros(2, bool))
    with pytest.raises(ValueError, match=r"keep must have shape \(3,\), got \(1,\)"):
        positive_ranks(np.zeros(3), np.zeros(3, bool), np.zeros(1, bool))


def test_empty_gallery_skips_every_query():
    metrics = RankingMetrics()
    metrics.add_block(np.zeros((2, 0), np.float32), [1, 2], [])
    with pytest.raises(ValueError, match="none of 2 queries"):
        metrics.result()
