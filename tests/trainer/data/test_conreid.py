"""Con-ReID: copies and black images are found by content, frames cut away."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np

from tests.trainer.data.trees import PEOPLE, conreid, write
from trainer.data import find_listing, find_training
from trainer.data.conreid import without_frame
from trainer.data.contents import copies, digest, is_black


def test_copies_and_black_images_are_dropped_and_counted(tmp_path: Path) -> None:
    root = conreid(tmp_path)
    shutil.copy(root / "bounding_box_train/0010_c1s1_000002.jpg", root / "bounding_box_train/0010_c3s1_000009.jpg")
    shutil.copy(root / "bounding_box_test/0001_c1s1_000003.jpg", root / "query/0001_c1s1_000009.jpg")
    (root / "gallery").mkdir()
    shutil.copy(root / "query/0002_c1s1_000002_1.jpg", root / "gallery/0002_c1s1_000002.jpg")
    write(root / "bounding_box_train/0011_c4s1_000001.jpg", 0)
    write(root / "bounding_box_train/0012_c4s1_000001.jpg", 0)  # black, and a copy of the other black one
    write(root / "query/0003_c4s1_000001.jpg", 3)
    listing, training = find_listing(f"conreid:{root}"), find_training(f"conreid:{root}")
    assert any(
        "of 24 files 4 exact copies (1 of them in the folder gallery) and 3 black images (1 of them copies too)" in fact
        for fact in listing.facts
    )
    assert len(training.images) == 6
    assert "bounding_box_train/0010_c1s1_000002.jpg" in training.images.ids  # the first by name is kept
    assert listing.query.ids == tuple(f"query/{p:04d}_c1s1_000002_1.jpg" for p in PEOPLE)
    assert len(listing.gallery) == len(PEOPLE)  # a copy in both is kept in the gallery


def test_the_camera_numbers_count_in_training_only(tmp_path: Path) -> None:
    root = conreid(tmp_path)
    listing, training = find_listing(f"conreid:{root}"), find_training(f"conreid:{root}")
    assert set(listing.query.cameras) == {0}
    assert set(listing.gallery.cameras) == {1}
    assert set(training.images.cameras) == {1, 2}
    assert any("not real" in fact for fact in listing.facts)
    assert any("not real" in fact for fact in training.facts)


def test_the_frame_around_a_crop_is_cut_away() -> None:
    image = np.full((128, 64, 3), 5, np.uint8)
    image[20:110, 16:50] = 120
    np.testing.assert_array_equal(without_frame(image), image[20:110, 16:50])
    almost_black = np.zeros((128, 64, 3), np.uint8)
    almost_black[60:64, 30:34] = 200
    assert without_frame(almost_black) is almost_black


def test_black_is_below_a_mean_of_five(tmp_path: Path) -> None:
    for value, black in ((0, True), (4, True), (6, False)):
        assert is_black(write(tmp_path / f"{value}.png", value).read_bytes()) == black
    assert not is_black(b"no image")
    assert not is_black(b"")
    half = np.zeros((32, 16, 3), np.uint8)
    half[:16] = 200
    assert not is_black(cv2.imencode(".png", half)[1].tobytes())


def test_copies_are_groups_of_the_same_bytes() -> None:
    assert copies([digest(data) for data in (b"a", b"b", b"a", b"c", b"b", b"a")]) == [[0, 2, 5], [1, 4]]
