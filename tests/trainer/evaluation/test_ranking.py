"""Labelled features to figures: weighting on and off, groups of queries, several images a query."""

from __future__ import annotations

import numpy as np
import pytest

from glimpse.distance import pairwise
from glimpse.metrics import RankingMetrics
from glimpse.parts import Part, PartFeatures, PartSchema
from glimpse.reranking import Reranking
from tests.trainer.evaluation.labelled import labelled, two_parts
from tests.trainer.features import random_features
from trainer.data.listing import Shots
from trainer.evaluation import Extraction, LabelledFeatures, evaluate, rank
from trainer.evaluation.ranking import by_hidden_share, by_visible_parts, query_ranks
from trainer.tuning import tune, under


def test_weighting_by_visibility_decides_when_the_hidden_part_is_wrong() -> None:
    # Part b of the query is hidden and looks like person 2.
    query = labelled(two_parts([(0, 1, 1.0, 0.0)]), [1], [0])
    gallery = labelled(two_parts([(0, 0, 1, 1), (3, 1, 1, 1), (0, 2, 1, 1)]), [1, 2, 1], [1, 1, 2])
    assert rank(query, gallery).mAP == 1
    assert rank(query, gallery, weighted=False).mAP < 1


def test_same_person_and_same_camera_is_left_out() -> None:
    query = labelled(two_parts([(0, 0, 1, 1)]), [1], [0])
    gallery = labelled(two_parts([(0, 0, 1, 1), (1, 1, 1, 1), (0, 1, 1, 1)]), [1, 2, 1], [0, 1, 1])
    metrics = rank(query, gallery)
    assert metrics.rank1 == 1  # the third item; the first does not count
    assert metrics.mAP == 1


def test_figures_are_those_of_the_oracles_distances() -> None:
    people = np.random.default_rng(0).integers(0, 6, 60)
    query = labelled(random_features(20, seed=3), people[:20].tolist(), [0] * 20)
    gallery = labelled(random_features(40, seed=4).stored(), people[20:].tolist(), [1] * 40)
    oracle = RankingMetrics()
    oracle.add_block(pairwise(query.features, gallery.features).distance, people[:20], people[20:])
    assert rank(query, gallery) == oracle.result()


def test_the_rows_of_a_report_say_how_they_were_made() -> None:
    query = labelled(two_parts([(0, 0, 1, 1), (1, 1, 0.4, 1), (2, 2, 1, 0.6)]), [1, 2, 3], [0] * 3)
    gallery = labelled(two_parts([(i, i, 1, 1) for i in range(4)] * 2), [1, 2, 3, 9] * 2, [1] * 8)
    plain = evaluate(Extraction("fabricated", ("a fact",), query, gallery))
    assert list(plain.rows) == ["weighted", "unweighted"]  # all queries show the one part that counts
    report = evaluate(Extraction("fabricated", ("a fact",), query, gallery), Reranking(k1=2, k2=1))
    assert list(report.rows)[:4] == ["weighted", "unweighted", "weighted, re-ranked", "unweighted, re-ranked"]
    assert report.facts[0] == "a fact"
    assert "k1=2, k2=1, lambda=0.3" in report.facts[1]
    assert report.rows["weighted"] == plain.rows["weighted"]


def three_parts(visible: list[tuple[float, float, float]]) -> LabelledFeatures:
    """The whole person and two parts, a query a row, of person 1, 2, ...; all vectors alike."""
    schema = PartSchema((Part("global", 2), Part("upper", 2), Part("legs", 2)))
    vectors = np.tile(np.array([1, 0] * 3, np.float32), (len(visible), 1))
    features = PartFeatures(vectors, np.array(visible, np.float32), schema)
    return labelled(features, list(range(1, len(visible) + 1)), [0] * len(visible))


def test_queries_are_grouped_by_how_many_parts_they_show_by_hand() -> None:
    # The whole person does not count; a part counts from 0.5 on.
    query = three_parts([(0.2, 0.1, 0.2), (0.9, 0.5, 0.4), (0.9, 0.6, 0.9), (0.1, 0.49, 0.7)])
    ranks = [np.array(places) for places in ([2], [1], [1, 3], [4])]
    found = by_visible_parts(query, ranks)
    assert list(found) == ["0 of 2 parts visible", "1 of 2 parts visible", "2 of 2 parts visible"]
    assert [metrics.queries for metrics in found.values()] == [1, 2, 1]
    assert found["0 of 2 parts visible"].mAP == 0.5
    assert found["1 of 2 parts visible"].mAP == (1 + 1 / 4) / 2
    assert found["2 of 2 parts visible"].mAP == (1 + 2 / 3) / 2


