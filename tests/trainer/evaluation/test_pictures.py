"""Rank lists: who is in them, in which order, with which evidence, and the pictures' files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from glimpse.distance import pairwise
from glimpse.preprocessing import Preprocessing
from tests.trainer.evaluation.labelled import labelled, two_parts
from tests.trainer.features import random_features
from trainer.data.listing import ImageSet, Listing, Shots
from trainer.evaluation import Extraction
from trainer.evaluation.pictures import rank_list, save_rank_lists, spread_queries


def fabricated() -> tuple[Extraction, Listing]:
    query = labelled(random_features(6, seed=1), [1, 2, 3, 1, 2, 3], [0] * 6)
    gallery = labelled(random_features(12, seed=2).stored(), [1, 2, 3, -1] * 3, [0, 1, 2] * 4)
    draw = lambda row: np.full((32, 16, 3), 20 * row, np.uint8)  # noqa: E731

    def images(side):
        return ImageSet(side.ids, side.people, side.cameras, draw)

    extraction = Extraction("fabricated", (), query, gallery, {"model": "mine 1.0"})
    return extraction, Listing("fabricated", images(query), images(gallery), ())


def test_a_rank_list_is_the_oracles_without_junk_and_the_querys_own_camera() -> None:
    extraction, _ = fabricated()
    found = rank_list(extraction, 1, top=20)
    gallery = extraction.gallery
    left = [
        i for i in range(12) if gallery.people[i] != -1 and not (gallery.people[i] == 2 and gallery.cameras[i] == 0)
    ]
    distances = pairwise(extraction.query.features[1:2], gallery.features).distance[0]
    order = sorted(left, key=lambda i: (np.isnan(distances[i]), distances[i]))
    assert [item.row for item in found] == order
    assert [item.person_id for item in found] == [str(gallery.people[i]) for i in order]
    assert [item.camera_id for item in found] == [f"c{gallery.cameras[i]}" for i in order]
    assert len(rank_list(extraction, 1, top=3)) == 3


def test_each_match_says_what_every_part_said_by_hand() -> None:
    query = labelled(two_parts([(0, 1, 1.0, 0.5)]), [1], [0])
    gallery = labelled(two_parts([(0, 2, 1.0, 1.0), (3, 3, 0.0, 0.0)]), [1, 2], [1, 1])
    first, second = rank_list(Extraction("x", (), query, gallery), 0)
    assert first.distance == pytest.approx(1 - 1 / 1.5)
    assert [(p.part, p.similarity, p.query_visibility, p.item_visibility) for p in first.parts] == [
        ("a", 1.0, 1.0, 1.0), ("b", 0.0, 0.5, 1.0), ("prior", 0.0, 0.0, 0.0)
    ]  # fmt: skip
    assert [p.weight for p in first.parts] == pytest.approx([2 / 3, 1 / 3, 0])
    assert second.distance is None  # shares nothing, and so stands last


def test_queries_spread_from_the_best_to_the_worst() -> None:
    ranks = [np.array(places, np.int64) for places in ([4], [1], [], [2], [3], [1, 2])]
    assert spread_queries(ranks, 3).tolist() == [1, 3, 0]
    assert spread_queries(ranks, 99).tolist() == [1, 5, 3, 4, 0]
    assert spread_queries([np.array([], np.int64)], 3).tolist() == []


def test_pictures_are_written_and_attention_makes_a_second(tmp_path: Path) -> None:
    extraction, listing = fabricated()
    seen = []

    def attention(images: np.ndarray) -> np.ndarray:
        seen.append(images.shape)
        maps = np.zeros((len(images), 3, 2, 1), np.float32)
        maps[:, 1] = 1
        return maps

    size = Preprocessing(height=16, width=16)
    written = save_rank_lists(tmp_path, extraction, listing, count=2, top=3, preprocessing=size, attention=attention)
    assert [path.name for path in written] == ["rankings.png", "attention.png"]
    plain, looked = (cv2.imread(str(path)) for path in written)
    assert plain.shape == looked.shape
    assert (plain != looked).any()
    assert seen == [(4, 16, 16, 3)] * 2
    assert [path.name for path in save_rank_lists(tmp_path, extraction, listing, count=1)] == ["rankings.png"]


def test_a_listing_that_the_features_are_not_of_is_refused(tmp_path: Path) -> None:
    extraction, listing = fabricated()
    other = replace(listing, query=listing.query.take(np.array([1, 0, 2, 3, 4, 5])))
    with pytest.raises(ValueError, match="the features are not those of fabricated: their image ids differ"):
        save_rank_lists(tmp_path, extraction, other)
    several = replace(extraction, shots=Shots(np.zeros(6, np.int64), "min"))
    with pytest.raises(ValueError, match="queries of one image; these have several"):
        save_rank_lists(tmp_path, several, listing)
    assert list(tmp_path.iterdir()) == []
