"""The peers of the evaluation benchmark must be right, or its ratios mean nothing."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.crowd import make_crowd
from benchmarks.evaluation import (
    field_distances,
    field_evaluation,
    field_path,
    labelled_crowd,
    occluded_duke_size,
    rank_only,
    ranked,
    ranks_unlike_the_oracles,
)
from glimpse.parts import PartFeatures


def test_peer_and_ours_agree():
    problem = occluded_duke_size(queries=5)
    ours, theirs = rank_only(problem), field_evaluation(problem)
    assert ours.queries == theirs.queries == 5
    assert 0.1 < ours.mAP < 0.9
    assert ours.mAP == pytest.approx(theirs.mAP, abs=1e-6)
    assert ours.cmc == pytest.approx(theirs.cmc, abs=1e-6)


def test_the_fields_distance_by_hand():
    crowd = make_crowd(2, 700, parts=3, dim=8)
    found = field_distances(crowd.query, crowd.gallery)
    for q, g in ((0, 0), (1, 699)):
        weights, apart = [], []
        for p, columns in enumerate(crowd.gallery.schema.slices):
            vq, vg = crowd.query.visibility[q, p], crowd.gallery.visibility[g, p]
            weights.append(np.sqrt(vq * vg))
            apart.append(np.linalg.norm(crowd.query.vectors[q, columns] - crowd.gallery.vectors[g, columns]))
        assert found[q, g] == pytest.approx(np.average(apart, weights=weights), abs=1e-4)


def test_both_paths_find_the_people_of_the_crowd_and_ours_has_the_oracles_ranks():
    size = (30, 1_500, 4, 256)
    query, gallery = labelled_crowd(*size)
    ours, theirs = ranked(query, gallery), field_path(make_crowd(*size))
    assert ours.queries == theirs.queries
    assert 0.2 < ours.rank1 < 1
    assert theirs.rank1 == pytest.approx(ours.rank1, abs=0.2)
    assert ranks_unlike_the_oracles(query, gallery) == 0


def test_the_crowds_features_are_ones_that_a_model_could_give():
    crowd = make_crowd(20, 50, parts=4, dim=16)
    for side in (crowd.query, crowd.gallery):
        PartFeatures(side.vectors, side.visibility, side.schema)  # checks itself
        assert (side.visibility == 0).any()