def test_a_group_whose_queries_have_no_positive_is_left_out() -> None:
    query = three_parts([(1, 0, 0), (1, 1, 1)])
    assert list(by_visible_parts(query, [np.array([], np.int64), np.array([1])])) == ["2 of 2 parts visible"]


def test_no_groups_where_nothing_tells_the_queries_apart() -> None:
    query = three_parts([(1, 1, 1), (1, 1, 0.8)])
    assert by_visible_parts(query, [np.array([1])] * 2) == {}
    assert by_hidden_share(query, [np.array([1])] * 2) == {}
    single = labelled(random_features(2, 0, PartSchema((Part("global", 4),))), [1, 2], [0, 0])
    assert by_visible_parts(single, [np.array([1])] * 2) == {}


def test_queries_are_grouped_by_the_hidden_share_that_the_data_state() -> None:
    query = three_parts([(1, 1, 1)] * 3)
    query = LabelledFeatures(
        query.features, query.ids, query.people, query.cameras, np.array([0, 0.4, 0.65], np.float32)
    )
    found = by_hidden_share(query, [np.array([1]), np.array([2]), np.array([4])])
    assert {name: metrics.mAP for name, metrics in found.items()} == {
        "hidden 0%-1%": 1.0, "hidden 30%-50%": 0.5, "hidden 60%-70%": 0.25
    }  # fmt: skip


@pytest.mark.parametrize(("pool", "expected"), [("min", [1, 4]), ("mean", [3, 4])])
def test_distances_of_a_querys_images_are_pooled_before_ranking(pool: str, expected: list[int]) -> None:
    # One image of person 1 equals item 0, the other is unlike every item; item 1 is half like both.
    query = labelled(two_parts([(0, 0, 1, 1), (3, 3, 1, 1)]), [1, 1], [0, 0])
    gallery = labelled(two_parts([(0, 0, 1, 1), (0, 3, 1, 1), (1, 1, 1, 1), (3, 0, 1, 1)]), [1, 2, 1, 2], [1] * 4)
    shots = Shots(np.array([0, 0]), pool)  # type: ignore[arg-type]
    distances = pairwise(query.features, gallery.features).distance
    assert distances.tolist() == [[0, 0.5, 1, 0.5], [1, 0.5, 1, 0.5]]
    # min: 0, .5, 1, .5 puts person 1 first and last; mean: .5, .5, 1, .5 ties, and ties count against the model.
    (found,) = query_ranks(query, gallery, shots=shots)
    assert found.tolist() == expected


def test_an_empty_gallery_and_a_query_set_without_positives_are_told_in_a_sentence() -> None:
    query = labelled(two_parts([(0, 0, 1, 1)]), [1], [0])
    gallery = labelled(two_parts([(0, 0, 1, 1)]), [2], [0])
    nobody = np.array([], np.int64)
    with pytest.raises(ValueError, match="there are no items in the gallery to rank"):
        rank(query, gallery.take(nobody))
    with pytest.raises(ValueError, match="there are no queries to rank"):
        rank(query.take(nobody), gallery)
    with pytest.raises(ValueError, match="none of 1 queries has another image of its person"):
        rank(query, gallery)


def test_an_item_that_shows_nothing_ranks_last_weighted_and_counts_as_unlike_everything_unweighted() -> None:
    query = labelled(two_parts([(0, 0, 1, 1)]), [1], [0])
    gallery = two_parts([(0, 0, 0, 0), (1, 1, 1, 1), (2, 2, 1, 1)])
    vectors = gallery.vectors.copy()
    vectors[0] = 0
    shown = labelled(PartFeatures(vectors, gallery.visibility, gallery.schema), [1, 2, 3], [1] * 3)
    assert rank(query, shown).mAP == 1 / 3
    assert rank(query, shown, weighted=False).mAP == 1 / 3  # cosine 0 to all three: a tie


def test_tuning_gives_less_weight_to_a_part_that_misleads() -> None:
    # Part a tells the four people apart; part b points at somebody else, and is visible.
    query = labelled(two_parts([(i, (i + 1) % 4, 1.0, 1.0) for i in range(4)]), [1, 2, 3, 4], [0] * 4)
    gallery = labelled(two_parts([(i, i, 1.0, 1.0) for i in range(4)]), [1, 2, 3, 4], [1] * 4)
    before = rank(query, gallery).mAP
    schema = tune(query, gallery)
    weight = dict(zip(schema.names, schema.weights.tolist(), strict=True))
    assert weight["a"] > weight["b"]
    assert rank(under(schema, query), under(schema, gallery)).mAP > before
