"""Occluded and whole images without cameras: numbers in names, half splits, multi-shot queries."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.trainer.data.trees import PEOPLE, fill, flat, ilids, nested, p_duke
from trainer.data import find_listing, find_training, find_trials
from trainer.data.halves import half
from trainer.data.listing import DatasetError, Shots
from trainer.data.shots import pool_distances, set_labels

OCCLUDED_REID = nested("Occluded_REID", ".tif")
PARTIAL_REID = flat("Partial-REID_Dataset", "partial_body_images", "occluded_body_images", "whole_body_images")


def test_the_number_of_an_image_is_no_camera(tmp_path: Path) -> None:
    """A public loader takes the 2 of 001_002 for a camera, and leaves out one positive in five for it."""
    listing = find_listing(f"partial-reid:{PARTIAL_REID(tmp_path)}")
    assert set(listing.query.cameras) == {0}
    assert set(listing.gallery.cameras) == {1}
    assert listing.query.people.tolist() == [p for p in PEOPLE for _ in (1, 2)]


def test_partial_reid_has_two_kinds_of_queries_under_two_names(tmp_path: Path) -> None:
    root = PARTIAL_REID(tmp_path)
    partial, occluded = find_listing(f"partial-reid:{root}"), find_listing(f"partial-reid-occluded:{root}")
    assert {name.partition("/")[0] for name in partial.query.ids} == {"partial_body_images"}
    assert {name.partition("/")[0] for name in occluded.query.ids} == {"occluded_body_images"}
    assert partial.gallery.ids == occluded.gallery.ids
    assert any("cropped by hand" in fact for fact in partial.facts)
    assert any("not cropped" in fact for fact in occluded.facts)


def test_partial_ilids_has_cropped_and_uncropped_queries_under_two_names(tmp_path: Path) -> None:
    root = ilids(tmp_path)
    crop, nocrop = find_listing(f"partial-ilids:{root}"), find_listing(f"partial-ilids-nocrop:{root}")
    assert crop.query.ids[0] == "Probe/1.jpg"
    assert nocrop.query.ids[0] == "partial_iLIDS_Probe_nocrop/001.jpg"
    assert crop.query.people.tolist() == nocrop.query.people.tolist() == crop.gallery.people.tolist() == list(PEOPLE)


def test_the_real_cameras_of_p_duke_are_ignored_and_its_training_people_are_others(tmp_path: Path) -> None:
    root = p_duke(tmp_path)
    listing, training = find_listing(f"p-duke:{root}"), find_training(f"p-duke:{root}")
    assert set(listing.query.cameras) == {0}
    assert set(listing.gallery.cameras) == {1}
    assert set(training.images.people) == {30, 31, 32}
    assert sorted(set(training.images.cameras)) == [0, 1]


def test_half_splits_part_the_people_and_repeat_themselves(tmp_path: Path) -> None:
    root = OCCLUDED_REID(tmp_path)
    tests = []
    for split in range(10):
        listing = find_listing(f"occluded-reid:{root}@split={split}")
        training = find_training(f"occluded-reid:{root}@split={split}")
        tested, trained = set(listing.query.people), set(training.images.people)
        assert tested == set(listing.gallery.people)
        assert tested | trained == set(PEOPLE)
        assert not tested & trained
        assert len(tested) == 3
        assert len(training.images) == 3 * 4  # both kinds
        assert any(f"half split {split} of 10, seed {split}" in fact for fact in listing.facts)
        assert any("before the split: query: 12 images of 6 people" in fact for fact in listing.facts)
        tests.append(tuple(sorted(tested)))
    assert len(set(tests)) > 5
    assert tests[4] == tuple(sorted(set(find_listing(f"occluded-reid:{root}@split=4").query.people)))


def test_the_halves_of_200_people_are_fixed() -> None:
    """These numbers must never change, or a split is not the split a figure was reported for."""
    trained, tested = half(np.arange(1, 201), 0)
    assert (len(trained), len(tested)) == (100, 100)
    assert tested[:6].tolist() == [4, 5, 8, 10, 12, 13]
    odd = half(np.arange(85), 9)
    assert (len(odd[0]), len(odd[1])) == (42, 43)


def test_a_set_without_a_training_part_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(
        DatasetError, match=r"Occluded-REID has no training part of its own.*occluded-reid:PATH@split=0"
    ):
        find_training(f"occluded-reid:{OCCLUDED_REID(tmp_path)}")


def test_all_trials_are_the_ten_splits(tmp_path: Path) -> None:
    root = OCCLUDED_REID(tmp_path)
    trials = find_trials(f"occluded-reid:{root}@split=all")
    assert len(trials) == 10
    assert trials[7].query.ids == find_listing(f"occluded-reid:{root}@split=7").query.ids
    assert len(find_trials(f"occluded-reid:{root}")) == 1
    both = find_trials(f"occluded-reid:{root}@split=all,shots=1,draw=all")
    assert both[3].query.ids == find_listing(f"occluded-reid:{root}@split=3,shots=1,draw=3").query.ids


def test_a_file_in_somebody_elses_folder_is_an_error(tmp_path: Path) -> None:
    root = OCCLUDED_REID(tmp_path)
    fill(root, ["whole_body_images/001/002_03.tif"])
    with pytest.raises(DatasetError, match=r"whole_body_images/001/002_03\.tif says person 2 in the folder of 1"):
        find_listing(f"occluded-reid:{root}")


def test_a_name_without_a_person_is_an_error(tmp_path: Path) -> None:
    root = fill(PARTIAL_REID(tmp_path), ["whole_body_images/holiday.jpg"])
    with pytest.raises(DatasetError, match=r"holiday\.jpg: expected a name that begins with a number"):
        find_listing(f"partial-reid:{root}")


def test_a_missing_kind_is_named(tmp_path: Path) -> None:
    root = flat("Partial-REID_Dataset", "partial_body_images", "whole_body_images")(tmp_path)
    assert find_listing(f"partial-reid:{root}").query.ids
    with pytest.raises(DatasetError, match="expected occluded_body_images"):
        find_listing(f"partial-reid-occluded:{root}")


def test_multi_shot_queries_are_drawn_per_person(tmp_path: Path) -> None:
    root = PARTIAL_REID(tmp_path)
    one, two, five = (find_listing(f"partial-reid:{root}@shots={n}") for n in (1, 2, 5))
    assert one.shots is not None
    assert two.shots is not None
    assert (len(one.query), len(two.query), len(five.query)) == (6, 12, 12)
    assert one.query.people.tolist() == list(PEOPLE)
    assert two.shots.sets.tolist() == [s for s in range(6) for _ in (1, 2)]
    assert any("6 queries of 5 images each, draw 0, min of the distances; 6 have fewer" in fact for fact in five.facts)
    draws = {find_listing(f"partial-reid:{root}@shots=1,draw={draw}").query.ids for draw in range(6)}
    assert len(draws) > 1
    people, cameras = set_labels(two.query, two.shots)
    assert people.tolist() == list(PEOPLE)
    assert set(cameras) == {0}


def test_fewer_multi_shot_queries_keep_their_images_together(tmp_path: Path) -> None:
    listing = find_listing(f"partial-reid:{PARTIAL_REID(tmp_path)}@shots=2").limited(3)
    assert listing.shots is not None
    assert listing.shots.sets.tolist() == [0, 0, 1, 1, 2, 2]
    assert listing.query.people.tolist() == [1, 1, 3, 3, 6, 6]


def test_distances_of_a_query_are_pooled_and_incomparable_images_left_out() -> None:
    distances = np.array([[0.2, 0.9, np.nan], [0.4, np.nan, np.nan], [0.5, 0.6, 0.7]])
    nearest = pool_distances(distances, Shots(np.array([0, 0, 1]), "min"))
    mean = pool_distances(distances, Shots(np.array([0, 0, 1]), "mean"))
    np.testing.assert_allclose(nearest, [[0.2, 0.9, np.nan], [0.5, 0.6, 0.7]])
    np.testing.assert_allclose(mean, [[0.3, 0.9, np.nan], [0.5, 0.6, 0.7]])
    with pytest.raises(ValueError, match=r"distances must be \(3, G\), got \(2, 3\)"):
        pool_distances(distances[:2], Shots(np.array([0, 0, 1]), "min"))
