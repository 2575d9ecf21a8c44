"""Evaluation: the fast scan against the oracle, weighting on and off, and the features file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from glimpse.distance import pairwise
from glimpse.parts import Part, PartFeatures, PartSchema
from glimpse.preprocessing import Preprocessing
from tests.trainer.features import SCHEMA, random_features
from trainer.data.listing import ImageSet, Listing
from trainer.evaluation import (
    DistanceScan,
    Extraction,
    LabelledFeatures,
    evaluate,
    extract_listing,
    load_features,
    rank,
    save_features,
)
from trainer.tuning import tune, under


def labelled(features: PartFeatures, people: list[int], cameras: list[int]) -> LabelledFeatures:
    ids = tuple(f"i{row}" for row in range(len(people)))
    return LabelledFeatures(features, ids, np.array(people), np.array(cameras))


def two_parts(rows: list[tuple[int, int, float, float]]) -> PartFeatures:
    """Features of two 4-d one-hot parts: (direction of part a, of part b, visibility a, visibility b)."""
    eye = np.eye(4, dtype=np.float32)
    vectors = np.stack([np.concatenate([eye[a], eye[b]]) for a, b, _, _ in rows])
    visibility = np.array([(va, vb) for _, _, va, vb in rows], np.float32)
    return PartFeatures(vectors, visibility, PartSchema((Part("a", 4), Part("b", 4))))


def test_the_scan_equals_the_oracle_and_agrees_on_what_is_incomparable() -> None:
    query, gallery = random_features(11, seed=3), random_features(40, seed=4).stored()
    oracle = pairwise(query, gallery).distance
    scanned = DistanceScan(gallery)(query)
    assert np.isnan(oracle).any()
    np.testing.assert_array_equal(np.isnan(scanned), np.isnan(oracle))
    np.testing.assert_allclose(scanned, oracle, atol=2e-7)


def test_the_scan_obeys_part_weights_of_the_caller() -> None:
    query, gallery = random_features(5, seed=5), random_features(6, seed=6)
    oracle = pairwise(query, gallery, part_weights={"head": 1.0}).distance
    np.testing.assert_allclose(DistanceScan(gallery, {"head": 1.0})(query), oracle, atol=2e-7)


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


def test_features_file_gives_the_same_report(tmp_path: Path) -> None:
    query = labelled(random_features(6, seed=7).stored(), [1, 2, 3, 1, 2, 3], [0] * 6)
    gallery = labelled(random_features(9, seed=8).stored(), [1, 2, 3] * 3, [1] * 9)
    extraction = Extraction("fabricated", ("a fact",), query, gallery)
    save_features(tmp_path / "features.npz", extraction)
    loaded = load_features(tmp_path / "features.npz")
    assert loaded.gallery.features.schema == SCHEMA
    assert evaluate(loaded).to_dict() == evaluate(extraction).to_dict()


def test_a_file_that_holds_no_features_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "other.npz"
    np.savez(path, something=np.zeros(3))
    with pytest.raises(ValueError, match=r"other\.npz is not a features file"):
        load_features(path)


def test_extraction_rounds_the_gallery_as_a_server_stores_it_and_not_the_queries() -> None:
    source = random_features(10, seed=9)

    def draw(row: int) -> np.ndarray:
        return np.full((16, 16, 3), row, np.uint8)

    def run(images: np.ndarray) -> PartFeatures:
        return source[images[:, 0, 0, 0].astype(np.int64)]

    images = ImageSet(tuple("abcdefghij"), np.arange(10), np.arange(10), draw)
    seen: list[tuple[int, int]] = []
    extraction = extract_listing(
        Listing("fabricated", images, images, ()),
        Preprocessing(height=16, width=16),
        run,
        lambda done, everything: seen.append((done, everything)),
    )
    np.testing.assert_array_equal(extraction.gallery.features.vectors, source.stored().vectors)
    np.testing.assert_array_equal(extraction.query.features.vectors, source.vectors)
    assert seen[-1] == (20, 20)


def test_tuning_gives_less_weight_to_a_part_that_misleads() -> None:
    # Part a tells the four people apart; part b points at somebody else, and is visible.
    query = labelled(two_parts([(i, (i + 1) % 4, 1.0, 1.0) for i in range(4)]), [1, 2, 3, 4], [0] * 4)
    gallery = labelled(two_parts([(i, i, 1.0, 1.0) for i in range(4)]), [1, 2, 3, 4], [1] * 4)
    before = rank(query, gallery).mAP
    schema = tune(query, gallery)
    weight = dict(zip(schema.names, schema.weights.tolist(), strict=True))
    assert weight["a"] > weight["b"]
    assert rank(under(schema, query), under(schema, gallery)).mAP > before
