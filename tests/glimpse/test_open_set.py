"""Open-set rates by hand: thresholds, false positives, misses, who is enrolled and who takes part."""

from __future__ import annotations

import math

import numpy as np
import pytest

from glimpse.distance import pairwise
from glimpse.open_set import STRANGER, Searches, false_positives, misses, search_people, threshold_at
from glimpse.parts import Part, PartFeatures, PartSchema
from tests.glimpse.features import LOOSE, PEOPLE, random_features

INF = math.inf
# Five searches against people 0, 1, 2. The first three are mated; the last person of search 2 cannot be compared.
TABLE = Searches(
    distance=np.array(
        [[0.1, 0.5, 0.9], [0.3, 0.4, 0.8], [0.2, 0.7, INF], [0.35, 0.6, 0.9], [0.8, 0.15, 0.5]], np.float32
    ),
    joint=np.array([[0.9, 0.1, 0.1], [0.2, 0.8, 0.3], [0.4, 0.1, 0], [0.3, 0.2, 0.1], [0.1, 0.6, 0.5]], np.float32),
    mate=np.array([0, 1, 2, STRANGER, STRANGER]),
    rows=np.arange(5),
)


@pytest.mark.parametrize(
    ("threshold", "rank", "expected"),
    [
        (0.4, None, [False, False, True]),  # the person of search 2 has no distance
        (0.39, None, [False, True, True]),
        (0.4, 1, [False, True, True]),  # in search 1 person 0 is closer
        (0.4, 2, [False, False, True]),
        (2.0, None, [False, False, True]),
        (0.05, None, [True, True, True]),
    ],
)
def test_misses_by_hand(threshold: float, rank: int | None, expected: list[bool]) -> None:
    assert misses(TABLE, float(np.float32(threshold)), rank).tolist() == expected


def test_somebody_at_the_mates_distance_stands_before_it() -> None:
    tie = Searches(np.array([[0.2, 0.2]], np.float32), np.ones((1, 2), np.float32), np.array([0]), np.array([0]))
    assert misses(tie, 1.0, rank=1).tolist() == [True]
    assert misses(tie, 1.0, rank=2).tolist() == [False]


@pytest.mark.parametrize(
    ("threshold", "expected"), [(0.1, [False, False]), (0.15, [False, True]), (0.35, [True, True])]
)
def test_false_positives_by_hand(threshold: float, expected: list[bool]) -> None:
    assert false_positives(TABLE, float(np.float32(threshold))).tolist() == expected


@pytest.mark.parametrize(
    ("strangers", "fpir", "accepted"),
    [
        ([0.5, 0.1, 0.3, 0.2], 0.25, [0.1]),
        ([0.5, 0.1, 0.3, 0.2], 0.5, [0.1, 0.2]),
        ([0.5, 0.1, 0.3, 0.2], 0.49, [0.1]),
        ([0.5, 0.1, 0.3, 0.2], 1.0, [0.1, 0.2, 0.3, 0.5]),
        ([0.2, 0.2, 0.3, 0.4], 0.25, []),  # two tie: both or neither
        ([0.2, 0.2, 0.3, 0.4], 0.5, [0.2, 0.2]),
        ([INF, INF, INF, 0.4], 0.5, [0.4]),  # who cannot be compared is never accepted
        ([INF] * 4, 1.0, []),
    ],
)
def test_the_threshold_accepts_as_many_strangers_as_it_may_by_hand(
    strangers: list[float], fpir: float, accepted: list[float]
) -> None:
    values = np.array(strangers, np.float32)
    threshold = threshold_at(values, fpir)
    assert sorted(values[values <= threshold].tolist()) == np.array(accepted, np.float32).tolist()
    assert threshold <= 2.0


def test_the_threshold_is_the_largest_that_keeps_the_rate() -> None:
    values = np.array([0.1, 0.2, 0.4, 0.8], np.float32)
    threshold = threshold_at(values, 0.5)
    assert threshold < values[2]
    assert np.nextafter(np.float32(threshold), np.float32(2)) == values[2]


