"""Open-set figures: means over trials by hand, the held-out threshold, evidence, and what cannot be told."""

from __future__ import annotations

import json

import numpy as np
import pytest

from glimpse.open_set import Searches
from tests.trainer.evaluation.labelled import labelled
from tests.trainer.features import random_features
from trainer.data.listing import Shots
from trainer.evaluation import Extraction
from trainer.evaluation.open_set import EVIDENCE_EDGES, measure_open_set, open_set_of

PEOPLE = 40


def two_searches_a_person(joint: float = 0.3) -> Searches:
    """An easy search: its person at 0.1 with evidence 0.9, others at 0.3. A hard one: its person at 0.9, others at 0.6.
    Evidence with others is ``joint``. Whoever is enrolled, the figures are the same."""
    mate = np.repeat(np.arange(PEOPLE), 2)
    distance = np.where(np.arange(2 * PEOPLE)[:, None] % 2 == 0, 0.3, 0.6) * np.ones((1, PEOPLE))
    evidence = np.full(distance.shape, joint)
    rows = np.arange(2 * PEOPLE)
    distance[rows, mate] = np.where(rows % 2 == 0, 0.1, 0.9)
    evidence[rows, mate] = 0.9
    return Searches(distance.astype(np.float32), evidence.astype(np.float32), mate, rows)


def test_rates_over_trials_by_hand() -> None:
    found = open_set_of(two_searches_a_person(), sizes=(10,), fpirs=(0.1, 0.5), trials=4)
    strict, loose = found.rows
    assert (strict.people, strict.mated, strict.strangers) == (10, 20, 60)
    # 10 %: the strangers of easy searches tie at 0.3, so none may pass; the threshold lies below 0.3 and above 0.1.
    assert (strict.fnir, strict.fnir_rank1, strict.fnir_spread) == (0.5, 0.5, 0.0)
    assert (strict.held_out_fpir, strict.held_out_fnir) == (0.0, 0.5)
    # 50 %: all easy strangers pass, so half of the other half's do too.
    assert (loose.fpir, loose.fnir, loose.held_out_fpir, loose.held_out_fnir) == (0.5, 0.5, 0.5, 0.5)


