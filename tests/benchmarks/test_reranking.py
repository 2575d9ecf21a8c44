"""The dense peer of the re-ranking benchmark is the published procedure, and the check of rankings can fail."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.crowd import make_crowd
from benchmarks.reranking import dense_reranking, largest_fall, sparse_to_file
from glimpse.reranking import Reranking
from tests.glimpse.test_reranking import textbook


def test_the_peer_is_the_textbook_and_ours_is_the_peer(tmp_path: Path) -> None:
    crowd = make_crowd(12, 60, parts=3, dim=8)
    settings = Reranking()
    dense = dense_reranking(crowd.query, crowd.gallery, settings)
    np.testing.assert_allclose(dense, textbook(crowd.query, crowd.gallery, settings), atol=1e-5)
    path = tmp_path / "sparse.npy"
    sparse_to_file(crowd, str(path))
    assert largest_fall(np.load(path), dense) < 1e-5


def test_another_ranking_is_found_out() -> None:
    reference = np.array([[0.1, 0.2, 0.3], [0.3, 0.2, 0.1]], np.float32)
    assert largest_fall(reference + 5, reference) == 0
    swapped = np.array([[0.2, 0.1, 0.3], [0.3, 0.2, 0.1]], np.float32)
    assert largest_fall(swapped, reference) == pytest.approx(0.1)