@pytest.mark.parametrize(
    ("count", "fpir", "message"),
    [
        (99, 0.01, "an FPIR of 0.01 needs at least 100 non-mated searches, got 99"),
        (0, 1.0, "needs at least 1 non-mated searches, got 0"),
        (10, 0.0, r"fpir must be within \(0, 1\], got 0.0"),
        (10, 1.1, r"fpir must be within \(0, 1\], got 1.1"),
        (10, math.nan, r"fpir must be within \(0, 1\], got nan"),
    ],
)
def test_a_rate_that_so_few_searches_cannot_tell_is_refused(count: int, fpir: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        threshold_at(np.zeros(count, np.float32), fpir)
    if count == 99:
        assert threshold_at(np.zeros(100, np.float32), fpir) < 0


def test_enrolling_some_people_makes_strangers_of_the_others() -> None:
    some = TABLE.enrolling(np.array([2, 0]))
    assert some.mate.tolist() == [1, STRANGER, 0, STRANGER, STRANGER]
    np.testing.assert_array_equal(some.distance, TABLE.distance[:, [2, 0]])
    assert false_positives(some, 0.3).tolist() == [True, False, False]
    assert misses(some, 0.3).tolist() == [False, True]


def test_searches_of_some_people_leave_out_the_others_searches() -> None:
    some = TABLE.of_people(np.array([0, 2]))
    assert some.mate.tolist() == [0, 2]
    assert some.rows.tolist() == [0, 2]


def test_the_nearest_person_and_the_evidence_for_it() -> None:
    distance, joint = TABLE.nearest()
    assert distance.tolist() == np.array([0.1, 0.3, 0.2, 0.35, 0.15], np.float32).tolist()
    assert joint.tolist() == np.array([0.9, 0.2, 0.4, 0.3, 0.6], np.float32).tolist()
    nobody = TABLE.enrolling(np.array([2])).where(np.array([False, False, True, False, False]))
    assert nobody.nearest()[0].tolist() == [INF]
    assert nobody.nearest()[1].tolist() == [0]
    assert TABLE.enrolling(np.array([], np.int64)).nearest()[0].tolist() == [INF] * 5


PLANE = PartSchema((Part("global", 2, always_visible=True),))


def angles(*degrees: float) -> PartFeatures:
    turned = np.radians(degrees)
    vectors = np.stack([np.cos(turned), np.sin(turned)], axis=1).astype(np.float32)
    return PartFeatures(vectors, np.ones((len(degrees), 1), np.float32), PLANE)


def test_a_person_is_as_close_as_its_closest_item_by_another_camera() -> None:
    query = angles(0, 90, 5)
    gallery = angles(0, 60, 30, 90, 10, 200)
    found = search_people(
        query, gallery, [1, 2, 7], [1, 1, 1, 2, 2, 7], query_cameras=[0, 0, 0], gallery_cameras=[0, 1, 2, 1, 0, 0]
    )
    # Query 2 shows person 7, whom the gallery holds by the same camera only: it takes no part, nor is 7 enrolled.
    assert found.rows.tolist() == [0, 1]
    assert found.mate.tolist() == [0, 1]
    cosines = {turn: 1 - math.cos(math.radians(turn)) for turn in (0, 10, 30)}
    # Query 0 (person 1, camera 0): its own item at 0 degrees is by its camera; person 2 is nearest at 10 degrees.
    # Query 1 (person 2): person 1 is nearest at 60 degrees, its own at 90 (the one at 10 is by its camera).
    np.testing.assert_allclose(found.distance, [[cosines[30], cosines[10]], [cosines[30], cosines[0]]], atol=1e-6)
    np.testing.assert_array_equal(found.joint, 1)


@pytest.mark.parametrize("schema", [PEOPLE, LOOSE])
def test_distances_and_evidence_are_the_oracles(schema: PartSchema) -> None:
    query, gallery = random_features(14, schema, seed=1), random_features(70, schema, seed=2)
    random = np.random.default_rng(3)
    people, others = random.integers(0, 5, 14), random.integers(0, 6, 70)
    cameras, seen_by = random.integers(0, 2, 14), random.integers(0, 2, 70)
    found = search_people(query, gallery, people, others, cameras, seen_by)
    oracle = pairwise(query, gallery)
    names = np.unique(people)
    for place, row in enumerate(found.rows):
        for column, person in enumerate(names):
            items = np.flatnonzero((others == person) & ~((others == people[row]) & (seen_by == cameras[row])))
            distances = oracle.distance[row, items]
            if np.isnan(distances).all():
                assert found.distance[place, column] == INF
                continue
            best = items[np.nanargmin(distances)]
            assert found.distance[place, column] == pytest.approx(oracle.distance[row, best], abs=1e-6)
            assert found.joint[place, column] == pytest.approx(oracle.joint_visibility[row, best], abs=1e-6)


def test_queries_that_nobody_could_find_are_an_error_that_says_what_to_check() -> None:
    with pytest.raises(ValueError, match="none of 1 queries shows a person whom the gallery of 1 items holds"):
        search_people(angles(0), angles(0), [1], [1], [0], [0])
    with pytest.raises(ValueError, match=r"gallery labels must be one row of 1, got \(2,\)"):
        search_people(angles(0), angles(0), [1], [1, 2], [0], [1])