def test_a_threshold_is_counted_on_people_who_did_not_choose_it() -> None:
    # Distances of one half are about twice those of the other, so neither's threshold suits the other.
    first = np.random.default_rng([0, 0]).permutation(PEOPLE)[: PEOPLE // 2]
    mate = np.arange(PEOPLE)
    far = np.isin(mate, first)
    distance = np.where(far, 0.6, 0.3)[:, None] * np.ones((1, PEOPLE))
    distance[mate, mate] = np.where(far, 0.5, 0.2)
    searches = Searches(distance.astype(np.float32), np.ones((PEOPLE, PEOPLE), np.float32), mate, mate)
    (row,) = open_set_of(searches, sizes=(5,), fpirs=(0.1,), trials=1, seed=0).rows
    # The far half's threshold, just below 0.6, lets in all strangers of the near half and misses nobody there; the
    # near half's, just below 0.3, lets in no stranger of the far half and misses everybody.
    assert (row.held_out_fpir, row.held_out_fnir) == (0.5, 0.5)


def test_rates_by_evidence_by_hand() -> None:
    found = open_set_of(two_searches_a_person(), sizes=(10,), fpirs=(0.5,), trials=3)
    weak, strong = found.evidence
    # Hard searches find somebody else first, with evidence 0.3: all of them miss. Strangers have only that evidence.
    assert (weak.low, weak.high, weak.mated, weak.strangers) == (0.25, 0.5, 30, 180)
    assert (weak.found_fnir, weak.found_fpir) == (1.0, 0.5)
    assert (strong.low, strong.high, strong.mated, strong.strangers) == (0.75, 1.0, 30, 0)
    assert (strong.found_fnir, strong.found_fpir) == (0.0, None)


def test_evidence_is_not_split_where_there_is_only_one_range_of_it() -> None:
    assert open_set_of(two_searches_a_person(0.95), sizes=(10,), trials=2).evidence == ()
    assert EVIDENCE_EDGES[0] == 0
    assert EVIDENCE_EDGES[-1] == 1


def test_a_rate_that_too_few_strangers_can_tell_is_left_open_and_not_made_up() -> None:
    (row,) = open_set_of(two_searches_a_person(), sizes=(10,), fpirs=(0.02,), trials=2).rows
    # 60 strangers tell 2 %, the 20 of a half do not.
    assert row.fnir == 0.5
    assert row.held_out_fpir is None
    assert row.held_out_fnir is None
    (row,) = open_set_of(two_searches_a_person(), sizes=(10,), fpirs=(0.01,), trials=2).rows
    assert row.fnir is None
    assert row.fnir_spread is None


def test_the_seed_decides_who_is_enrolled() -> None:
    random = np.random.default_rng(5)
    distance = random.random((200, PEOPLE), np.float32)
    mate = random.integers(0, PEOPLE, 200)
    distance[np.arange(200), mate] *= 0.3
    searches = Searches(distance, np.ones_like(distance), mate, np.arange(200))
    one, again, other = (open_set_of(searches, sizes=(10,), fpirs=(0.1,), trials=3, seed=s) for s in (1, 1, 2))
    assert one == again
    assert one.rows[0].fnir != other.rows[0].fnir
    assert 0 < one.rows[0].fnir_spread < 0.3
    assert "3 trials, seed 1" in one.facts[0]


def test_a_larger_gallery_misses_more_at_the_same_rate() -> None:
    random = np.random.default_rng(6)
    distance = random.random((400, PEOPLE), np.float32)
    mate = random.integers(0, PEOPLE, 400)
    distance[np.arange(400), mate] *= 0.4
    searches = Searches(distance, np.ones_like(distance), mate, np.arange(400))
    small, large = open_set_of(searches, sizes=(2, 16), fpirs=(0.1,), trials=5).rows
    assert small.fnir < large.fnir
    assert small.fnir <= small.fnir_rank1


def test_figures_of_features_are_json_and_differ_with_weighting() -> None:
    people = np.repeat(np.arange(12), 6)
    features = random_features(72, seed=1)
    query = labelled(features[::2], people[::2].tolist(), [0] * 36)
    gallery = labelled(features[1::2].stored(), people[1::2].tolist(), [1] * 36)
    extraction = Extraction("fabricated", (), query, gallery)
    weighted = measure_open_set(extraction, fpirs=(0.1, 0.5), trials=3)
    plain = measure_open_set(extraction, weighted=False, fpirs=(0.1, 0.5), trials=3)
    assert weighted.rows[0].people == 4  # a third of twelve: too few for the usual sizes
    assert weighted.rows != plain.rows
    assert len(weighted.evidence) > 1
    assert plain.evidence == ()  # everything shows
    assert json.loads(json.dumps(weighted.to_dict()))["rows"][0]["fpir"] == 0.1


def test_what_cannot_be_measured_is_refused_with_the_reason() -> None:
    searches = two_searches_a_person()
    with pytest.raises(ValueError, match="a gallery of 20 people: with 40 there may be 1 to 19"):
        open_set_of(searches, sizes=(20,))
    with pytest.raises(ValueError, match="trials must be at least 1, got 0"):
        open_set_of(searches, trials=0)
    few = searches.of_people(np.arange(3)).enrolling(np.arange(3))
    with pytest.raises(ValueError, match="need at least 4 people with a match, got 3"):
        open_set_of(few)
    query = labelled(random_features(2, seed=1), [1, 1], [0, 0])
    several = Extraction("fabricated", (), query, query, {}, Shots(np.array([0, 0]), "min"))
    with pytest.raises(ValueError, match="queries of one image; these have several"):
        measure_open_set(several)
