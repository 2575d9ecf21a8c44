"""The peer of the metrics benchmark must be right, or its ratio means nothing."""

from __future__ import annotations

import pytest

from benchmarks.evaluation import field_evaluation, occluded_duke_size, rank_only


def test_peer_and_ours_agree():
    problem = occluded_duke_size(queries=5)
    ours, theirs = rank_only(problem), field_evaluation(problem)
    assert ours.queries == theirs.queries == 5
    assert 0.1 < ours.mAP < 0.9
    assert ours.mAP == pytest.approx(theirs.mAP, abs=1e-6)
    assert ours.cmc == pytest.approx(theirs.cmc, abs=1e-6)
